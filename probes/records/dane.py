"""DANE: the TLSA records of mail exchangers against the certificate they show (RFC 6698, RFC 7672)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from probes.dns import Resolver
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look
from probes.records.reach import Contact

_WHY = "senders that honour DANE, Microsoft and many in Europe, do not deliver to it"


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One TLSA record. usage: 2 (an authority) or 3 (the server); selector: 0 certificate, 1 key; matching: 0
    all of it, 1 SHA-256, 2 SHA-512.
    """

    usage: int
    selector: int
    matching: int
    data: bytes

    def matches(self, certificate: bytes) -> bool:
        """Whether it names this certificate (DER). An unreadable one is not named."""
        found = digest(certificate, self.selector, self.matching)
        return found is not None and found == self.data


def digest(certificate: bytes, selector: int, matching: int) -> bytes | None:
    """The data of a TLSA record for a certificate (DER); None for what cannot be."""
    if selector == 1:
        try:
            key = x509.load_der_x509_certificate(certificate).public_key()
            certificate = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except ValueError:
            return None
    match matching:
        case 0:
            return certificate
        case 1:
            return hashlib.sha256(certificate).digest()
        case 2:
            return hashlib.sha512(certificate).digest()
        case _:
            return None


def parse_tlsa(text: str) -> Tlsa | None:
    """Reads a record in presentation form; None where it is unusable for SMTP (RFC 7672 section 3.1)."""
    parts = text.split()
    try:
        usage, selector, matching = (int(part) for part in parts[:3])
        data = bytes.fromhex("".join(parts[3:]))
    except ValueError:
        return None
    return Tlsa(usage, selector, matching, data) if usage in (2, 3) and selector in (0, 1) and data else None


async def check_dane(
    hosts: Iterable[str], contacts: Iterable[Contact], signed: Mapping[str, bool | None], resolver: Resolver
) -> list[Finding]:
    """The TLSA records of each host. signed: whether a host's zone is, None where that is not known."""
    shown = {contact.host: contact for contact in contacts}
    findings = []
    for host in hosts:
        name = f"_25._tcp.{host}"
        answer = await resolver.query(name, "TLSA")
        if not answer.status.conclusive:
            findings.append(could_not_look("dane-unknown", answer))
        elif answer.records:
            protected = True if answer.authenticated else signed.get(host)
            findings += _judge(name, answer.records, protected, shown.get(host))
    return findings


def _judge(
    name: str, records: Iterable[str], protected: bool | None, contact: Contact | None
) -> list[Finding]:
    if protected is False:
        text = "TLSA records in a zone without DNSSEC: everybody ignores them"
        fix = "sign the zone and publish its DS, or take the TLSA records out"
        return [Finding("dane-unsigned", Severity.WARNING, name, text, "RFC 7672 section 2.2", fix)]
    usable = [record for record in map(parse_tlsa, records) if record is not None]
    if not usable:
        text = "no TLSA record is usable for SMTP (usage 2 or 3, RFC 7672 section 3.1)"
        fix = f"{name}. TLSA 3 1 1 (SHA-256 of the server's public key)"
        return [Finding("dane-record", Severity.WARNING, name, text, _WHY, fix)]
    if contact is None or not contact.chain:
        return [
            Finding("dane-unknown", Severity.INFO, name, "no certificate was seen to compare", unknown=True)
        ]
    if any(_named(record, contact.chain) for record in usable):
        return []
    wanted = digest(contact.chain[0], 1, 1)
    fix = f"{name}. TLSA 3 1 1 {wanted.hex() if wanted else '...'}"
    text = "no TLSA record names the certificate that the server shows"
    return [Finding("dane-mismatch", Severity.ERROR, name, text, _WHY, fix)]


def _named(record: Tlsa, chain: tuple[bytes, ...]) -> bool:
    return any(record.matches(one) for one in (chain[:1] if record.usage == 3 else chain))
