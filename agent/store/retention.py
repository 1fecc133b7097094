"""What is kept, and for how long."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store import records
from agent.store.tables import canaries, listings, outbox, rounds, sightings, transitions


def expire(conn: Connection, now: float, results: float, messages: float) -> None:
    """Deletes results older than `results` seconds and kept headers older than `messages` seconds.

    What is still open is never deleted, however old; announced changes are an audit trail and stay.
    """
    conn.execute(
        sa.update(sightings)
        .where(sightings.c.seen_at < now - messages, sightings.c.header.is_not(None))
        .values(header=None)
    )
    old = now - results
    conn.execute(sa.delete(sightings).where(sightings.c.seen_at < old))
    # Ids grow with time: the oldest rows are the first of the table.
    oldest = canaries.c.id < f"{int(max(old, 0.0) * 1000):012x}"
    conn.execute(sa.delete(canaries).where(oldest, canaries.c.due_at.is_(None)))
    conn.execute(sa.delete(rounds).where(rounds.c.started_at < old, rounds.c.ended_at.is_not(None)))
    conn.execute(sa.delete(transitions).where(transitions.c.at < old))
    records.expire_events(conn, old)
    conn.execute(sa.delete(listings).where(listings.c.delisted_at < old))
    conn.execute(sa.delete(outbox).where(outbox.c.created_at < old, outbox.c.due_at.is_(None)))
