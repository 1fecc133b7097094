"""From a zone's answer to a verdict. Pure: no network, no clock.

An answer lists a subject only where it lies in 127/8, is no refusal, and the zone's table (or, without one,
RFC 5782) makes a listing of it. All else that is an answer is unknown: never listed, never clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from probes.blocklists.catalogue import Code, Meaning, Octets, Zone
from probes.dns import DnsAnswer, DnsStatus
from probes.outcome import Outcome, Severity


class Reason(StrEnum):
    """Why a pair has its verdict: a closed set, fit for a metric label."""

    LISTED = "listed"
    NOT_LISTED = "not-listed"
    ALLOW_LISTED = "allow-listed"
    NEUTRAL = "neutral"
    # what the answer to the pair itself left open
    TIMEOUT = "timeout"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    ERROR = "error"
    QUERY_REFUSED = "query-refused"
    OUTSIDE_LOOPBACK = "outside-127"
    UNKNOWN_CODE = "unknown-code"
    # what the zone's controls left open
    ZONE_DEAD = "zone-dead"
    ZONE_LISTS_THE_WORLD = "zone-lists-the-world"
    ZONE_BROKEN = "zone-broken"
    ZONE_UNREACHABLE = "zone-unreachable"
    RESOLVER = "resolver"
    # what never was asked
    KEY_MISSING = "key-missing"
    NOT_APPLICABLE = "not-applicable"


ASK_ELSEWHERE = frozenset(
    {
        Reason.TIMEOUT,
        Reason.SERVFAIL,
        Reason.REFUSED,
        Reason.ERROR,
        Reason.QUERY_REFUSED,
        Reason.ZONE_UNREACHABLE,
        Reason.RESOLVER,
    }
)
"""Reasons for which another nameserver may see what this one did not."""

_FAILED = {
    DnsStatus.TIMEOUT: (Reason.TIMEOUT, "the question was not answered in time"),
    DnsStatus.SERVFAIL: (Reason.SERVFAIL, "the resolver answered SERVFAIL"),
    DnsStatus.REFUSED: (Reason.REFUSED, "the resolver refuses the question (REFUSED)"),
    DnsStatus.ERROR: (Reason.ERROR, "the answer could not be used"),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one pair comes to. listed: None where that is unknown. codes: the A records as given."""

    outcome: Outcome
    listed: bool | None
    reason: Reason
    meaning: str = ""
    codes: tuple[str, ...] = ()
    category: str = ""
    severity: Severity = Severity.INFO


def unknown(reason: Reason, meaning: str, codes: tuple[str, ...] = ()) -> Verdict:
    """The verdict of whoever could not look."""
    return Verdict(Outcome.UNKNOWN, None, reason, meaning, codes)


def _octets(text: str) -> Octets | None:
    parts = text.split(".")
    if len(parts) != 4 or not all(p.isascii() and p.isdigit() and len(p) <= 3 for p in parts):
        return None
    first, second, third, last = (int(p) for p in parts)
    return (first, second, third, last)


def judge(zone: Zone, answer: DnsAnswer, denial: DnsStatus | None = None) -> Verdict:
    """The verdict of one answer from a zone that is known to be healthy.

    denial: how the zone says "not listed" of its clean control. Where that is NXDOMAIN, an address whose name
    exists without an A record was held back by somebody; a domain's name may exist for those below it.
    """
    failed = _FAILED.get(answer.status)
    if failed is not None:
        return unknown(failed[0], failed[1] + (f": {answer.detail}" if answer.detail else ""))
    if answer.status is not DnsStatus.OK:
        if answer.alias:
            return unknown(Reason.ERROR, f"the answer leads to {answer.alias}, which has no address")
        if answer.status is DnsStatus.NODATA and denial is DnsStatus.NXDOMAIN:
            return unknown(Reason.ERROR, "an empty answer: the zone says NXDOMAIN of what is not listed")
        return Verdict(Outcome.PASS, False, Reason.NOT_LISTED, "not listed")
    return judge_codes(zone, answer.records)


def judge_codes(zone: Zone, codes: Sequence[str]) -> Verdict:
    """The verdict of a set of A records. The worst doubt wins: one refusal makes the whole answer unknown."""
    given = tuple(sorted(codes, key=lambda c: (len(c), c)))
    parsed = [_octets(code) for code in given]
    if not parsed or any(o is None or o[0] != 127 for o in parsed):
        text = "an answer outside 127/8: the zone is parked, or somebody rewrites the resolver's answers"
        return unknown(Reason.OUTSIDE_LOOPBACK, text, given)
    octets = [o for o in parsed if o is not None]
    refusals = [text for o in octets if (text := refusal(zone, o))]
    if refusals:
        remedy = f"; {zone.remedy}" if zone.remedy else ""
        return unknown(Reason.QUERY_REFUSED, "; ".join(dict.fromkeys(refusals)) + remedy, given)
    rows = [row for o in octets for row in _rows(zone, o)]
    return _sum_up(zone, rows, given)


def refusal(zone: Zone, octets: Octets) -> str:
    """What the code says where it is no verdict but a refusal, "" where it is none."""
    for row in zone.errors:
        if row.matches(octets):
            return row.text
    if octets[:3] == (127, 255, 255):
        return "the list refuses the question (127.255.255.0/24)"
    if octets == (127, 0, 0, 1) and not zone.loopback_lists:
        return "127.0.0.1 is no listing (RFC 5782 section 2.3): the list, or the resolver, refuses"
    return ""


def refusal_in(zone: Zone, codes: Sequence[str]) -> str:
    """The first refusal among a zone's codes, "" where there is none."""
    octets = (_octets(code) for code in codes)
    return next((text for o in octets if o is not None and (text := refusal(zone, o))), "")


def _rows(zone: Zone, octets: Octets) -> list[Code]:
    """What the table says of one code; a code that no row knows is judged by the zone's `other`."""
    found = [row for row in zone.codes if row.matches(octets)]
    if found:
        return found
    inside = all(low <= octet <= high for octet, (low, high) in zip(octets, zone.span, strict=True))
    if zone.other is None or not inside:
        return []
    text = "listed" if not zone.codes else "listed, by a code that is not in the zone's published table"
    return [Code(zone.span, zone.other, text, severity=zone.severity)]


def _sum_up(zone: Zone, rows: list[Code], codes: tuple[str, ...]) -> Verdict:
    """Listed beats neutral beats allow; a code that nobody knows is unknown unless another one lists."""
    for says, outcome, reason in (
        (Meaning.LISTED, Outcome.FAIL, Reason.LISTED),
        (Meaning.NEUTRAL, Outcome.PASS, Reason.NEUTRAL),
        (Meaning.ALLOW, Outcome.PASS, Reason.ALLOW_LISTED),
    ):
        chosen = [row for row in rows if row.says is says]
        if not chosen or (outcome is Outcome.PASS and len(rows) < len(codes)):
            continue
        text = "; ".join(dict.fromkeys(row.text for row in chosen))
        category = ",".join(dict.fromkeys(row.category for row in chosen if row.category))
        listed = outcome is Outcome.FAIL
        severity = max((row.severity for row in chosen), key=lambda s: s.rank) if listed else Severity.INFO
        return Verdict(outcome, listed, reason, text, codes, category, severity)
    return unknown(Reason.UNKNOWN_CODE, f"{zone.name} publishes no meaning of this code", codes)
