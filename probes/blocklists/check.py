"""A lookup of a few subjects in a few zones, with the zones' controls asked before and after.

For hundreds of thousands of pairs there is `probes.blocklists.sweep`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from probes.blocklists.catalogue import Kind, Zone
from probes.blocklists.health import ZoneHealth, examine, suspect_resolver
from probes.blocklists.judge import Reason, Verdict, judge, unknown
from probes.blocklists.query import Subject, questions
from probes.dns import DnsAnswer, DnsStatus, Resolver
from probes.outcome import Outcome, Severity

MAX_TXT = 500  # characters of a list's own reason that are kept

Progress = Callable[[int, int], None]
HealthMap = Mapping[tuple[str, Kind], ZoneHealth]
_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True)
class Listing:
    """What one zone says of one subject. listed: None where that is unknown; txt: the list's own words."""

    subject: str
    zone: str
    outcome: Outcome
    listed: bool | None
    reason: Reason
    codes: tuple[str, ...] = ()
    meaning: str = ""
    category: str = ""
    severity: Severity = Severity.INFO
    delist_url: str = ""
    txt: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """One subject and one zone to ask."""

    subject: Subject
    zone: Zone


def plan(subjects: Iterable[Subject], zones: Iterable[Zone]) -> tuple[list[Pair], list[Pair]]:
    """The pairs to ask, and those that cannot be: the zone does not take this kind of subject."""
    every = [Pair(s, z) for s, z in product(dict.fromkeys(subjects), {z.name: z for z in zones}.values())]
    asked = [pair for pair in every if pair.subject.kind in pair.zone.kinds]
    return asked, [pair for pair in every if pair.subject.kind not in pair.zone.kinds]


def telling(found: Sequence[Listing]) -> list[Listing]:
    """The listings without the pairs that cannot be asked, where both subject and zone have another pair."""
    asked = [item for item in found if item.reason is not Reason.NOT_APPLICABLE]
    subjects, zones = {item.subject for item in asked}, {item.zone for item in asked}
    return [
        item
        for item in found
        if item.reason is not Reason.NOT_APPLICABLE or item.subject not in subjects or item.zone not in zones
    ]


def listing(pair: Pair, verdict: Verdict, txt: str = "") -> Listing:
    """A verdict with the names and links of its pair."""
    return Listing(
        subject=pair.subject.text,
        zone=pair.zone.name,
        outcome=verdict.outcome,
        listed=verdict.listed,
        reason=verdict.reason,
        codes=verdict.codes,
        meaning=pair.zone.without_key(verdict.meaning),
        category=verdict.category,
        severity=verdict.severity,
        delist_url=pair.zone.delist,
        txt=pair.zone.without_key(txt),
    )


async def check(
    subjects: Sequence[Subject],
    zones: Sequence[Zone],
    resolver: Resolver,
    *,
    txt: bool = True,
    in_flight: int = 200,
    progress: Progress | None = None,
    nonce: str | None = None,
) -> list[Listing]:
    """Asks every pair once, between two rounds of the zones' controls, all through one resolver.

    resolver: one without a cache, or the second round of controls proves nothing. txt: ask for the list's own
    reason where listed. in_flight: questions at a time. progress: called with (done, all). nonce: for tests.
    """
    asked, left = plan(subjects, zones)
    label = f"mc{secrets.token_hex(8)}" if nonce is None else nonce
    before = await health_of(asked, resolver, label, in_flight)
    ready = [pair for pair in asked if before[pair.zone.name, pair.subject.kind].healthy]
    found = await _ask_all(ready, resolver, in_flight, progress)
    after = await health_of(ready, resolver, label, in_flight)
    verdicts = {pair: _verdict(pair, found.get(pair, ()), before, after) for pair in asked}
    reasons = await _texts([p for p, v in verdicts.items() if txt and v.listed], resolver, in_flight)
    skipped = unknown(Reason.NOT_APPLICABLE, "the zone does not take this kind of subject")
    return [
        *(listing(pair, verdict, reasons.get(pair, "")) for pair, verdict in verdicts.items()),
        *(listing(pair, skipped) for pair in left),
    ]


async def health_of(
    pairs: Iterable[Pair], resolver: Resolver, nonce: str = "", in_flight: int = 200
) -> dict[tuple[str, Kind], ZoneHealth]:
    """The health of every zone that `pairs` name, for the kinds of subject they have."""
    wanted = list(dict.fromkeys((pair.zone, pair.subject.kind) for pair in pairs))

    async def one(item: tuple[Zone, Kind]) -> ZoneHealth:
        return await examine(item[0], item[1], resolver, nonce)

    healths = suspect_resolver((await _bounded(wanted, one, in_flight)).values())
    return {(h.zone, h.kind): h for h in healths}


async def _ask_all(
    pairs: Sequence[Pair], resolver: Resolver, in_flight: int, progress: Progress | None
) -> dict[Pair, tuple[DnsAnswer, ...]]:
    done = 0

    async def one(pair: Pair) -> tuple[DnsAnswer, ...]:
        nonlocal done
        names = questions(pair.subject, pair.zone)
        answers = tuple([await resolver.query(name, "A") for name in names])
        done += 1
        if progress is not None:
            progress(done, len(pairs))
        return answers

    return await _bounded(pairs, one, in_flight)


def _verdict(pair: Pair, answers: Sequence[DnsAnswer], before: HealthMap, after: HealthMap) -> Verdict:
    """A verdict counts only between two healthy rounds of controls from the server that gave the answer."""
    key = (pair.zone.name, pair.subject.kind)
    for health in (before[key], after.get(key)):
        if health is not None and health.reason is not None:
            return unknown(health.reason, health.text, _codes(answers))
    if any(a.status.conclusive and a.nameserver != before[key].nameserver for a in answers):
        return unknown(
            Reason.RESOLVER, "answered by another server than the zone's controls", _codes(answers)
        )
    verdicts = [judge(pair.zone, answer, before[key].denial) for answer in answers]
    for outcome in (Outcome.FAIL, Outcome.UNKNOWN):
        chosen = next((v for v in verdicts if v.outcome is outcome), None)
        if chosen is not None:
            return chosen
    return next((v for v in verdicts if v.codes), verdicts[0])


def _codes(answers: Sequence[DnsAnswer]) -> tuple[str, ...]:
    return tuple(code for answer in answers if answer.status is DnsStatus.OK for code in answer.records)


async def _texts(pairs: Sequence[Pair], resolver: Resolver, in_flight: int) -> dict[Pair, str]:
    """The list's own words for each listed pair; "" where it gives none. Never changes a verdict."""

    async def one(pair: Pair) -> str:
        for name in questions(pair.subject, pair.zone):
            answer = await resolver.query(name, "TXT")
            if answer.records:
                return printable(" ".join(answer.records))
        return ""

    return await _bounded(pairs, one, in_flight)


def printable(text: str) -> str:
    """A stranger's text on one line, without control characters, cut to MAX_TXT."""
    return "".join(c if c.isprintable() else " " for c in text[:MAX_TXT]).strip()


async def _bounded(
    items: Sequence[_Item], work: Callable[[_Item], Awaitable[_Found]], limit: int
) -> dict[_Item, _Found]:
    """Runs `work` over `items`, `limit` at a time."""
    found: dict[_Item, _Found] = {}
    queue = iter(items)

    async def hand() -> None:
        for item in queue:
            found[item] = await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(limit, len(items))):
            group.create_task(hand())
    return {item: found[item] for item in items}
