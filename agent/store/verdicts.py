"""Verdicts of canaries, for the gauges of the routes: filled at the start, never asked for by a scrape."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Connection

from agent.store.tables import canaries
from probes.outcome import Outcome

Route = tuple[str, str]
"""Sender and seed."""
TOGETHER = 10_000
"""Routes asked for in one query."""
PAGE = 10_000
"""Verdicts read in one query."""
VerdictRow = tuple[str, str, Outcome, str, float, float | None]
"""sender, seed, outcome, reason, created, and when it was seen where it should be."""


def first_id(at: float) -> str:
    """Ids grow with time (canaries.id_of): what was made since then is not below this one."""
    return f"{int(max(at, 0.0) * 1000):012x}"


def verdicts_since(conn: Connection, since: float) -> Iterator[Sequence[VerdictRow]]:
    """The verdicts of canaries made since then, newest first, in pages: an hour may hold millions."""
    c = canaries.c
    query = sa.select(c.id, c.sender, c.seed, c.outcome, c.reason, c.created_at, c.seen_at)
    query = query.where(c.id >= first_id(since), c.created_at >= since, c.outcome.is_not(None))
    query = query.order_by(c.id.desc()).limit(PAGE)
    rows = conn.execute(query).all()
    while rows:
        yield [_verdict(*row) for row in rows]
        rows = conn.execute(query.where(c.id < rows[-1][0])).all() if len(rows) == PAGE else []


def _verdict(
    _id: str, sender: str, seed: str, outcome: str, reason: str, created: float, seen: float | None
) -> VerdictRow:
    found = Outcome(outcome)
    return sender, seed, found, reason, created, seen if found is Outcome.PASS else None


def older(conn: Connection, than: float) -> bool:
    """Whether there is a canary made before then."""
    query = sa.select(canaries.c.id).where(canaries.c.id < first_id(than)).limit(1)
    return conn.execute(query).first() is not None


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
    c = canaries.c
    sender, seed, given = _ROUTES[conn.dialect.name]
    query = sa.select(wanted).where(c.sender == sender, c.seed == seed, *where)
    newest = sa.select(sender, seed, query.order_by(c.created_at.desc()).limit(1).scalar_subquery())
    for start in range(0, len(routes), TOGETHER):
        for of_sender, of_seed, value in conn.execute(newest, given(routes[start : start + TOGETHER])):
            if value is not None:
                yield (of_sender, of_seed), value


def _as_arrays(routes: Sequence[Route]) -> dict[str, Any]:
    return {"of_senders": [sender for sender, _ in routes], "of_seeds": [seed for _, seed in routes]}


def _as_text(routes: Sequence[Route]) -> dict[str, Any]:
    return {"of_routes": json.dumps(routes)}


def _unnested() -> Any:
    names = (sa.bindparam(name, type_=ARRAY(sa.Text())) for name in ("of_senders", "of_seeds"))
    return sa.func.unnest(*names).table_valued("sender", "seed").render_derived(name="route").c


def _each() -> Any:
    return sa.func.json_each(sa.bindparam("of_routes", type_=sa.Text())).table_valued("value").c.value


_ARRAY, _EACH = _unnested(), _each()
# Routes as a table within a query, however many: its columns, and how they are given.
_ROUTES: dict[str, tuple[Any, Any, Callable[[Sequence[Route]], dict[str, Any]]]] = {
    "postgresql": (_ARRAY.sender, _ARRAY.seed, _as_arrays),
    "sqlite": (sa.func.json_extract(_EACH, "$[0]"), sa.func.json_extract(_EACH, "$[1]"), _as_text),
}


def last_loop(conn: Connection, now: float) -> tuple[float, float] | None:
    """When the newest canary of the last day that was read back was sent, and when it was read."""
    c = canaries.c
    query = sa.select(c.accepted_at, c.seen_at).where(c.id >= first_id(now - 86400.0), c.accepted_at <= now)
    query = query.where(c.seen_at.is_not(None)).order_by(c.id.desc()).limit(1)
    row = conn.execute(query).first()
    return (row[0], row[1]) if row else None
