"""Messages that pass, fail and break in every way, each with its DNS: what two evaluations are compared on.

Each case starts from a message that passes everything and has one thing wrong with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import dkim

from probes.authentication.sign import load_key, sign
from probes.dns import DnsStatus
from tests.fakes.signed_mail import HELO, IP, NOW, SENDER, ed25519_pem, plain_message, rsa_pem, signed_mail

Zone = Mapping[tuple[str, str], list[str] | DnsStatus]
AUTHOR = "example.com"
SIGNER = "mail.example.com"
KEY = f"r1._domainkey.{SIGNER}"
OTHER_KEY = "r2._domainkey.esp.example.org"
SEAL_KEY = "seal._domainkey.example.net"
DMARC = f"_dmarc.{AUTHOR}"
FOREIGN = "203.0.113.9"


@dataclass(frozen=True, slots=True)
class Case:
    """One message as it was received."""

    name: str
    message: bytes
    zone: Zone
    ip: str = IP
    helo: str = HELO
    sender: str = SENDER


def cases() -> Iterator[Case]:
    """All of them."""
    mail = signed_mail(2_000)
    base = Case("everything passes", mail.message, mail.zone)
    yield base
    yield from _spf_cases(base)
    yield from _dkim_cases(base)
    yield from _signature_cases(base)
    yield from _arc_cases(base)
    yield from _dmarc_cases(base)


def _zoned(base: Case, name: str, at: str, *records: str, status: DnsStatus | None = None) -> Case:
    """The case with one name of its zone answered otherwise."""
    answer = list(records) if status is None else status
    return replace(base, name=name, zone={**base.zone, (at, "TXT"): answer})


def _spf_cases(base: Case) -> Iterator[Case]:
    yield replace(base, name="spf: a stranger's address", ip=FOREIGN)
    for name, record in {
        "softfail": "v=spf1 ip4:198.51.100.1 ~all",
        "neutral": "v=spf1 ?all",
        "no match at all": "v=spf1 ip4:198.51.100.1",
        "a mechanism that is none": "v=spf1 ip5:192.0.2.1 -all",
        "an address that is none": "v=spf1 ip4:192.0.2.999 -all",
        "redirect": "v=spf1 redirect=_spf.example.com",
        "redirect to nothing": "v=spf1 redirect=nowhere.example",
        "include of nothing": "v=spf1 include:nowhere.example -all",
        "a loop": "v=spf1 include:mail.example.com -all",
        "exists by macro": "v=spf1 exists:%{ir}.%{l1r-}.list.example.com -all",
        "two redirects": "v=spf1 redirect=_spf.example.com redirect=_spf.example.com",
        "a is not the sender": "v=spf1 a -all",
    }.items():
        yield _zoned(base, f"spf: {name}", SIGNER, record)
    many = {(f"s{n}.example.com", "TXT"): [f"v=spf1 include:s{n + 1}.example.com -all"] for n in range(12)}
    eleven = _zoned(base, "spf: eleven includes deep", SIGNER, "v=spf1 include:s0.example.com -all")
    yield replace(eleven, zone={**eleven.zone, **many})
    yield _zoned(base, "spf: no record", SIGNER, "nothing to see")
    yield _zoned(base, "spf: two records", SIGNER, "v=spf1 -all", "v=spf1 +all")
    yield _zoned(base, "spf: no answer", SIGNER, status=DnsStatus.SERVFAIL)
    yield replace(base, name="spf: no sender, the HELO has no record", sender="")
    helo = _zoned(base, "spf: no sender, the HELO passes", HELO, "v=spf1 ip4:192.0.2.10 -all")
    yield replace(helo, sender="")
    six = _zoned(base, "spf: IPv6", SIGNER, "v=spf1 ip6:2001:db8::/32 -all")
    yield replace(six, ip="2001:db8::25")
    yield replace(six, name="spf: IPv6, a stranger", ip="2001:db9::25")


def _dkim_cases(base: Case) -> Iterator[Case]:
    yield replace(base, name="dkim: the body is not what was signed", message=base.message + b"more\r\n")
    changed = base.message.replace(b"Subject: =?", b"Subject: [list] =?", 1)
    yield replace(base, name="dkim: the subject is not what was signed", message=changed)
    yield replace(base, name="dkim: a second From", message=b"From: a@evil.example\r\n" + base.message)
    yield replace(base, name="dkim and spf: nothing holds", message=base.message + b"more\r\n", ip=FOREIGN)
    record = load_key(rsa_pem("dkim1")).record()
    for name, text in {
        "revoked": "v=DKIM1; k=rsa; p=",
        "unreadable": "v=DKIM1; k=rsa; p=AAAA",
        "another one": load_key(rsa_pem("other")).record(),
        "of another kind": load_key(ed25519_pem()).record(),
        "for testing": record.replace("k=rsa; ", "k=rsa; t=y; "),
        "for another service": record.replace("k=rsa; ", "k=rsa; s=tlsrpt; "),
        "for another hash": record.replace("k=rsa; ", "k=rsa; h=sha1; "),
        "without version": record.replace("v=DKIM1; ", ""),
        "of a later version": record.replace("v=DKIM1; ", "v=DKIM2; "),
        "of 1024 bits": load_key(rsa_pem("short", 1024)).record(),
    }.items():
        yield _zoned(base, f"dkim: the key is {name}", KEY, text)
    yield _zoned(base, "dkim: the key beside an SPF record", KEY, "v=spf1 -all", record)
    for status in (DnsStatus.NXDOMAIN, DnsStatus.NODATA, DnsStatus.SERVFAIL, DnsStatus.TIMEOUT):
        yield _zoned(base, f"dkim: the key's name is {status.value}", KEY, status=status)
    both = _zoned(base, "dkim: neither key is there", KEY, status=DnsStatus.NXDOMAIN)
    yield replace(both, zone={**both.zone, (OTHER_KEY, "TXT"): DnsStatus.NXDOMAIN}, ip=FOREIGN)


def _signed(base: Case, name: str, *fields: bytes, zone: Zone | None = None, tail: bytes = b"") -> Case:
    """The plain message below these signatures."""
    message = b"".join(fields) + plain_message(2_000) + tail
    return replace(base, name=name, message=message, zone={**base.zone, **(zone or {})})


def _mine(**options: object) -> bytes:
    """A signature by dkimpy's own hand, for what our signer never writes."""
    return bytes(dkim.sign(plain_message(2_000), b"r1", SIGNER.encode(), rsa_pem("dkim1"), **options))


