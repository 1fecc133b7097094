"""Listings as events with a beginning and an end, and the health of zones as the last sweep found it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.database import upsert
from agent.store.tables import listings, zones
from probes.blocklists.check import Listing


def note_listing(conn: Connection, listing: Listing, now: float) -> bool:
    """Keeps what a sweep found of one pair. True where that is a listing or a delisting: an event."""
    query = sa.select(listings.c.since).where(
        listings.c.subject == listing.subject,
        listings.c.zone == listing.zone,
        listings.c.delisted_at.is_(None),
    )
    since = conn.execute(query).scalar()
    facts = {
        "last_seen": now,
        "codes": list(listing.codes),
        "meaning": listing.meaning,
        "txt": listing.txt,
        "severity": listing.severity.value,
        "delist_url": listing.delist_url,
    }
    if listing.listed and since is None:
        row = {"subject": listing.subject, "zone": listing.zone, "since": now, **facts}
        conn.execute(sa.insert(listings).values(**row))
        return True
    if since is None:
        return False
    same = sa.and_(
        listings.c.subject == listing.subject, listings.c.zone == listing.zone, listings.c.since == since
    )
    if listing.listed:
        conn.execute(sa.update(listings).where(same).values(**facts))
        return False
    conn.execute(sa.update(listings).where(same).values(delisted_at=now))
    return True


@dataclass(slots=True)
class ZoneCounts:
    """What a sweep found in one zone: counts, and the first reason why something is unknown."""

    listed: int = 0
    not_listed: int = 0
    unknown: int = 0
    reason: str = ""

    def add(self, listing: Listing) -> None:
        """Counts one pair."""
        if listing.listed is None:
            self.unknown += 1
            self.reason = self.reason or f"{listing.reason}: {listing.meaning}"
        elif listing.listed:
            self.listed += 1
        else:
            self.not_listed += 1


def set_zone(conn: Connection, zone: str, resolver: str, counts: ZoneCounts, now: float) -> None:
    """Writes a zone's health; `since` moves only where the health has changed."""
    healthy = counts.unknown == 0
    known = conn.execute(
        sa.select(zones.c.healthy, zones.c.since).where(zones.c.zone == zone, zones.c.resolver == resolver)
    ).first()
    since = known[1] if known and bool(known[0]) == healthy else now
    upsert(
        conn,
        zones,
        ["zone", "resolver"],
        {
            "zone": zone,
            "resolver": resolver,
            "healthy": healthy,
            "reason": "" if healthy else counts.reason,
            "since": since,
            "swept_at": now,
            "counts": {
                "listed": counts.listed,
                "not_listed": counts.not_listed,
                "unknown": counts.unknown,
            },
        },
    )
