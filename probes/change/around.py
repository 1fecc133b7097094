"""What surrounds a sender's mail at the time of a round: its listings, records, keys and addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from probes.change.difference import Difference
from probes.outcome import Severity


@dataclass(frozen=True, slots=True)
class Trouble:
    """One listing, or one fault of a record.

    fix: what to publish or where to go; kind: of record, a closed word (spf, ptr, helo, mta-sts, ...).
    """

    severity: Severity
    what: str
    fix: str = ""
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Around:
    """What was looked up for one sender.

    listings: "subject in zone" to what the zone says; faults: "kind name" to the record's fault; keys: the
    DKIM key name in use to its state ("found 1a2b3c4d", "no-key", ...); records: "TXT name" to its text;
    unknown: what could not be looked up.
    """

    listings: Mapping[str, Trouble] = field(default_factory=dict)
    faults: Mapping[str, Trouble] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    records: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; `around_from_json` reads it back."""
        return {
            "listings": {name: _trouble_json(t) for name, t in self.listings.items()},
            "faults": {name: _trouble_json(t) for name, t in self.faults.items()},
            "keys": dict(self.keys),
            "records": dict(self.records),
            "unknown": list(self.unknown),
        }


def _trouble_json(trouble: Trouble) -> dict[str, str]:
    return {f.name: str(getattr(trouble, f.name)) for f in fields(trouble)}


def around_from_json(data: Mapping[str, Any]) -> Around:
    """Reads what `Around.to_json` wrote. Raises KeyError, TypeError, ValueError."""

    def troubles(name: str) -> dict[str, Trouble]:
        return {
            str(key): Trouble(
                Severity(one["severity"]), str(one["what"]), str(one.get("fix", "")), str(one.get("kind", ""))
            )
            for key, one in dict(data.get(name, {})).items()
        }

    return Around(
        listings=troubles("listings"),
        faults=troubles("faults"),
        keys={str(key): str(value) for key, value in dict(data.get("keys", {})).items()},
        records={str(key): str(value) for key, value in dict(data.get("records", {})).items()},
        unknown=tuple(str(line) for line in data.get("unknown", ())),
    )


def compare_around(before: Around | None, after: Around) -> list[Difference]:
    """What changed around a sender, the worst first.

    Without a before, a listing fails by itself; a record's fault is only told, for it may be older than the
    change. What could not be looked up at either time is never a difference.
    """
    known = before or Around()
    found = [*_listings(known, after), *_faults(before, after), *_changed(known, after)]
    return sorted(found, key=lambda d: -d.severity.rank)


def _listings(before: Around, after: Around) -> Iterable[Difference]:
    for name, trouble in after.listings.items():
        if name not in before.listings:
            words = f"listed: {name} ({trouble.what})" if trouble.what else f"listed: {name}"
            yield Difference("listing", "not listed", "listed", words, Severity.ERROR, trouble.fix)
    for name in before.listings:
        if name not in after.listings and name not in after.unknown:
            yield Difference("listing", "listed", "not listed", f"delisted: {name}", Severity.INFO)


def _faults(before: Around | None, after: Around) -> Iterable[Difference]:
    for name, trouble in after.faults.items():
        if before is not None and name in before.faults:
            continue
        code, _, record = name.partition(" ")
        worst = Severity.ERROR if before is not None else Severity.WARNING
        severity = min(trouble.severity, worst, key=lambda s: s.rank)
        words = f"{record}: {trouble.what}"
        was = "in order" if before is not None else "not known"
        yield Difference(trouble.kind, was, code, words, severity, trouble.fix)
    for name, trouble in before.faults.items() if before else ():
        if name not in after.faults and not _unseen(name, after):
            words = f"{name.partition(' ')[2]}: in order again ({trouble.what})"
            yield Difference(trouble.kind, name.partition(" ")[0], "in order", words, Severity.INFO)


def _unseen(fault: str, after: Around) -> bool:
    record = fault.partition(" ")[2]
    return any(record and record in line for line in after.unknown)


def _changed(before: Around, after: Around) -> Iterable[Difference]:
    for name, old in before.records.items():
        new = after.records.get(name)
        if new is not None and new != old:
            words = f"{name}: {old or '(none)'} -> {new or '(none)'}"
            yield Difference("record", old, new, words, Severity.INFO)
    for name, old in before.keys.items():
        new = after.keys.get(name)
        if new is not None and new != old:
            yield Difference("key", old, new, f"{name}: {old} -> {new}", Severity.INFO)
