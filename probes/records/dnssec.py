"""DNSSEC state of a zone: its DS at the parent against its own keys and signatures (RFC 4034, RFC 4035).

Judged from the zone's own servers, so that it works behind a resolver that does not validate.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import dns.asyncquery
import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.node
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
from dns.dnssectypes import DSDigest

from probes.clock import Clock
from probes.dns import Resolver
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look
from probes.records.servers import Zone

SECONDS = 4.0
SOON = 3 * 86400.0
"""Seconds before the end of a signature at which it should have been renewed."""

_WHY = "receivers that validate cannot look anything up: to them the domain does not exist"

AskSigned = Callable[[str, str, str], Awaitable[dns.message.Message | None]]
"""(address of a server, name, type) -> its answer with signatures, None where there is none."""


@dataclass(frozen=True, slots=True)
class DnssecState:
    """state: unsigned, signed, bogus or unknown; until: when the first signature over the keys ends."""

    state: str
    findings: list[Finding] = field(default_factory=list)
    until: float | None = None

    @property
    def signed(self) -> bool | None:
        """None where that is not known."""
        return {"unsigned": False, "signed": True, "bogus": True}.get(self.state)


async def ask_signed(address: str, name: str, rdtype: str) -> dns.message.Message | None:
    """Asks one server for records with their signatures."""
    question = dns.message.make_query(name, rdtype, want_dnssec=True, payload=1232)
    try:
        answer, _ = await dns.asyncquery.udp_with_fallback(question, address, timeout=SECONDS)
    except (dns.exception.DNSException, OSError, EOFError, ValueError):
        return None
    return answer


async def check_dnssec(
    zone: Zone, resolver: Resolver, clock: Clock, ask: AskSigned = ask_signed
) -> DnssecState:
    """Whether the zone is signed, and whether its chain of trust holds."""
    answer = await resolver.query(zone.apex, "DS")
    if not answer.status.conclusive:
        return DnssecState("unknown", [could_not_look("dnssec-unknown", answer)])
    if not answer.records:
        return DnssecState("unsigned")
    messages = [await ask(address, zone.apex, "DNSKEY") for _, address in zone.servers[:3]]
    found = next((message for message in messages if message is not None), None)
    if found is None:
        text = "the zone is signed, and none of its servers shows us its keys"
        return DnssecState(
            "unknown", [Finding("dnssec-unknown", Severity.INFO, zone.apex, text, unknown=True)]
        )
    return _judge(zone.apex, answer.records, found, clock.wall())


def _judge(apex: str, parent: Iterable[str], found: dns.message.Message, now: float) -> DnssecState:
    name = dns.name.from_text(apex)
    keys = _rrset(found, name, dns.rdatatype.DNSKEY)
    signatures = _rrset(found, name, dns.rdatatype.RRSIG)
    if not keys:
        return _bogus("dnssec-keys", apex, "the parent has a DS record, and the zone has no key")
    trusted = [key for key in keys if _in_parent(name, key, parent)]
    if not trusted:
        text = "no key of the zone is the one that the DS record at the parent names"
        return _bogus("dnssec-ds", apex, text)
    if not signatures:
        return _bogus("dnssec-signature", apex, "the keys of the zone are not signed")
    anchors: dict[dns.name.Name, dns.node.Node | dns.rdataset.Rdataset] = {
        name: dns.rrset.from_rdata_list(name, 0, trusted)
    }
    try:
        dns.dnssec.validate(keys, signatures, anchors, now=now)
    except dns.exception.ValidationFailure as error:
        return _bogus("dnssec-signature", apex, f"no signature over the zone's keys holds: {error}")
    return _ends(apex, min(float(rdata.expiration) for rdata in signatures), now)


def _ends(apex: str, until: float, now: float) -> DnssecState:
    findings = []
    if until < now + SOON:
        fix = "see that the signer runs and that its zones reach the servers"
        text = f"signatures end in {max(0.0, until - now) / 3600:.0f} hours and are not renewed"
        findings.append(Finding("dnssec-soon", Severity.WARNING, apex, text, _WHY, fix))
    return DnssecState("signed", findings, until)


def _bogus(code: str, apex: str, text: str) -> DnssecState:
    fix = (
        "sign the zone anew with the key that the DS names, or replace the DS at the registrar; if in haste, "
    )
    fix += "take the DS out"
    return DnssecState("bogus", [Finding(code, Severity.CRITICAL, apex, text, _WHY, fix)])


def _rrset(
    message: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    covers = dns.rdatatype.DNSKEY if rdtype == dns.rdatatype.RRSIG else dns.rdatatype.NONE
    return message.get_rrset(message.answer, name, dns.rdataclass.IN, rdtype, covers)


def _in_parent(name: dns.name.Name, key: dns.rdata.Rdata, parent: Iterable[str]) -> bool:
    for text in parent:
        try:
            ds = dns.rdata.from_text("IN", "DS", text)
            algorithm = DSDigest.from_text(text.split()[2])
            made = dns.dnssec.make_ds(name, key, algorithm, validating=True)
        except (dns.exception.DNSException, ValueError, AttributeError):
            continue
        if made == ds:
            return True
    return False
