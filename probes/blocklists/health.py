"""Zone health before trust: the controls of RFC 5782 section 5, asked of each zone in the same sweep.

A zone that does not list what it must, or lists what it must not, or cannot be reached, is quarantined: its
answers say nothing. Where most zones fail alike the resolver is at fault, and no zone is blamed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from probes.blocklists.catalogue import Kind, Zone
from probes.blocklists.judge import Reason, judge_codes, refusal_in
from probes.blocklists.query import controls
from probes.dns import DnsAnswer, DnsStatus, Resolver

TOGETHER = 3  # zones of different operators failing alike from which the resolver is suspected


@dataclass(frozen=True, slots=True)
class ZoneHealth:
    """Whether a zone's answers count, for one kind of subject and one resolver.

    reason: None for a healthy zone. nameserver: who answered the controls. negative_ttl: seconds for which
    the zone's "not listed" holds. denial: how it says that of an address, None where either way is right.
    """

    zone: str
    kind: Kind
    reason: Reason | None
    text: str = ""
    nameserver: str = ""
    negative_ttl: float = 0.0
    denial: DnsStatus | None = None

    @property
    def healthy(self) -> bool:
        """True where the zone listed what it must and nothing else."""
        return self.reason is None


def _fault(zone: Zone, answer: DnsAnswer) -> tuple[Reason, str] | None:
    """What is wrong with an answer that has records, whichever point was asked."""
    text = refusal_in(zone, answer.records)
    if text:
        return Reason.QUERY_REFUSED, text + (f"; {zone.remedy}" if zone.remedy else "")
    if judge_codes(zone, answer.records).reason is Reason.OUTSIDE_LOOPBACK:
        codes = ", ".join(answer.records[:3])
        return Reason.ZONE_BROKEN, f"a control was answered with {codes}, outside 127/8: parked, or rewritten"
    return None


def assess(zone: Zone, listed: Sequence[DnsAnswer], clean: Sequence[DnsAnswer]) -> tuple[Reason | None, str]:
    """The state of a zone from the answers to its controls. Pure. The first clean answer is RFC 5782's."""
    for answer in (*clean, *listed):
        fault = _fault(zone, answer) if answer.status is DnsStatus.OK else None
        if fault is not None:
            return fault
    for answer in clean:
        if answer.status is DnsStatus.OK:
            return Reason.ZONE_LISTS_THE_WORLD, "it lists what no list may list: nothing it says can be used"
    positive = any(answer.status is DnsStatus.OK for answer in listed)
    if clean[0].alias:
        return Reason.ZONE_BROKEN, f"its clean control is an alias of {clean[0].alias}, which has no address"
    if positive and clean[0].status.conclusive:
        return None, ""
    silent = [a for a in (*listed, clean[0]) if not a.status.conclusive]
    if silent and (not positive or not clean[0].status.conclusive):
        return Reason.ZONE_UNREACHABLE, f"its controls got no answer: {silent[0].status}"
    return Reason.ZONE_DEAD, "it does not list the test entry every list must have: empty, dead or refusing"


async def examine(zone: Zone, kind: Kind, resolver: Resolver, nonce: str = "") -> ZoneHealth:
    """Asks a zone's controls and says whether its answers count."""
    if zone.needs_key:
        return ZoneHealth(zone.name, kind, Reason.KEY_MISSING, f"{zone.name} is asked under a customer's key")
    points = controls(zone, kind, nonce)
    answers = await asyncio.gather(*(resolver.query(n, "A") for n in (*points.listed, *points.clean)))
    listed, clean = answers[: len(points.listed)], answers[len(points.listed) :]
    reason, text = assess(zone, listed, clean)
    servers = {a.nameserver for a in answers if a.status.conclusive}
    if reason is None and len(servers) > 1:
        reason, text = Reason.RESOLVER, "its controls were answered by different servers"
    shown = zone.without_key(text)
    denial = None if kind is Kind.DOMAIN else clean[0].status
    return ZoneHealth(zone.name, kind, reason, shown, min(servers, default=""), clean[0].ttl, denial)


def suspect_resolver(healths: Iterable[ZoneHealth]) -> list[ZoneHealth]:
    """The same list; where most zones fail for one reason at once, it is laid at the resolver's door."""
    found = list(healths)
    counted = [h for h in found if h.reason is not Reason.KEY_MISSING]
    operators = {".".join(h.zone.split(".")[-2:]) for h in counted}
    reasons = Counter(h.reason for h in counted if h.reason is not None)
    if len(operators) < TOGETHER or not reasons:
        return found
    reason, failing = reasons.most_common(1)[0]
    if failing < TOGETHER or failing < 0.8 * len(counted):
        return found
    text = f"{failing} of {len(counted)} zones failed alike, so the resolver is at fault: "
    return [
        replace(h, reason=Reason.RESOLVER, text=text + h.text) if h.reason is reason else h for h in found
    ]
