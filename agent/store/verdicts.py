"""Verdicts of canaries, for the gauges of the routes: filled at the start, never asked for by a scrape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.tables import canaries
from probes.outcome import Outcome

Route = tuple[str, str]
"""Sender and seed."""
TOGETHER = 400
"""Routes asked for in one query."""
VerdictRow = tuple[str, str, Outcome, str, float, float | None]
"""sender, seed, outcome, reason, created, and when it was seen where it should be."""


def first_id(at: float) -> str:
    """Ids grow with time (canaries.id_of): what was made since then is not below this one."""
    return f"{int(max(at, 0.0) * 1000):012x}"


def verdicts_since(conn: Connection, since: float) -> Iterator[VerdictRow]:
    """The verdicts of canaries made since then, oldest first."""
    c = canaries.c
    query = sa.select(c.sender, c.seed, c.outcome, c.reason, c.created_at, c.seen_at)
    query = query.where(c.id >= first_id(since), c.created_at >= since, c.outcome.is_not(None))
    query = query.order_by(c.created_at)
    for sender, seed, outcome, reason, created, seen in conn.execute(query):
        passed = outcome == Outcome.PASS.value
        yield sender, seed, Outcome(outcome), reason, created, seen if passed else None


def last_seen(conn: Connection, routes: Sequence[Route]) -> dict[Route, float]:
    """When the newest passing canary of each route was seen, seconds since the epoch; without those that had
    none."""
    c = canaries.c
    passed = (c.outcome == Outcome.PASS.value, c.seen_at.is_not(None))
    return dict(_newest(conn, routes, c.seen_at, *passed))


def newest_settled(conn: Connection, routes: Sequence[Route]) -> dict[Route, str]:
    """The id of the newest canary with an outcome of each route; without those that had none."""
    c = canaries.c
    return dict(_newest(conn, routes, c.id, c.outcome.is_not(None)))


def _newest(
    conn: Connection, routes: Sequence[Route], wanted: sa.Column[Any], *where: sa.ColumnElement[bool]
) -> Iterator[tuple[Route, Any]]:
    """One column of each route's newest canary that fits: a look into the index of routes for each, and not a
    walk through the history."""
    for start in range(0, len(routes), TOGETHER):
        some = sa.values(sa.column("sender", sa.String()), sa.column("seed", sa.String()), name="route")
        route = some.data(list(routes[start : start + TOGETHER])).cte()
        c = canaries.c
        query = sa.select(wanted).where(c.sender == route.c.sender, c.seed == route.c.seed, *where)
        newest = query.order_by(c.created_at.desc()).limit(1).scalar_subquery()
        for sender, seed, value in conn.execute(sa.select(route.c.sender, route.c.seed, newest)):
            if value is not None:
                yield (sender, seed), value


def last_loop(conn: Connection, now: float) -> tuple[float, float] | None:
    """When the newest canary of the last day that was read back was sent, and when it was read."""
    c = canaries.c
    query = sa.select(c.accepted_at, c.seen_at).where(c.id >= first_id(now - 86400.0), c.accepted_at <= now)
    query = query.where(c.seen_at.is_not(None)).order_by(c.id.desc()).limit(1)
    row = conn.execute(query).first()
    return (row[0], row[1]) if row else None
