"""Hostile bytes into every parser: no exception but its own, no stall."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.authentication.arc import read_chain
from probes.authentication.author import author_domains, from_domains
from probes.authentication.dkim import read_claims
from probes.authentication.dmarc_record import parse_dmarc
from probes.authentication.domains import is_host_domain, normal_domain, registrable
from probes.authentication.evaluate import evaluate
from probes.authentication.keys import parse_key
from probes.authentication.message import Message
from probes.authentication.spf import check_spf
from probes.authentication.spf_macro import MacroError, read_macro
from probes.authentication.spf_record import SpfSyntaxError, parse_record
from probes.authentication.tags import TagError, base64_value, parse_tags, without_value
from probes.dns import StaticResolver
from tests.examples import examples
from tests.fakes.signed_mail import HELO, IP, NOW, SENDER, signed_mail

#: Seconds: far above what reading 200 KB takes, far below what it would take quadratically.
pytestmark = pytest.mark.timeout(60)
WORDS = [
    b"DKIM-Signature:", b"ARC-Seal:", b"ARC-Message-Signature:", b"ARC-Authentication-Results:", b"From:",
    b"v=1", b"a=rsa-sha256", b"a=ed25519-sha256", b"c=relaxed/simple", b"d=example.com", b"s=s", b"h=from:to",
    b"bh=AAAA", b"b=AAAA", b"l=0", b"l=99999999999999999999999999", b"i=1", b"i=2", b"cv=none", b"cv=pass",
    b"t=1", b"x=9", b";", b"; ", b"\r\n", b"\r\n ", b"\n", b"\r", b"\t", b"=", b":", b"@", b"<", b">", b'"',
    b"\\", b"(", b")", b",", b"\xff", b"\x00", b"%{", b"}",
]  # fmt: skip
SOUP = st.lists(st.one_of(st.sampled_from(WORDS), st.binary(max_size=6)), max_size=60).map(b"".join)
TERMS = [
    "v=spf1", " ", "a", "mx", "ptr", "include:", "exists:", "ip4:", "ip6:", "redirect=", "exp=", "all", "-",
    "~", "?", "+", "/24", "//64", "%{", "d", "i", "r", "2", "}", "%%", ".", "example.com", "1.2.3.4", "::1",
    "\u00e9", "=", ":",
]  # fmt: skip
SPF = st.lists(st.one_of(st.sampled_from(TERMS), st.text(max_size=3)), max_size=40).map("".join)
MAIL = signed_mail(2_000)
GENTLE = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@GENTLE
@given(SOUP)
def test_messages_never_raise(raw: bytes) -> None:
    message = Message(raw)
    read_claims(message)
    read_chain(message)
    author_domains(message)
    for index in range(len(message.raws)):
        message.header(index, True)
        without_value(message.raws[index])
    message.body_hash(True, None)
    message.body_hash(False, 1)


@GENTLE
@given(SOUP)
def test_tags_and_base64_raise_only_their_own_error(raw: bytes) -> None:
    with suppress(TagError):
        assert all(name for name in parse_tags(raw))
    with suppress(TagError):
        base64_value(raw)


@GENTLE
@given(SPF)
def test_spf_records_raise_only_their_own_error(text: str) -> None:
    with suppress(SpfSyntaxError):
        parse_record("v=spf1 " + text)
    with suppress(MacroError):
        read_macro(text)


@GENTLE
@given(st.one_of(st.text(max_size=80), SOUP.map(lambda raw: raw.decode("latin-1"))))
def test_records_and_names_never_raise(text: str) -> None:
    parse_key(text)
    parse_key("v=DKIM1; k=ed25519; p=" + text)
    parse_dmarc("v=DMARC1; " + text)
    registrable(normal_domain(text))
    is_host_domain(text)
    from_domains(text)


@GENTLE
@given(SPF, SPF, st.text(max_size=30))
async def test_spf_never_raises(record: str, other: str, sender: str) -> None:
    zone = {("example.com", "TXT"): ["v=spf1 " + record], ("example.org", "TXT"): ["v=spf1 " + other]}
    found = await check_spf(IP, sender + "@example.com", sender, StaticResolver(zone))
    assert found.result in ("none", "pass", "fail", "softfail", "neutral", "temperror", "permerror")


@GENTLE
@given(st.integers(0, len(MAIL.message)), SOUP, st.integers(0, 40))
async def test_a_broken_message_never_raises(at: int, soup: bytes, cut: int) -> None:
    broken = MAIL.message[:at] + soup + MAIL.message[at + cut :]
    resolver = StaticResolver(MAIL.zone)
    found = await evaluate(broken, ip=IP, helo=HELO, mail_from=SENDER, resolver=resolver, now=NOW)
    assert found.to_json()["spf"]


BOMBS = {
    "tags": b"DKIM-Signature: " + b"a=b;" * 50_000,
    "semicolons": b"DKIM-Signature: v=1;" + b";" * 200_000,
    "white space": b"DKIM-Signature: v=1; b=" + b" \t" * 100_000,
    "folds": b"ARC-Seal: i=1;" + b"\r\n " * 60_000,
    "fields named": b"DKIM-Signature: v=1; a=rsa-sha256; d=a.com; s=s; bh=AAAA; b=AAAA; h=from"
    + b":from" * 30_000,
    "signatures": b"DKIM-Signature: v=1\r\n" * 10_000,
    "fields": b"x:\r\n" * 50_000,
    "no colon": b"x" * 200_000,
    "comments": b"From: " + b"(" * 200_000,
    "brackets": b"From: " + b"<" * 200_000,
    "quotes": b'From: "' + b'\\"' * 100_000,
    "at signs": b"From: " + b"@" * 200_000,
    "sets": b"".join(b"ARC-Seal: i=%d\r\n" % n for n in range(10_000)),
    "empty lines": b"From: a@example.com\r\n\r\n" + b"\r\n" * 100_000,
    "spaces": b"From: a@example.com\r\n\r\n" + b" " * 200_000,
    "returns": b"From: a@example.com\r\n\r\n" + b"\r" * 200_000,
}


@pytest.mark.parametrize("name", BOMBS)
async def test_bombs_do_not_stall(name: str) -> None:
    raw = BOMBS[name] + b"\r\n" + MAIL.message
    await evaluate(raw, ip=IP, helo=HELO, mail_from=SENDER, resolver=StaticResolver(MAIL.zone), now=NOW)


@pytest.mark.parametrize(
    "work",
    [
        lambda: parse_key("v=DKIM1; p=" + "A" * 500_000),
        lambda: parse_dmarc("v=DMARC1;" + "a=b;" * 100_000),
        lambda: parse_dmarc("v" + " " * 500_000),
        lambda: from_domains("<" * 500_000),
        lambda: registrable("a." * 100_000),
        lambda: is_host_domain("a-" * 100_000),
        lambda: normal_domain("\u00e9." * 50_000),
        lambda: base64_value(b"A=" * 200_000),
    ],
)
def test_long_values_do_not_stall(work: Callable[[], object]) -> None:
    with suppress(TagError):
        work()


@pytest.mark.parametrize(
    "text",
    [
        "%{s}" * 3_000,
        "a" * 100_000,
        "%{d" + "." * 10_000 + "}",
        "a:" + "x." * 8_000 + "com",
        "/" * 10_000,
        "0" * 16_000,
    ],
)
async def test_spf_bombs_do_not_stall(text: str) -> None:
    zone = StaticResolver({("example.com", "TXT"): [f"v=spf1 exists:{text}.com {text}", f"v=spf1 {text}"]})
    await check_spf(IP, "x." * 5_000 + "@example.com", "h" * 10_000, zone)
    zone = StaticResolver({("example.com", "TXT"): [f"v=spf1 exists:{text}.com -all"]})
    await check_spf(IP, "x." * 5_000 + "@example.com", "h" * 10_000, zone)
