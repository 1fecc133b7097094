"""Drift: what changed between two looks at the same records. Pure; "could not look" is never a change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from probes.dns import DnsAnswer

Key = tuple[str, str]  # name, type


@dataclass(frozen=True, slots=True)
class Seen:
    """What one or more servers say of a name and type.

    records: sorted; servers: who says so; others: what servers that disagree say. A split is no change: it is
    waited for until all agree again.
    """

    records: tuple[str, ...]
    ttl: float
    servers: tuple[str, ...] = ()
    others: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A record that is not what it was. expected: announced beforehand, to be recorded and not alerted."""

    name: str
    rdtype: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    ttl: float
    servers: tuple[str, ...]
    expected: bool = False


def fold(answers: Iterable[DnsAnswer]) -> Seen | None:
    """One view of the answers of several servers to one question; None where none could be had.

    The answer that most servers give counts; the rest is told in `others`.
    """
    said: dict[tuple[str, ...], list[DnsAnswer]] = {}
    for answer in answers:
        if answer.status.conclusive:
            said.setdefault(tuple(sorted(answer.records)), []).append(answer)
    if not said:
        return None
    records, givers = max(said.items(), key=lambda item: (len(item[1]), item[0]))
    servers = tuple(sorted(a.nameserver for a in givers))
    others = tuple(sorted(other for other in said if other != records))
    return Seen(records, min(a.ttl for a in givers), servers, others)


def changes(
    before: Mapping[Key, Seen],
    now: Mapping[Key, Seen | None],
    expected: Callable[[str, str, tuple[str, ...]], bool] = lambda name, rdtype, records: False,
) -> tuple[list[Change], dict[Key, Seen]]:
    """The changes, and what to remember for the next look.

    What could not be seen, and what servers disagree about, keeps its former state. expected: whether a
    change of this name and type to these records was announced. The first look at a name is no change.
    """
    found: list[Change] = []
    kept = dict(before)
    for key, seen in now.items():
        if seen is None or (seen.others and key in before):
            continue
        former = before.get(key)
        if former is not None and former.records != seen.records:
            planned = expected(*key, seen.records)
            found.append(Change(*key, former.records, seen.records, seen.ttl, seen.servers, planned))
        kept[key] = seen
    return found, kept
