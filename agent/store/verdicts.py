"""Verdicts of canaries, for the gauges of the routes: filled at the start, never asked for by a scrape."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.tables import canaries
from probes.outcome import Outcome

VerdictRow = tuple[str, str, Outcome, str, float, float | None]
"""sender, seed, outcome, reason, created, and when it was seen where it should be."""


def verdicts_since(conn: Connection, since: float) -> Iterator[VerdictRow]:
    """The verdicts of canaries made since then, oldest first."""
    c = canaries.c
    query = sa.select(c.sender, c.seed, c.outcome, c.reason, c.created_at, c.seen_at)
    query = query.where(c.created_at >= since, c.outcome.is_not(None)).order_by(c.created_at)
    for sender, seed, outcome, reason, created, seen in conn.execute(query):
        passed = outcome == Outcome.PASS.value
        yield sender, seed, Outcome(outcome), reason, created, seen if passed else None


def last_seen(conn: Connection, sender: str, seed: str) -> float | None:
    """When the route's newest passing canary was seen, seconds since the epoch."""
    c = canaries.c
    query = sa.select(c.seen_at).where(c.sender == sender, c.seed == seed, c.outcome == Outcome.PASS.value)
    query = query.where(c.seen_at.is_not(None)).order_by(c.created_at.desc()).limit(1)
    return cast("float | None", conn.execute(query).scalar())


def last_loop(conn: Connection, now: float) -> tuple[float, float] | None:
    """When the newest canary of the last day that was read back was sent, and when it was read."""
    c = canaries.c
    query = sa.select(c.accepted_at, c.seen_at).where(c.created_at >= now - 86400.0, c.accepted_at <= now)
    query = query.where(c.seen_at.is_not(None)).order_by(c.created_at.desc()).limit(1)
    row = conn.execute(query).first()
    return (row[0], row[1]) if row else None
