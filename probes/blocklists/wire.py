"""DNS on the wire, as much of it as the fast path needs (RFC 1035 section 4)."""

from __future__ import annotations

from ipaddress import ip_address

from probes.blocklists.catalogue import Kind
from probes.blocklists.query import Subject, prefix
from probes.dns import DnsAnswer, DnsStatus

# flags RD, one question, nothing else; the id goes before it
HEADER = b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
_A_IN = b"\x00\x01\x00\x01"
_POINTER = b"\xc0\x0c"  # to the question's own name
_OCTETS = tuple(len(text := b"%d" % number).to_bytes(1, "big") + text for number in range(256))
_RCODES = {2: DnsStatus.SERVFAIL, 5: DnsStatus.REFUSED}


def labels(name: str) -> bytes:
    """A name's labels, each with its length before it, without the root."""
    return b"".join(len(label).to_bytes(1, "big") + label.encode("ascii") for label in name.split("."))


def subject_labels(subject: Subject) -> bytes:
    """The labels that stand before the zone in the question for a subject."""
    if subject.kind is Kind.IPV4:
        first, second, third, last = ip_address(subject.text).packed
        return _OCTETS[last] + _OCTETS[third] + _OCTETS[second] + _OCTETS[first]
    return labels(prefix(subject))


def zone_suffix(origin: str) -> bytes:
    """The rest of a question to a zone: its labels, the root, type A, class IN."""
    return labels(origin) + b"\x00" + _A_IN


def name_of(question: bytes) -> str:
    """The name in a question, for people."""
    parts, at = [], 0
    while question[at]:
        parts.append(question[at + 1 : at + 1 + question[at]].decode("latin-1"))
        at += 1 + question[at]
    return ".".join(parts)


def is_clean(data: bytes) -> bool:
    """True for a whole response that says "no such name" and holds no answer records."""
    return (
        len(data) >= 12
        and bool(data[2] & 0x80)
        and not data[2] & 0x7A  # opcode 0, not truncated
        and data[3] & 0x0F == 3
        and data[4:8] == b"\x00\x01\x00\x00"
    )


def fast_answer(data: bytes, question: bytes) -> DnsAnswer | None:
    """Plain A records for the question's own name, or a bare failure code. None: read it thoroughly."""
    rcode, count = data[3] & 0x0F, int.from_bytes(data[6:8], "big")
    if rcode in _RCODES:
        return DnsAnswer("", "A", _RCODES[rcode])
    if rcode or not count:
        return None
    at, codes, ttl = 12 + len(question), [], 0xFFFFFFFF
    for _ in range(count):
        head = data[at : at + 12]
        if len(data) < at + 16 or head[:6] != _POINTER + _A_IN or head[10:] != b"\x00\x04":
            return None
        ttl = min(ttl, int.from_bytes(head[6:10], "big"))
        codes.append(".".join(map(str, data[at + 12 : at + 16])))
        at += 16
    return DnsAnswer("", "A", DnsStatus.OK, tuple(codes), ttl=float(ttl))
