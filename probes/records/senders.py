"""Sending addresses: PTR and FCrDNS, HELO, and what the domain's SPF says of them (RFC 1912, 5321, 7208)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from probes.authentication.spf import check_spf
from probes.dns import DnsStatus, Resolver
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look

_PTR_WHY = "Gmail, Yahoo and Microsoft refuse or junk mail from addresses whose name and address do not agree"
_HELO_WHY = (
    "receivers score a HELO name that is not the sender's own; some refuse it (RFC 5321 section 4.1.4)"
)


@dataclass(frozen=True, slots=True)
class SendingHost:
    """An address that mail leaves from. helo: the name it greets with, "" where not known; return_path:
    domain of its envelope sender, "" for the domain that is looked at.
    """

    address: str
    helo: str = ""
    return_path: str = ""


async def check_senders(
    domain: str, senders: Iterable[SendingHost], resolver: Resolver, spf: bool = True
) -> list[Finding]:
    """Every fault of every sending address. spf: whether the domain has an SPF record to evaluate."""
    findings: list[Finding] = []
    for sender in senders:
        named = sender.helo.strip("[]").rstrip(".").lower()
        host = named if "." in named and named[-1].isalpha() else f"mail.{domain}"
        findings += await _check_name(sender.address, host, resolver)
        if sender.helo and not sender.helo.startswith("["):
            findings += await _check_helo(sender, resolver)
        if spf and sender.return_path in ("", domain):
            findings += await _check_spf(domain, sender, resolver)
    return findings


async def _check_spf(domain: str, sender: SendingHost, resolver: Resolver) -> list[Finding]:
    found = await check_spf(sender.address, f"postmaster@{domain}", sender.helo or domain, resolver)
    if found.result == "temperror":
        text = f"SPF of {sender.address} could not be evaluated: {found.detail}"
        return [Finding("spf-unknown", Severity.INFO, domain, text, unknown=True)]
    if found.result in ("pass", "permerror"):  # what makes a permerror is told by the survey of the record
        return []
    kind = "ip6" if ":" in sender.address else "ip4"
    text = f"mail from {sender.address} gets SPF {found.result}: {found.detail}"
    why = "the sender's own mail fails SPF; Gmail, Yahoo and Microsoft want it to pass"
    record = found.tree.record if found.tree else ""
    fix = _allowing(record, domain, f"{kind}:{sender.address}")
    return [Finding("spf-sender", Severity.ERROR, domain, text, why, fix)]


def _allowing(record: str, domain: str, term: str) -> str:
    """The record with one more term, before its end."""
    terms = record.split() or ["v=spf1", "-all"]
    end = next((i for i, t in enumerate(terms) if t.lstrip("+-~?").lower() == "all"), len(terms))
    return f'{domain}. TXT "{" ".join([*terms[:end], term, *terms[end:]])}"'


async def _check_helo(sender: SendingHost, resolver: Resolver) -> list[Finding]:
    address = ip_address(sender.address)
    rdtype = "A" if address.version == 4 else "AAAA"
    name = sender.helo.rstrip(".").lower()
    answer = await resolver.query(name, rdtype)
    if not answer.status.conclusive:
        return [could_not_look("helo-unknown", answer)]
    if any(ip_address(record) == address for record in answer.records):
        return []
    text = f"{sender.address} greets as {name}, which "
    text += f"is {', '.join(answer.records[:3])}" if answer.records else "has no address"
    return [
        Finding("helo-unconfirmed", Severity.WARNING, name, text, _HELO_WHY, f"{name}. {rdtype} {address}")
    ]


async def _check_name(text: str, host: str, resolver: Resolver) -> list[Finding]:
    """host: the name it should have, where it has none."""
    address = ip_address(text)
    reverse = address.reverse_pointer
    answer = await resolver.query(reverse, "PTR")
    if not answer.status.conclusive:
        return [could_not_look("ptr-unknown", answer)]
    rdtype = "A" if address.version == 4 else "AAAA"
    if not answer.records:
        fix = f"{reverse}. PTR {host}. (ask the address's owner), and {host}. {rdtype} {text}"
        return [Finding("ptr-missing", Severity.ERROR, reverse, f"{text} has no name", _PTR_WHY, fix)]
    silent = None
    for name in answer.records[:10]:
        forward = await resolver.query(name.rstrip("."), rdtype)
        if forward.status is DnsStatus.OK and any(ip_address(r) == address for r in forward.records):
            return []
        silent = silent or (None if forward.status.conclusive else forward)
    if silent is not None:
        return [could_not_look("ptr-unknown", silent)]
    what = f"{text} is named {answer.records[0]}, which does not lead back to it"
    first = answer.records[0].rstrip(".")
    return [Finding("ptr-unconfirmed", Severity.ERROR, reverse, what, _PTR_WHY, f"{first}. {rdtype} {text}")]
