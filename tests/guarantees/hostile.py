"""Every parser that reads what strangers write, as a function of bytes, for fuzzing and for the found corpus.

A target may raise nothing: the errors that a parser is meant to raise are caught here, so that any other is a
finding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from agent.inspection.examine import Settings, examine
from agent.inspection.sources import split
from probes.authentication.arc import read_chain
from probes.authentication.author import author_domains, from_domains
from probes.authentication.dkim import read_claims
from probes.authentication.domains import is_host_domain, normal_domain, registrable
from probes.authentication.evaluate import evaluate
from probes.authentication.keys import parse_key
from probes.authentication.message import Message
from probes.authentication.spf import check_spf
from probes.authentication.spf_macro import MacroError, read_domain_spec, read_macro
from probes.authentication.spf_record import SpfSyntaxError, parse_record
from probes.authentication.tags import TagError, base64_value, parse_tags, without_value
from probes.canary.replies import read_reply
from probes.canary.token import find_tokens
from probes.clock import SystemClock
from probes.dns import DnsStatus, StaticResolver
from probes.errors import DataError, MailboxUnavailable
from probes.headers.authres import parse_authentication_results, parse_received_spf
from probes.headers.dates import parse_time
from probes.headers.dsn import read_bounce
from probes.headers.mime import parts, strip_html
from probes.headers.received import find_ip, parse_received, timing
from probes.headers.report import read_headers
from probes.headers.scan import decode_words, printable, scan, unfold
from probes.headers.trust import TrustRule
from probes.headers.verdicts import READERS, VerdictField, decode_verdicts
from probes.mailbox.folders import find_folders
from probes.mailbox.mutf7 import decode, encode
from probes.mailbox.oauth2 import read_json
from probes.mailbox.parse import (
    fetch_items,
    internal_date,
    list_entry,
    numbers,
    response_code,
    status_items,
)
from probes.mailbox.presets import presets
from probes.mailbox.wire import Assembler
from probes.records.dane import parse_tlsa
from probes.records.sts_policy import parse_sts_policy
from probes.records.text import parse_bimi, parse_sts_record, parse_tls_rpt, read_dmarc
from tests.fakes.signed_mail import HELO, IP, NOW, SENDER, signed_mail

RULES = (
    TrustRule(("mx.example",), below_border=2),
    TrustRule(("",), ("*.example",), internal=("*.internal",), verdicts_anywhere=True, border_repeats=True),
)
SILENT = StaticResolver({}, default=DnsStatus.TIMEOUT)
LOOP = asyncio.new_event_loop()


def header(raw: bytes) -> None:
    """The whole reading of a header, by rules of every kind."""
    for rule in RULES:
        report = read_headers(raw, rule)
        assert report.timing.skew_seconds >= 0
        assert all(delay is None or delay >= 0 for delay in report.timing.delays)
        assert all(not item.trusted for item in report.results) or report.block.border is not None
        _ = report.verdict, report.border


def preset_header(raw: bytes) -> None:
    """The same by one of the rules that are shipped; the first byte says by which."""
    rules = [one.trust for one in presets().values()]
    _ = read_headers(raw[1:], rules[raw[0] % len(rules)] if raw else RULES[0]).verdict


def inspect(raw: bytes) -> None:
    """All that `mailcanary inspect` does with a file."""
    settings = Settings(SILENT, SystemClock(), NOW, ["mx.example"], None)
    for source in split("x", raw):
        if not source.problem:
            LOOP.run_until_complete(examine(source, settings))


def results(raw: bytes) -> None:
    """Authentication-Results, its ARC form, Received-SPF."""
    text = unfold(raw)
    for arc in (False, True):
        found = parse_authentication_results(text, arc=arc)
        assert all(one.method == one.method.lower() for one in found.methods)
        assert all(isinstance(one.policy, dict) for one in found.methods)
    parse_received_spf(text)


def received(raw: bytes) -> None:
    """Received fields and their times."""
    hops = [parse_received(line) for line in raw.split(b"\n\n")[:50]]
    timing(hops)
    for hop in hops[:5]:
        assert isinstance(hop.clauses, dict)
    find_ip(unfold(raw))


def words(raw: bytes) -> None:
    """Dates, encoded words, plain text."""
    text = unfold(raw)
    parse_time(text)
    parse_time(raw.decode("latin-1"))
    decode_words(text)
    printable(text)
    scan(raw)


def verdicts(raw: bytes) -> None:
    """The fields of every filter that is known."""
    text = unfold(raw)
    for name in READERS:
        decode_verdicts([VerdictField(name, text, True)])
    decode_verdicts(VerdictField(name, text, False) for name in READERS)


def bounce(raw: bytes) -> None:
    """Delivery reports and what stands for them."""
    found = read_bounce(raw)
    assert found is None or found.recipients


def mime(raw: bytes) -> None:
    """The parts of a message."""
    for part in parts(raw):
        assert isinstance(part.text, str)
    strip_html(unfold(raw))


def signatures(raw: bytes) -> None:
    """DKIM-Signature, ARC sets, From."""
    message = Message(raw)
    read_claims(message)
    read_chain(message)
    author_domains(message)
    for index in range(min(len(message.raws), 50)):
        message.header(index, True)
        without_value(message.raws[index])
    message.body_hash(True, None)
    message.body_hash(False, 1)


def broken_signed(raw: bytes) -> None:
    """A signed message with something else in the middle of it."""
    mail = signed_mail(2_000)
    at = int.from_bytes(raw[:2], "big") % len(mail.message)
    text = mail.message[:at] + raw[2:] + mail.message[at + len(raw) // 4 :]
    resolver = StaticResolver(mail.zone)
    found = evaluate(text, ip=IP, helo=HELO, mail_from=SENDER, resolver=resolver, now=NOW)
    assert LOOP.run_until_complete(found).to_json()["spf"]


def keys_and_names(raw: bytes) -> None:
    """DKIM keys, tag lists, domain names."""
    text = raw.decode("utf-8", "replace")
    with suppress(TagError):
        assert all(name for name in parse_tags(raw))
    with suppress(TagError):
        base64_value(raw)
    parse_key(text)
    parse_key("v=DKIM1; k=ed25519; p=" + text)
    registrable(normal_domain(text))
    is_host_domain(text)
    from_domains(text)


def records(raw: bytes) -> None:
    """DMARC, MTA-STS, TLS-RPT, BIMI and TLSA records."""
    text = raw.decode("utf-8", "replace")
    for start, parse in (
        ("v=STSv1;", parse_sts_record),
        ("v=TLSRPTv1;", parse_tls_rpt),
        ("v=BIMI1;", parse_bimi),
        ("version: STSv1\n", parse_sts_policy),
        ("v=DMARC1;", read_dmarc),
        ("3 1 1 ", parse_tlsa),
    ):
        for said in (text, start + text):
            with suppress(DataError):
                parse(said)


def spf(raw: bytes) -> None:
    """SPF records, macros and their evaluation."""
    text = raw.decode("utf-8", "replace")
    first, _, second = text.partition("\n")
    with suppress(SpfSyntaxError):
        parse_record(text)
    with suppress(MacroError):
        read_macro(text)
    with suppress(MacroError):
        read_domain_spec(text)
    zone = {("example.com", "TXT"): ["v=spf1 " + first], ("example.org", "TXT"): ["v=spf1 " + second]}
    sender = text[:20] + "@example.com"
    found = LOOP.run_until_complete(check_spf(IP, sender, text[-20:], StaticResolver(zone)))
    assert found.result in ("none", "pass", "fail", "softfail", "neutral", "temperror", "permerror")


def imap(raw: bytes) -> None:
    """A server's bytes, whole and cut in two, into responses and what is in them."""
    for cut in (len(raw), len(raw) // 2):
        assembler = Assembler()
        found = []
        with suppress(MailboxUnavailable):
            found += assembler.feed(raw[:cut])
            found += assembler.feed(raw[cut:])
    for response in found[:200]:
        for parse in (fetch_items, list_entry, status_items):
            with suppress(DataError):
                parse(response.parts)
        response_code(response.line[5:])
        numbers([response.line])
        internal_date(response.line)


def folders(raw: bytes) -> None:
    """LIST answers and folder names."""
    name = raw.decode("latin-1")
    decode(name)
    decode(encode(raw.decode("utf-8", "replace")))
    entries = []
    for line in raw.split(b"\n")[:50]:
        with suppress(DataError):
            entry = list_entry([b"* LIST " + line])
            entries += [entry] if entry is not None else []
    find_folders(entries, {}, ["Spam"])
    find_folders(entries, inbox_only=True)


def replies(raw: bytes) -> None:
    """SMTP replies, tokens in anything, OAuth2 answers."""
    text = raw.decode("latin-1")
    read_reply("gmail", "rcpt", 550, text)
    find_tokens(raw)
    find_tokens(text)
    read_json(raw)


TARGETS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (
        header, preset_header, inspect, results, received, words, verdicts, bounce, mime, signatures,
        broken_signed, keys_and_names, records, spf, imap, folders, replies,
    )
}  # fmt: skip
"""By name; a file of the corpus says which it is for by the folder it lies in."""