def _ours(pem: bytes, domain: str = SIGNER, selector: str = "r1", now: float = NOW - 60) -> bytes:
    return sign(plain_message(2_000), domain, selector, pem, now=now)


def _with_tag(tag: bytes, value: bytes) -> bytes:
    """A true signature of NOW that has one tag more."""

    class Tagged(dkim.DKIM):  # type: ignore[misc]  # dkimpy has no types
        def gen_header(self, fields: list[tuple[bytes, bytes]], *rest: object, **more: object) -> bytes:
            fields = [(name, b"%d" % NOW if name == b"t" else text) for name, text in fields]
            made = super().gen_header([*fields[:-2], (tag, value), *fields[-2:]], *rest, **more)
            return bytes(made)

    found = Tagged(plain_message(2_000)).sign(b"r1", SIGNER.encode(), rsa_pem("dkim1"))
    return bytes(found)


def _flipped(field: bytes, tag: bytes) -> bytes:
    """The signature with another first letter in the base64 of one of its tags."""
    at = field.index(b" " + tag + b"=") + len(tag) + 2
    while field[at : at + 1].isspace():
        at += 1
    return field[:at] + (b"B" if field[at : at + 1] != b"B" else b"C") + field[at + 1 :]


def _signature_cases(base: Case) -> Iterator[Case]:
    main, edwards = rsa_pem("dkim1"), ed25519_pem()
    yield _signed(base, "dkim: no signature")
    yield replace(_signed(base, "dkim: no signature, and a stranger"), ip=FOREIGN)
    yield _signed(base, "dkim: expired", _with_tag(b"x", b"1700000100"))
    yield _signed(base, "dkim: not yet expired", _with_tag(b"x", b"4000000000"))
    yield _signed(base, "dkim: made in the future", _ours(main, now=4_000_000_000.0))
    yield _signed(base, "dkim: l= of the whole body", _mine(length=True))
    yield _signed(base, "dkim: more behind l=", _mine(length=True), tail=b"<a>grown</a>\r\n")
    longer = _mine(length=True)
    start = longer.index(b"l=") + 2
    longer = longer[:start] + b"9" + longer[start:]
    yield _signed(base, "dkim: l= beyond the body", longer)
    for form in ((b"simple", b"simple"), (b"simple", b"relaxed"), (b"relaxed", b"simple")):
        yield _signed(base, f"dkim: {b'/'.join(form).decode()}", _mine(canonicalize=form))
    yield _signed(base, "dkim: i= of a subdomain", _mine(identity=b"a@news." + SIGNER.encode()))
    yield _signed(base, "dkim: from is not signed", _ours(main).replace(b"h=", b"h=x-", 1))
    yield _signed(base, "dkim: d= of somebody else", _ours(main).replace(b"d=mail.", b"d=male.", 1))
    yield _signed(base, "dkim: no such canonical form", _ours(main).replace(b"c=relaxed/", b"c=loose/", 1))
    yield _signed(base, "dkim: rsa-sha1", _ours(main).replace(b"a=rsa-sha256", b"a=rsa-sha1", 1))
    yield _signed(base, "dkim: no v=", _ours(main).replace(b"v=1; ", b"", 1))
    yield _signed(base, "dkim: no bh=", _ours(main).replace(b" bh=", b" hb=", 1))
    yield _signed(base, "dkim: a bit of b= flipped", _flipped(_ours(main), b"b"))
    twin = {(f"e1._domainkey.{SIGNER}", "TXT"): [load_key(edwards).record()]}
    new = _ours(edwards, selector="e1")
    yield _signed(base, "dkim: ed25519", new, zone=twin)
    yield _signed(base, "dkim: ed25519 and RSA", new, _ours(main), zone=twin)
    yield _signed(base, "dkim: ed25519, broken, and RSA", _flipped(new, b"bh"), _ours(main), zone=twin)
    third = _ours(rsa_pem("dkim2"), "esp.example.org", "r2")
    yield _signed(
        base,
        "dkim: three, the middle one broken",
        new,
        _flipped(third, b"bh"),
        _ours(main),
        zone=twin,
    )
    short = {(KEY, "TXT"): [load_key(rsa_pem("short", 1024)).record()]}
    yield _signed(base, "dkim: RSA of 1024 bits", _ours(rsa_pem("short", 1024)), zone=short)


