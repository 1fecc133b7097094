"""What is kept, and for how long. Old rows go in small transactions: nobody waits for a long one."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.tables import canaries, listings, outbox, record_events, rounds, sightings, transitions
from agent.store.verdicts import first_id

MOST = 500
"""Rows of a kind that go in one transaction: it holds up this agent's writes for about 20 ms."""


def expire(conn: Connection, now: float, results: float, messages: float, most: int = MOST) -> bool:
    """Deletes results older than `results` seconds and kept headers older than `messages` seconds, at most
    so many rows of a kind. True where there is more: call it again.

    What is still open is never deleted, however old; announced changes are an audit trail and stay.
    """
    old = now - results
    kept = sa.and_(sightings.c.seen_at < now - messages, sightings.c.header.is_not(None))
    gone = [_of(conn, sa.update(sightings).values(header=None), sightings, kept, most)]
    for table, expired in _expired(old):
        gone.append(_of(conn, sa.delete(table), table, expired, most))
    return most in gone


def _expired(old: float) -> list[tuple[sa.Table, sa.ColumnElement[bool]]]:
    # Ids grow with time: the oldest rows are the first of the table.
    oldest = canaries.c.id < first_id(old)
    return [
        (sightings, sightings.c.canary < first_id(old)),  # with their canaries
        (canaries, sa.and_(oldest, canaries.c.due_at.is_(None))),
        (rounds, sa.and_(rounds.c.started_at < old, rounds.c.ended_at.is_not(None))),
        (transitions, transitions.c.at < old),
        (record_events, record_events.c.at < old),
        (listings, listings.c.delisted_at < old),
        (outbox, sa.and_(outbox.c.created_at < old, outbox.c.due_at.is_(None))),
    ]


def _of(conn: Connection, change: Any, table: sa.Table, where: sa.ColumnElement[bool], most: int) -> int:
    keys = list(table.primary_key.columns)
    some = sa.select(*keys).where(where).limit(most)
    chosen = keys[0].in_(some) if len(keys) == 1 else sa.tuple_(*keys).in_(some)
    return int(conn.execute(change.where(chosen)).rowcount)
