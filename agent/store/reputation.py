"""Listings as events with a beginning and an end, the health of zones, and how far the sweep is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store import rows
from agent.store.database import upsert
from agent.store.tables import listings, settings, zones
from agent.store.views import Views, differ, heard, stands, to_json, views_of, words, worst
from probes.blocklists.check import Listing
from probes.outcome import Severity

Pair = tuple[str, str]
"""A subject and a zone."""

SWEEP = "blocklist-sweep/"
DELISTED, UNWATCHED = "delisted", "unwatched"


@dataclass(frozen=True, slots=True)
class OpenListing:
    """A listing that has not ended, as one resolver sees it: what it last said (None: never anything), with
    which codes, and when it was asked last."""

    said: bool | None
    codes: tuple[str, ...]
    asked_at: float = 0.0


def open_listings(conn: Connection, resolver: str) -> dict[Pair, OpenListing]:
    """Every listing that has not ended, as the resolver sees it."""
    columns = (listings.c.subject, listings.c.zone, listings.c.codes, listings.c.views)
    query = sa.select(*columns).where(listings.c.delisted_at.is_(None))
    return {(r[0], r[1]): _seen(r[2], views_of(r[3]), resolver) for r in conn.execute(query)}


def _seen(codes: Sequence[str], views: Views, resolver: str) -> OpenListing:
    if not views:  # of an earlier version, which asked one resolver
        return OpenListing(True, tuple(codes))
    mine = views.get(resolver)
    return OpenListing(mine.listed, mine.codes, mine.asked_at) if mine else OpenListing(None, ())


@dataclass(frozen=True, slots=True)
class Told:
    """What is to be told of a pair. event: that it is listed has just begun or ended."""

    listed: bool
    event: bool
    severity: Severity
    reason: str
    delist_url: str


def note_listing(conn: Connection, listing: Listing, resolver: str, now: float, every: float) -> Told | None:
    """Keeps what one resolver says of one pair. None where that is nothing new.

    every: seconds between sweeps.
    """
    query = sa.select(listings).where(
        listings.c.subject == listing.subject,
        listings.c.zone == listing.zone,
        listings.c.delisted_at.is_(None),
    )
    known = conn.execute(query.with_for_update()).mappings().first()
    if known is None:
        return _begin(conn, listing, resolver, now, every) if listing.listed else None
    before = views_of(known["views"])
    views = heard(before, resolver, listing, now, every)
    changes: dict[str, Any] = {"views": to_json(views)}
    goes_on = stands(views, now, every)
    if not goes_on:
        changes |= {"delisted_at": now, "ended": DELISTED}
    elif listing.listed:
        grave = listing.severity.rank >= worst(views, but=resolver)
        changes |= _facts(listing, now, known["txt"]) if grave else {"last_seen": now}
    same = (listings.c.subject == listing.subject, listings.c.zone == listing.zone)
    conn.execute(sa.update(listings).where(*same, listings.c.since == known["since"]).values(**changes))
    if goes_on and not listing.listed and words(before) == words(views):
        return None
    return _told({**known, **changes}, views, goes_on, event=not goes_on)


def _begin(conn: Connection, listing: Listing, resolver: str, now: float, every: float) -> Told:
    views = heard({}, resolver, listing, now, every)
    row = {"since": now, "views": to_json(views), **_facts(listing, now, "")}
    conn.execute(sa.insert(listings).values(subject=listing.subject, zone=listing.zone, **row))
    return _told(row, views, listed=True, event=True)


def _told(row: Mapping[str, Any], views: Views, listed: bool, *, event: bool) -> Told:
    reason = str(row["txt"] or row["meaning"])
    if listed and differ(views):
        reason = f"resolvers disagree ({words(views)}): {reason}"
    return Told(listed, event, Severity(row["severity"]), reason, str(row["delist_url"]))


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


def keep_zones(
    conn: Connection, mine: Collection[str], others: Collection[str], resolvers: Collection[str]
) -> None:
    """Forgets zones that nobody asks any more, and of `mine` what was said through other resolvers.

    others: zones that are in other parts; resolvers: those of all agents.
    """
    for zone, resolver in conn.execute(sa.select(zones.c.zone, zones.c.resolver)).all():
        if zone not in others and not (zone in mine and resolver in resolvers):
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


def set_sweep(conn: Connection, chunk: str, state: SweepState) -> None:
    """Writes how far the sweep of a part is."""
    rows.set_setting(conn, SWEEP + chunk, {name: getattr(state, name) for name in SweepState.__slots__})


def drop_sweep(conn: Connection, chunk: str) -> None:
    """Forgets a part that has no zones any more."""
    conn.execute(sa.delete(settings).where(settings.c.key == SWEEP + chunk))


def sweep_of(conn: Connection, chunk: str) -> SweepState | None:
    """The sweep of a part that runs or ran last; None before the first."""
    return _state(rows.setting(conn, SWEEP + chunk))


def sweep(conn: Connection) -> SweepState | None:
    """The sweep that runs or ran last, all parts together; None before the first."""
    query = sa.select(settings.c.value).where(settings.c.key.startswith(SWEEP, autoescape=True))
    parts = [state for value in conn.execute(query).scalars() if (state := _state(value)) is not None]
    if not parts:
        return None
    ends = [part.ended_at for part in parts]
    running = [part.started_at for part in parts if part.ended_at is None]
    return SweepState(
        started_at=min(running) if running else min(part.started_at for part in parts),
        ended_at=None if running else max(end for end in ends if end is not None),
        resolver=", ".join(sorted({part.resolver for part in parts if part.resolver})),
        done=sum(part.done for part in parts),
        total=sum(part.total for part in parts),
        listed=sum(part.listed for part in parts),
        unknown=sum(part.unknown for part in parts),
        faults={name: fault for part in parts for name, fault in part.faults.items()},
    )


def _state(found: Any) -> SweepState | None:
    return SweepState(**found) if found and set(found) == set(SweepState.__slots__) else None
