"""Listings and zone health as text for people and as JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from agent.forms.cells import clean
from probes.blocklists.catalogue import Zone
from probes.blocklists.check import Listing
from probes.blocklists.health import ZoneHealth
from probes.blocklists.judge import Reason

Said = Mapping[tuple[str, str], Mapping[str, Listing]]
"""By subject and zone: what each nameserver that was asked said."""


def _disagreement(listing: Listing, said: Said) -> str:
    """Who says what of a pair, "" where all say the same."""
    views = said.get((listing.subject, listing.zone), {})
    if len({one.listed for one in views.values()}) < 2:
        return ""
    words = ((_WORDS[one.listed] if one.listed is not None else one.reason.value) for one in views.values())
    return "; ".join(f"{word.lower()} through {name}" for name, word in zip(views, words, strict=True))


def listing_json(listing: Listing, said: Said) -> str:
    """One listing as a JSON line."""
    return json.dumps(
        {
            "schema": "mailcanary.blocklist/1",
            "subject": listing.subject,
            "zone": listing.zone,
            "outcome": listing.outcome,
            "listed": listing.listed,
            "reason": listing.reason,
            "codes": listing.codes,
            "meaning": listing.meaning,
            "category": listing.category,
            "severity": listing.severity,
            "delist_url": listing.delist_url or None,
            "txt": listing.txt,
            "disagreement": _disagreement(listing, said),
        },
        ensure_ascii=False,
    )


_WORDS = {True: "LISTED", False: "not listed", None: "unknown"}
_ORDER = {True: 0, None: 1, False: 2}


def listing_table(found: Sequence[Listing], said: Said) -> Iterable[str]:
    """The listings, worst first, in columns; then a sum."""
    rows = sorted(found, key=lambda item: (_ORDER[item.listed], -item.severity.rank, item.subject, item.zone))
    cells = []
    for item in rows:
        codes = f" [{' '.join(item.codes)}]" if item.codes else ""
        why = "" if item.reason is Reason.NOT_LISTED else f"{item.meaning}{codes}"
        word = item.reason.value if item.listed is None else _WORDS[item.listed]
        cells.append((item.subject, item.zone, word, why))
    yield from _columns(("SUBJECT", "ZONE", "VERDICT", "WHY"), cells)
    for item in rows:
        if item.listed:
            yield clean(f"\n{item.subject} in {item.zone} ({item.severity}): {item.txt or item.meaning}")
            if item.delist_url:
                yield clean(f"  delisting: {item.delist_url}")
            if words := _disagreement(item, said):
                yield clean(f"  resolvers disagree: {words}")
    counts = {word: sum(item.listed is value for item in found) for value, word in _WORDS.items()}
    yield "\n" + ", ".join(f"{count} {word}" for word, count in counts.items())


def _columns(head: tuple[str, ...], cells: Sequence[tuple[str, ...]]) -> Iterable[str]:
    widths = [max(len(row[i]) for row in (head, *cells)) for i in range(len(head) - 1)]
    for row in (head, *cells):
        left = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=False))
        yield f"{left}  {row[-1]}".rstrip()


def zone_json(zones: Sequence[Zone], healths: Mapping[str, list[ZoneHealth]]) -> Iterable[str]:
    for zone in zones:
        for health in healths[zone.name]:
            yield json.dumps(
                {
                    "schema": "mailcanary.blocklist-zone/1",
                    "zone": zone.name,
                    "kind": health.kind,
                    "title": zone.title,
                    "status": zone.status,
                    "enabled": zone.enabled,
                    "healthy": health.healthy,
                    "reason": health.reason or "healthy",
                    "meaning": health.text,
                    "registration": zone.registration,
                    "terms": zone.terms,
                    "source": zone.source,
                    "checked": zone.checked,
                }
            )


def zone_table(zones: Sequence[Zone], healths: Mapping[str, list[ZoneHealth]]) -> Iterable[str]:
    cells = [
        (
            zone.name,
            health.kind,
            "on" if zone.enabled else "off",
            zone.status,
            health.reason or "healthy",
            health.text,
        )
        for zone in zones
        for health in healths[zone.name]
    ]
    return _columns(("ZONE", "KIND", "USED", "KNOWN AS", "HEALTH", "WHY"), cells)


class Progress:
    """A counter on one line of a terminal; silent elsewhere."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal

    def __call__(self, done: int, total: int) -> None:
        if self._terminal and (done % 20 == 0 or done == total):
            sys.stderr.write(f"\r{done} of {total} asked ")
            sys.stderr.flush()

    def close(self) -> None:
        """Clears the line."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
