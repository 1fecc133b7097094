"""Drift: what changed between two looks at the same records. Pure; "could not look" is never a change.

A change that the zone's own servers tell counts at once. One that only a resolver tells counts when it tells
it twice running: it may be the resolver's own fault. Servers that disagree keep the former state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from probes.authentication.spf_record import is_spf
from probes.dns import DnsAnswer

Key = tuple[str, str]  # name, type
Records = tuple[str, ...]
Expected = Callable[[str, str, Records], bool]
"""(name, type, records) -> whether that change was announced."""

SPLIT_LOOKS = 2
"""Looks at which servers disagree before it is a fault: for a while it is only a transfer under way."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one or more servers say of a name and type. records: sorted; servers: who says so; others: what
    servers that disagree say; direct: the zone's own servers were asked.
    """

    records: Records
    ttl: float = 0.0
    servers: tuple[str, ...] = ()
    others: tuple[Records, ...] = ()
    direct: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a name and type. baseline: what it is meant to be; pending: what a resolver said
    once; split: looks in a row at which servers disagreed.
    """

    records: Records
    baseline: Records
    pending: Records | None = None
    split: int = 0

    @property
    def bad(self) -> bool:
        """Whether it is not what it is meant to be, or servers have long disagreed."""
        return self.records != self.baseline or self.split >= SPLIT_LOOKS


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a record.

    kind: change, rollback (to what it is meant to be), accepted (announced after it was seen), split
    (servers disagree), agreed (no longer); expected: announced, to be recorded and not alerted.
    """

    kind: str
    name: str
    rdtype: str
    before: Records
    after: Records
    ttl: float = 0.0
    servers: tuple[str, ...] = ()
    others: tuple[Records, ...] = ()
    expected: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """events: in the order of the records; known: to be remembered; repaired: keys no longer bad."""

    events: list[Event] = field(default_factory=list)
    known: dict[Key, Known] = field(default_factory=dict)
    repaired: list[Key] = field(default_factory=list)


_BY_TYPE = {
    "MX": "mx",
    "A": "mx",
    "AAAA": "mx",
    "PTR": "ptr",
    "NS": "ns",
    "DS": "dnssec",
    "TLSA": "dane",
    "POLICY": "mta-sts",
}
_BY_LABEL = {"_dmarc": "dmarc", "_mta-sts": "mta-sts", "_smtp": "tls-rpt", "default": "bimi"}


def kind_of(name: str, rdtype: str) -> str:
    """The kind of record (finding.KINDS) that a watched name and type is."""
    if "._domainkey." in name:
        return "dkim"
    return _BY_TYPE.get(rdtype) or (_BY_LABEL.get(name.partition(".")[0], "spf") if "_" in name else "spf")


def relevant(name: str, records: Iterable[str], rdtype: str) -> Records:
    """The records that mail depends on, sorted: of the texts at a domain itself its SPF record alone."""
    if rdtype == "TXT" and "_" not in name:
        records = (text for text in records if is_spf(text))
    return tuple(sorted(records))


def fold(answers: Iterable[DnsAnswer], direct: bool = True) -> Seen | None:
    """One view of the answers of several servers to one question; None where none could be had.

    The answer that most servers give counts; the rest is told in `others`.
    """
    said: dict[Records, list[DnsAnswer]] = {}
    for answer in answers:
        if answer.status.conclusive:
            said.setdefault(relevant(answer.name, answer.records, answer.rdtype), []).append(answer)
    if not said:
        return None
    records, givers = max(said.items(), key=lambda item: (len(item[1]), item[0]))
    servers = tuple(sorted({a.nameserver for a in givers if a.nameserver}))
    others = tuple(sorted(other for other in said if other != records))
    return Seen(records, min(a.ttl for a in givers), servers, others, direct)


def compare(
    known: Mapping[Key, Known],
    now: Mapping[Key, Seen | None],
    expected: Expected = lambda name, rdtype, records: False,
) -> Comparison:
    """What happened since the last look. The first look at a record is no event; one no longer watched is
    forgotten.
    """
    found = Comparison()
    for key, seen in now.items():
        former = known.get(key)
        if seen is None:
            after = former
        elif former is None:
            after = Known(seen.records, seen.records) if not seen.others else None
        else:
            after = _step(key, former, seen, expected, found.events)
        if after is not None:
            found.known[key] = after
    found.repaired.extend(
        key
        for key, former in known.items()
        if former.bad and (key not in found.known or not found.known[key].bad)
    )
    return found


def _step(key: Key, former: Known, seen: Seen, expected: Expected, events: list[Event]) -> Known:
    if seen.others:
        if not former.split:
            events.append(_event("split", key, former.records, seen.records, seen))
        return replace(former, split=former.split + 1)
    if former.split:
        events.append(_event("agreed", key, former.records, seen.records, seen))
        former = replace(former, split=0)
    if seen.records == former.records:
        return _unchanged(key, replace(former, pending=None), seen, expected, events)
    if not seen.direct and former.pending != seen.records:
        return replace(former, pending=seen.records)
    return _changed(key, former, seen, expected, events)


def _unchanged(key: Key, former: Known, seen: Seen, expected: Expected, events: list[Event]) -> Known:
    if former.records == former.baseline or not expected(*key, former.records):
        return former
    events.append(_event("accepted", key, former.baseline, former.records, seen, True))
    return replace(former, baseline=former.records)


def _changed(key: Key, former: Known, seen: Seen, expected: Expected, events: list[Event]) -> Known:
    back = seen.records == former.baseline
    planned = not back and expected(*key, seen.records)
    events.append(_event("rollback" if back else "change", key, former.records, seen.records, seen, planned))
    return Known(seen.records, seen.records if planned else former.baseline)


def _event(kind: str, key: Key, before: Records, after: Records, seen: Seen, expected: bool = False) -> Event:
    return Event(kind, *key, before, after, seen.ttl, seen.servers, seen.others, expected)
