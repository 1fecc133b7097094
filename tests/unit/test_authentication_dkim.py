"""DKIM: what verifies, what must not, and why; dkimpy is the oracle."""

from __future__ import annotations

import random
from base64 import b64encode
from dataclasses import replace

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from probes.authentication.dkim import DkimResult, judge, read_claims, verify_dkim
from probes.authentication.keys import find_key
from probes.authentication.message import Message
from probes.authentication.sign import load_key, sign
from probes.dns import DnsStatus, StaticResolver
from tests.fakes.signed_mail import NOW, ed25519_pem, rsa_pem, signed_mail

PLAIN = (
    b"From: a@example.com\r\nTo: b@example.net\r\nSubject: a  test\r\n"
    b"Date: Fri, 15 Jan 2027 08:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nhello \r\n\r\n"
)
NAME = "s._domainkey.example.com"


def signed(plain: bytes = PLAIN, pem: bytes | None = None) -> bytes:
    return sign(plain, "example.com", "s", pem or rsa_pem(), now=NOW) + plain


def by_dkimpy(plain: bytes = PLAIN, **options: object) -> bytes:
    """Signed by dkimpy alone, with what it can do beyond us: l=, simple, chosen fields."""
    return dkimpy.sign(plain, b"s", b"example.com", rsa_pem(), **options) + plain


async def verify(message: bytes, record: str | DnsStatus | None = None, now: float = NOW) -> DkimResult:
    answer = record if record is not None else load_key(rsa_pem()).record()
    zone = {(NAME, "TXT"): answer if isinstance(answer, DnsStatus) else [answer]}
    (one,) = await verify_dkim(Message(message), StaticResolver(zone), now)
    return one


def changed(tag: str, value: str, message: bytes | None = None) -> bytes:
    """The signed message with one tag of its signature replaced (the signature no longer fits, of course)."""
    head, _, rest = (message or signed()).partition(f" {tag}=".encode())
    _, semicolon, rest = rest.partition(b";")
    return head + f" {tag}={value}".encode() + semicolon + rest


async def test_rsa_and_ed25519_pass_and_tell_what_they_are() -> None:
    one = await verify(signed())
    assert (one.result, one.reason, one.algorithm, one.key_bits) == ("pass", "ok", "rsa-sha256", 2048)
    assert (one.domain, one.selector, one.identity) == ("example.com", "s", "@example.com")
    other = await verify(signed(pem=ed25519_pem()), load_key(ed25519_pem()).record())
    assert (other.result, other.algorithm, other.key_bits) == ("pass", "ed25519-sha256", 256)


async def test_line_ends_of_a_kept_file_do_not_matter() -> None:
    assert (await verify(signed().replace(b"\r\n", b"\n"))).result == "pass"


@pytest.mark.parametrize(
    "canonical", [(a, b) for a in (b"simple", b"relaxed") for b in (b"simple", b"relaxed")]
)
async def test_all_canonical_forms_as_dkimpy_signs_them(canonical: tuple[bytes, bytes]) -> None:
    plain = PLAIN.replace(b"Subject: a  test", b"Subject:  a \r\n\tfolded  test ")
    one = await verify(by_dkimpy(plain, canonicalize=canonical))
    assert (one.result, one.canonicalization) == ("pass", b"/".join(canonical).decode())


async def test_the_same_verdict_as_dkimpy_on_every_signature_of_a_large_message() -> None:
    mail = signed_mail(40_000, arc=False, kinds=("rsa", "ed25519"))
    found = await verify_dkim(Message(mail.message), StaticResolver(mail.zone), NOW)
    assert [one.result for one in found] == ["pass", "pass"]

    def dns(name: bytes, timeout: float = 5) -> bytes:
        return mail.zone[name.decode().rstrip("."), "TXT"][0].encode()

    assert all(dkimpy.DKIM(mail.message).verify(index, dnsfunc=dns) for index in (0, 1))


