"""Listings as events with a beginning and an end, the health of zones, and how far the sweep is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store import rows
from agent.store.database import upsert
from agent.store.tables import listings, zones
from probes.blocklists.check import Listing

Pair = tuple[str, str]
"""A subject and a zone."""

SWEEP = "blocklist-sweep"
DELISTED, UNWATCHED = "delisted", "unwatched"


@dataclass(frozen=True, slots=True)
class OpenListing:
    """A listing that has not ended: its codes as last seen, and whether the list's own reason is known."""

    since: float
    codes: tuple[str, ...]
    txt: str


def open_listings(conn: Connection) -> dict[Pair, OpenListing]:
    """Every listing that has not ended."""
    columns = (listings.c.subject, listings.c.zone, listings.c.since, listings.c.codes, listings.c.txt)
    query = sa.select(*columns).where(listings.c.delisted_at.is_(None))
    return {(r[0], r[1]): OpenListing(r[2], tuple(r[3]), r[4]) for r in conn.execute(query)}


def note_listing(conn: Connection, listing: Listing, now: float) -> bool:
    """Keeps what was found of one pair. True where that is a listing or a delisting: an event."""
    query = sa.select(listings.c.since, listings.c.txt).where(
        listings.c.subject == listing.subject,
        listings.c.zone == listing.zone,
        listings.c.delisted_at.is_(None),
    )
    known = conn.execute(query).first()
    if listing.listed is None or (known is None and not listing.listed):
        return False
    if known is None:
        row = {"subject": listing.subject, "zone": listing.zone, "since": now, **_facts(listing, now, "")}
        conn.execute(sa.insert(listings).values(**row))
        return True
    same = sa.and_(
        listings.c.subject == listing.subject, listings.c.zone == listing.zone, listings.c.since == known[0]
    )
    changes = _facts(listing, now, known[1]) if listing.listed else {"delisted_at": now, "ended": DELISTED}
    conn.execute(sa.update(listings).where(same).values(**changes))
    return not listing.listed


def _facts(listing: Listing, now: float, txt: str) -> Mapping[str, object]:
    return {
        "last_seen": now,
        "codes": list(listing.codes),
        "meaning": listing.meaning,
        "txt": listing.txt or txt,
        "severity": listing.severity.value,
        "delist_url": listing.delist_url,
    }


def end_unwatched(conn: Connection, gone: Collection[Pair], now: float) -> None:
    """Ends listings that nobody looks at any more: whether they still stand is not known."""
    for subject, zone in gone:
        conn.execute(
            sa.update(listings)
            .where(listings.c.subject == subject, listings.c.zone == zone, listings.c.delisted_at.is_(None))
            .values(delisted_at=now, ended=UNWATCHED)
        )


@dataclass(frozen=True, slots=True)
class ZoneState:
    """A zone through one resolver: whether its answers count, why not, and what it said, in counts."""

    healthy: bool
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


def set_zone(conn: Connection, zone: str, resolver: str, state: ZoneState, now: float) -> None:
    """Writes a zone's health; `since` moves only where the health has changed."""
    known = conn.execute(
        sa.select(zones.c.healthy, zones.c.since).where(zones.c.zone == zone, zones.c.resolver == resolver)
    ).first()
    since = known[1] if known and bool(known[0]) == state.healthy else now
    upsert(
        conn,
        zones,
        ["zone", "resolver"],
        {
            "zone": zone,
            "resolver": resolver,
            "healthy": state.healthy,
            "reason": state.reason,
            "since": since,
            "swept_at": now,
            "counts": dict(state.counts),
        },
    )


def keep_zones(conn: Connection, names: Collection[str], resolvers: Collection[str]) -> None:
    """Forgets zones that are not asked any more, or not through these resolvers."""
    for zone, resolver in conn.execute(sa.select(zones.c.zone, zones.c.resolver)).all():
        if zone not in names or resolver not in resolvers:
            drop_zone(conn, zone, [resolver])


def drop_zone(conn: Connection, zone: str, resolvers: Sequence[str]) -> None:
    """Forgets a zone's health through these resolvers."""
    conn.execute(sa.delete(zones).where(zones.c.zone == zone, zones.c.resolver.in_(resolvers)))


def zone_rows(conn: Connection) -> list[Mapping[str, Any]]:
    """The health of every zone through every resolver it was asked through."""
    query = sa.select(zones).order_by(zones.c.zone, zones.c.swept_at)
    return [dict(row) for row in conn.execute(query).mappings()]


@dataclass(frozen=True, slots=True)
class SweepState:
    """The sweep that runs or ran last. ended_at: None while it is under way; cursor: where to take it up;
    faults: subjects that could not be looked at, with the reason."""

    started_at: float
    ended_at: float | None
    resolver: str
    done: int = 0
    total: int = 0
    listed: int = 0
    unknown: int = 0
    faults: Mapping[str, str] = field(default_factory=dict)
    cursor: Mapping[str, object] = field(default_factory=dict)


def set_sweep(conn: Connection, state: SweepState) -> None:
    """Writes how far the sweep is."""
    rows.set_setting(conn, SWEEP, {name: getattr(state, name) for name in SweepState.__slots__})


def sweep(conn: Connection) -> SweepState | None:
    """The sweep that runs or ran last; None before the first."""
    found = cast("dict[str, Any] | None", rows.setting(conn, SWEEP))
    return SweepState(**found) if found and set(found) == set(SweepState.__slots__) else None