def _sealed(message: bytes, told: bytes = b"") -> bytes:
    """One more ARC set, by dkimpy; told: what its sealer found of the chain so far."""
    message = told + message.replace(told, b"") if told else message
    fields = dkim.arc_sign(message, b"seal", b"example.net", rsa_pem("arc"), b"mx.example.net")
    return b"".join(fields) + message


def _arc_cases(base: Case) -> Iterator[Case]:
    message = base.message
    yield replace(base, name="arc: none", message=signed_mail(2_000, arc=False).message)
    for name, old, new in (
        ("results changed", b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results: i=1; x=y;"),
        ("no seal", b"ARC-Seal:", b"X-Seal:"),
        ("no signature", b"ARC-Message-Signature:", b"X-Signature:"),
        ("no results", b"ARC-Authentication-Results:", b"X-Results:"),
        ("cv=pass in the first", b"cv=none", b"cv=pass"),
        ("cv=fail", b"cv=none", b"cv=fail"),
        ("instance 2 first", b"ARC-Authentication-Results: i=1", b"ARC-Authentication-Results: i=2"),
    ):
        yield replace(base, name=f"arc: {name}", message=message.replace(old, new, 1))
    told = b"Authentication-Results: mx.example.net; arc=pass\r\n"
    two = _sealed(message, told)
    yield replace(base, name="arc: two sets", message=two)
    yield replace(base, name="arc: three sets", message=_sealed(two, told))
    on_the_way = message.replace(b"Subject: =?", b"Subject: [list] =?", 1)
    yield replace(base, name="arc: two sets, changed between them", message=_sealed(on_the_way, told))
    yield replace(base, name="arc: two sets, changed behind them", message=two + b"more\r\n")
    failed = _sealed(message + b"more\r\n", told.replace(b"arc=pass", b"arc=fail"))
    yield replace(base, name="arc: two sets, the second says cv=fail", message=failed)
    for status in (DnsStatus.NXDOMAIN, DnsStatus.SERVFAIL):
        yield _zoned(base, f"arc: the key's name is {status.value}", SEAL_KEY, status=status)
    yield _zoned(base, "arc: the key is revoked", SEAL_KEY, "v=DKIM1; k=rsa; p=")


def _dmarc_cases(base: Case) -> Iterator[Case]:
    for name, record in {
        "p=none": "v=DMARC1; p=none",
        "strict": "v=DMARC1; p=reject; adkim=s; aspf=s",
        "strict for DKIM": "v=DMARC1; p=reject; adkim=s",
        "of no use": "v=DMARC2; p=reject",
        "without p=": "v=DMARC1; rua=mailto:a@example.com",
        "with a p= that is none": "v=DMARC1; p=refuse; rua=mailto:a@example.com",
    }.items():
        yield _zoned(base, f"dmarc: the record is {name}", DMARC, record)
    yield _zoned(base, "dmarc: no record", DMARC, status=DnsStatus.NXDOMAIN)
    yield _zoned(base, "dmarc: no answer", DMARC, status=DnsStatus.SERVFAIL)
    yield _zoned(base, "dmarc: two records", DMARC, "v=DMARC1; p=none", "v=DMARC1; p=reject")
    yield replace(
        _zoned(base, "", DMARC, "v=DMARC1; p=none"),
        name="dmarc: p=none, nothing passes",
        ip=FOREIGN,
        message=plain_message(2_000),
    )
    foreign = plain_message(2_000).replace(b"news@example.com", b"news@bank.example")
    bank = {("_dmarc.bank.example", "TXT"): ["v=DMARC1; p=reject"]}
    aligned = sign(foreign, SIGNER, "r1", rsa_pem("dkim1"), now=NOW - 60) + foreign
    yield replace(base, name="dmarc: the author is another", message=aligned, zone={**base.zone, **bank})
    yield replace(base, name="dmarc: the author is another, without a record", message=aligned)
    below = plain_message(2_000).replace(b"news@example.com", b"news@a.b.example.com")
    signed = sign(below, SIGNER, "r1", rsa_pem("dkim1"), now=NOW - 60) + below
    yield replace(base, name="dmarc: the author is a subdomain", message=signed)
    nobody = plain_message(2_000).replace(b'From: "Acme" <news@example.com>\r\n', b"")
    yield replace(base, name="dmarc: no author", message=nobody)
    two = plain_message(2_000).replace(b"<news@example.com>", b"<news@example.com>, b@bank.example")
    yield replace(base, name="dmarc: two authors", message=two, zone={**base.zone, **bank})
    odd = plain_message(2_000).replace(b"<news@example.com>", b"<news@EXAMPLE.com.>")
    yield replace(base, name="dmarc: the author in capitals, with a final dot", message=odd)