@pytest.mark.parametrize(
    ("record", "result", "reason"),
    [
        (DnsStatus.NXDOMAIN, "permerror", "no-key"),
        (DnsStatus.NODATA, "permerror", "no-key"),
        (DnsStatus.SERVFAIL, "temperror", "dns"),
        (DnsStatus.TIMEOUT, "temperror", "dns"),
        (DnsStatus.REFUSED, "temperror", "dns"),
        ("v=DKIM1; k=rsa; p=", "permerror", "key-revoked"),
        ("v=DKIM2; p=AAAA", "permerror", "key-syntax"),
        ("v=DKIM1; k=rsa", "permerror", "key-syntax"),
        ("v=DKIM1; k=rsa; p=AAAA", "permerror", "key-syntax"),
        ("v=DKIM1; k=rsa; p=***", "permerror", "key-syntax"),
        ("v=spf1 -all", "permerror", "key-syntax"),
        ("v=DKIM1; k=lattice; p=AAAA", "permerror", "key-type"),
    ],
)
async def test_missing_revoked_unreadable_and_unreachable_keys_stay_apart(
    record: str | DnsStatus, result: str, reason: str
) -> None:
    one = await verify(signed(), record)
    assert (one.result, one.reason) == (result, reason)


@pytest.mark.parametrize(
    ("addition", "result", "reason"),
    [
        ("t=y; ", "pass", "ok"),
        ("t=s; ", "pass", "ok"),
        ("h=sha256:sha1; ", "pass", "ok"),
        ("h=sha1; ", "permerror", "key-hash"),
        ("s=email; ", "pass", "ok"),
        ("s=tlsrpt; ", "permerror", "key-service"),
    ],
)
async def test_what_the_key_allows(addition: str, result: str, reason: str) -> None:
    record = load_key(rsa_pem()).record().replace("k=rsa; ", "k=rsa; " + addition)
    one = await verify(signed(), record)
    assert (one.result, one.reason, one.testing) == (result, reason, "t=y" in addition)


async def test_a_key_that_makes_checking_slow_is_refused() -> None:
    numbers = RSAPublicNumbers(e=2**1023 + 1, n=2**2047 + 1)
    data = numbers.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    one = await verify(signed(), f"v=DKIM1; k=rsa; p={b64encode(data).decode()}")
    assert (one.result, one.reason) == ("permerror", "key-syntax")


async def test_an_unusable_signature_still_says_what_it_is() -> None:
    one = await verify(changed("a", "rsa-sha1"))
    assert (one.domain, one.selector, one.algorithm) == ("example.com", "s", "rsa-sha1")
    assert "RFC 8301" in one.detail


async def test_several_records_at_a_name_leave_the_one_that_is_a_key() -> None:
    zone = {(NAME, "TXT"): ["v=spf1 -all", load_key(rsa_pem()).record()]}
    (one,) = await verify_dkim(Message(signed()), StaticResolver(zone), NOW)
    assert one.result == "pass"


async def test_a_key_of_another_kind_or_size_does_not_count() -> None:
    assert (await verify(signed(), load_key(ed25519_pem()).record())).reason == "key-type"
    assert (await verify(signed(), load_key(rsa_pem("other")).record())).reason == "signature"
    short = (
        "v=DKIM1; k=rsa; p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKJ2lzDLZ8XlVambQfMXn3LRGKOD5o6l"
        "MIgulclWjZwP56LRqdg5ZX15bhc/GsvW8xW/R5Sh1NnkJNyL/cqY1a+GzzL47t7EXzVc+nRLWT1kwTvFNGIo"
        "AUsFUq+J6+OprwIDAQAB"
    )
    assert (await verify(signed(), short)).reason in ("key-size", "key-syntax")


@pytest.mark.parametrize(
    ("tag", "value", "result", "reason"),
    [
        ("v", "2", "permerror", "version"),
        ("a", "rsa-sha1", "fail", "forbidden-algorithm"),
        ("a", "rsa-md5", "permerror", "algorithm"),
        ("a", "RSA-SHA256", "permerror", "algorithm"),
        ("c", "relaxed/loose", "permerror", "canonicalization"),
        ("d", "exa mple.com", "permerror", "syntax"),
        ("d", "", "permerror", "syntax"),
        ("i", "@example.org", "permerror", "domain"),
        ("i", "@badexample.com", "permerror", "domain"),
        ("h", "to:subject", "permerror", "from-unsigned"),
        ("t", "soon", "permerror", "syntax"),
        ("bh", "!!!", "permerror", "syntax"),
        ("bh", "", "permerror", "syntax"),
        ("bh", "AAAA", "fail", "body-hash"),
        ("q", "finger", "permerror", "syntax"),
    ],
)
async def test_what_a_signature_must_say(tag: str, value: str, result: str, reason: str) -> None:
    one = await verify(changed(tag, value))
    assert (one.result, one.reason) == (result, reason)


