"""Whether mail exchangers can be reached, offer STARTTLS, and show a certificate that will do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from cryptography import x509

from probes.dns import Resolver
from probes.outcome import Severity
from probes.records.finding import Finding
from probes.records.reach import Contact, Reach

HOSTS_MAXIMUM = 5
SOON, NEAR = 10 * 86400.0, 20 * 86400.0
"""Seconds before the end of a certificate: a fault, and a note."""

_REACH_WHY = "mail waits at its senders, and bounces in the end"
_TLS_WHY = "mail crosses the net in plain text; Gmail marks it with an open padlock"


async def contact_all(hosts: Sequence[str], resolver: Resolver, reach: Reach) -> list[Contact]:
    """One contact for each mail exchanger that has an address, IPv4 first; the first few hosts only."""
    targets: list[tuple[str, str]] = []
    for host in hosts[:HOSTS_MAXIMUM]:
        answers = [await resolver.query(host, rdtype) for rdtype in ("A", "AAAA")]
        addresses = [record for answer in answers for record in answer.records]
        targets += [(host, address) for address in addresses[:1]]
    return list(await asyncio.gather(*(reach(host, address) for host, address in targets)))


def judge_contacts(contacts: Iterable[Contact], demanded: bool, now: float) -> list[Finding]:
    """The faults. demanded: a policy (MTA-STS enforce) forbids delivery without a good certificate.

    Silence is a fault only where another exchanger answered: our own network may not let port 25 out.
    """
    seen = list(contacts)
    way_out = any(contact.state != "silent" for contact in seen)
    return [finding for contact in seen for finding in _judge(contact, way_out, demanded, now)]


def _judge(contact: Contact, way_out: bool, demanded: bool, now: float) -> list[Finding]:
    host, where = contact.host, f"{contact.host} [{contact.address}]"
    if contact.state == "silent" and not way_out:
        text = f"{where} port 25 was not reached: {contact.detail}"
        return [Finding("mx-unknown", Severity.INFO, host, text, unknown=True)]
    if contact.state != "answered":
        text = f"{where} takes no connection on port 25: {contact.detail}"
        fix = "start the mail server, or open port 25 to it, or take the host out of the MX records"
        return [Finding("mx-unreachable", Severity.ERROR, host, text, _REACH_WHY, fix)]
    if not contact.extended:
        text = f"{where} answers, and does not go on with us: {contact.detail}"
        return [Finding("mx-unknown", Severity.INFO, host, text, unknown=True)]
    severity = Severity.ERROR if demanded else Severity.WARNING
    if not contact.starttls:
        fix = "switch STARTTLS on in the mail server, with a certificate for its name"
        return [Finding("mx-starttls", severity, host, f"{where} offers no STARTTLS", _TLS_WHY, fix)]
    if contact.tls_fault:
        text = f"{where} offers STARTTLS, and the handshake fails: {contact.tls_fault}"
        fix = "let the mail server speak TLS 1.2 and 1.3"
        return [Finding("mx-tls", severity, host, text, _TLS_WHY, fix)]
    return _certificate(contact, demanded, now)


def _certificate(contact: Contact, demanded: bool, now: float) -> list[Finding]:
    host, findings = contact.host, []
    severity = Severity.ERROR if demanded else Severity.WARNING
    why = "the MTA-STS policy forbids delivery to it" if demanded else "senders that verify do not trust it"
    leaf = _leaf(contact)
    if leaf is None:
        text = "the certificate cannot be read"
        return [Finding("mx-certificate", severity, host, text, why, "install another certificate")]
    if not contact.trusted:
        text = f"its certificate leads to no known authority: {contact.detail}"
        fix = f"a certificate for {host} of a public authority, sent with its intermediate certificates"
        level = severity if demanded else Severity.INFO  # without a policy nobody verifies it
        findings.append(Finding("mx-chain", level, host, text, why, fix))
    if not _is_for(leaf, host):
        text = f"its certificate is for {', '.join(_names(leaf)[:5]) or 'no name'}"
        fix = f"a certificate with the name {host}"
        findings.append(Finding("mx-name", severity, host, text, why, fix))
    return findings + _age(leaf, host, severity, why, now)


def _age(leaf: x509.Certificate, host: str, severity: Severity, why: str, now: float) -> list[Finding]:
    ends, begins = leaf.not_valid_after_utc.timestamp(), leaf.not_valid_before_utc.timestamp()
    day = datetime.fromtimestamp(ends, UTC).date().isoformat()
    fix = f"renew the certificate of {host}, and see that its renewal runs"
    if ends < now:
        return [Finding("mx-expired", severity, host, f"its certificate expired on {day}", why, fix)]
    if begins > now:
        return [Finding("mx-expired", severity, host, "its certificate is not valid yet", why, fix)]
    if ends < now + NEAR:
        level = Severity.WARNING if ends < now + SOON else Severity.INFO
        return [Finding("mx-expires", level, host, f"its certificate expires on {day}", why, fix)]
    return []


def _leaf(contact: Contact) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(contact.chain[0])
    except (IndexError, ValueError):
        return None


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    return [name.lower() for name in found.get_values_for_type(x509.DNSName)]


def _is_for(leaf: x509.Certificate, host: str) -> bool:
    """RFC 6125 section 6.4: the name itself, or a wildcard for its first label."""
    name = host.lower().rstrip(".")
    return bool({name, f"*.{name.partition('.')[2]}"} & set(_names(leaf)))