@pytest.mark.parametrize("tag", [b"v", b"a", b"b", b"bh", b"d", b"h", b"s"])
async def test_every_required_tag_is_required(tag: bytes) -> None:
    one = await verify(signed().replace(b" " + tag + b"=", b" x" + tag + b"="))
    assert (one.result, one.reason) == ("permerror", "version" if tag == b"v" else "missing-tag")


async def test_expiry_is_by_the_time_of_the_evaluation() -> None:
    plain = signed().replace(b" t=1700000000;", b" t=1700000000; x=1700000100;")
    assert (await verify(plain)).expires_at == 1_700_000_100
    late = await verify(plain, now=NOW + 101)
    assert late.expired
    assert late.result == "fail"
    assert "expired 2023-11-14T22:15:00.000Z (x=)" in late.detail
    backwards = signed().replace(b" t=1700000000;", b" t=1700000000; x=1700000000;")
    assert (await verify(backwards)).reason == "syntax"


async def test_a_body_that_grew_behind_l_passes_and_is_told() -> None:
    message = by_dkimpy(length=True) + b"<a href=https://evil.example>grown</a>\r\n"
    one = await verify(message)
    assert (one.result, one.unsigned_octets) == ("pass", 42)
    assert any("not signed" in text for text in one.warnings)


async def test_l_beyond_the_body_fails() -> None:
    one = await verify(by_dkimpy(length=True).replace(b" l=8;", b" l=99;"))
    assert (one.result, one.reason) == ("fail", "body-hash")


@pytest.mark.parametrize("name", ["From", "Subject", "Date", "To", "Reply-To"])
async def test_a_field_added_on_the_way_fails(name: str) -> None:
    fields = [b"from", b"to", b"subject", b"date", b"reply-to"]
    plain = b"Reply-To: a@example.com\r\n" + PLAIN
    message = dkimpy.sign(plain, b"s", b"example.com", rsa_pem(), include_headers=fields) + plain
    one = await verify(f"{name}: x@evil.example\r\n".encode() + message)
    assert one.result == "fail"
    assert one.reason == "added-header"


async def test_signatures_beyond_the_cap_are_told_not_proved() -> None:
    message = signed()
    field = message[: message.index(b"From:")]
    zone = {(NAME, "TXT"): [load_key(rsa_pem()).record()]}
    found = await verify_dkim(Message(field * 500 + PLAIN), StaticResolver(zone), NOW)
    assert len(found) == 21
    assert found[-1].result == "neutral"


async def test_no_flipped_bit_ever_verifies() -> None:
    """Every bit of what is signed counts; relaxed form leaves out white space and the case of names."""
    message = signed()
    record = load_key(rsa_pem()).record()
    start = message.index(b"From:")
    clean = await verify(message)
    source = random.Random(5)
    for _ in range(400):
        at = source.randrange(start, len(message) - 5)
        flipped = bytearray(message)
        flipped[at] ^= 1 << source.randrange(8)
        found = await verify_dkim(Message(bytes(flipped)), StaticResolver({(NAME, "TXT"): [record]}), NOW)
        same = _canonical(bytes(flipped)) == _canonical(message)
        assert all(one.result != "pass" for one in found) or same, (at, flipped[at])
    assert clean.result == "pass"


def _canonical(raw: bytes) -> tuple[object, ...]:
    message = Message(raw)
    names = (b"from", b"to", b"subject", b"date", b"message-id")
    fields = [message.header(index, True) for name in names for index in message.indexes(name)]
    return (*fields, message.canonical_body(True))


async def test_no_flipped_bit_of_a_signature_or_key_verifies() -> None:
    message = Message(signed())
    (claim,) = read_claims(message)
    assert claim.signature is not None
    zone = StaticResolver({(NAME, "TXT"): [load_key(rsa_pem()).record()]})
    keys = {NAME: await find_key(NAME, zone)}
    good = claim.signature
    for bit in range(0, len(good.signature) * 8, 7):
        broken = bytearray(good.signature)
        broken[bit // 8] ^= 1 << bit % 8
        claim.signature = replace(good, signature=bytes(broken))
        assert judge(message, claim, keys[NAME], NOW).reason == "signature"
