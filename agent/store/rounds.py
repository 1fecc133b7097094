"""Rounds and announced changes as they are remembered: who, when, what, verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.tables import changes, rounds

RUNNING, DONE, CANCELLED = "running", "done", "cancelled"


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One round.

    key: the caller's idempotency key; kind: probe, before, after or watch; state: running, done, cancelled;
    params: what was asked for; held: route to why it was not sent; around: by sender; verdict: the
    assessment, once it has ended.
    """

    id: str
    kind: str
    who: str
    started_at: float
    params: Mapping[str, Any]
    key: str | None = None
    state: str = RUNNING
    ended_at: float | None = None
    held: Mapping[str, str] = field(default_factory=dict)
    around: Mapping[str, Any] = field(default_factory=dict)
    outcome: str | None = None
    verdict: Mapping[str, Any] | None = None

    @property
    def routes(self) -> list[str]:
        """The routes it covers."""
        return list(self.params.get("routes", ()))

    @property
    def count(self) -> int:
        """Canaries a route, at most."""
        return int(self.params.get("count", 1))


def insert_round(conn: Connection, row: RoundRow) -> None:
    """Remembers a new round."""
    conn.execute(sa.insert(rounds).values({name: getattr(row, name) for name in RoundRow.__slots__}))


def get_round(conn: Connection, round_id: str) -> RoundRow | None:
    """One round by id."""
    return _round(conn, rounds.c.id == round_id)


def round_by_key(conn: Connection, key: str) -> RoundRow | None:
    """The round that was asked for with that idempotency key."""
    return _round(conn, rounds.c.key == key)


def running_rounds(conn: Connection) -> list[RoundRow]:
    """Rounds that have not ended, oldest first."""
    query = sa.select(rounds).where(rounds.c.state == RUNNING).order_by(rounds.c.started_at)
    return [RoundRow(**row) for row in conn.execute(query).mappings()]


def update_round(conn: Connection, round_id: str, **values: object) -> bool:
    """Changes a round that has not ended. False where it has, or is not there."""
    where = (rounds.c.id == round_id, rounds.c.state == RUNNING)
    return conn.execute(sa.update(rounds).where(*where).values(**values)).rowcount == 1


def free_key(conn: Connection, round_id: str) -> None:
    """The round was cancelled: its key may be used again."""
    conn.execute(sa.update(rounds).where(rounds.c.id == round_id).values(key=None))


def passed_before(conn: Connection, at: float, limit: int = 20) -> list[RoundRow]:
    """Rounds that passed and had begun before then, newest first."""
    query = sa.select(rounds).where(rounds.c.outcome == "pass", rounds.c.started_at < at)
    query = query.order_by(rounds.c.started_at.desc()).limit(limit)
    return [RoundRow(**row) for row in conn.execute(query).mappings()]


def _round(conn: Connection, where: sa.ColumnElement[bool]) -> RoundRow | None:
    row = conn.execute(sa.select(rounds).where(where)).mappings().first()
    return RoundRow(**row) if row else None


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One announced change.

    state: starting (the state before is being recorded), open, finished; ends_at: when its window ends;
    params: which routes are probed; silence: id of the silence that mutes record drift; verdict: the last
    assessment beside the state before; watch: what `change watch` saw, oldest first.
    """

    id: str
    title: str
    who: str
    started_at: float
    ends_at: float
    params: Mapping[str, Any]
    state: str = "starting"
    finished_at: float | None = None
    before_round: str | None = None
    after_round: str | None = None
    silence: int | None = None
    outcome: str | None = None
    verdict: Mapping[str, Any] | None = None
    watch: list[Mapping[str, Any]] = field(default_factory=list)


def insert_change(conn: Connection, row: ChangeRow) -> None:
    """Remembers a new change."""
    conn.execute(sa.insert(changes).values({name: getattr(row, name) for name in ChangeRow.__slots__}))


def update_change(conn: Connection, change_id: str, **values: object) -> None:
    """Writes what has become of a change."""
    conn.execute(sa.update(changes).where(changes.c.id == change_id).values(**values))


def list_changes(conn: Connection, limit: int = 100) -> list[ChangeRow]:
    """The changes, newest first."""
    query = sa.select(changes).order_by(changes.c.started_at.desc()).limit(limit)
    return [ChangeRow(**row) for row in conn.execute(query).mappings()]


def count_open(conn: Connection) -> int:
    """Changes that are announced and not finished."""
    query = sa.select(sa.func.count()).select_from(changes).where(changes.c.state == "open")
    return int(conn.execute(query).scalar_one())


def get_change(conn: Connection, change_id: str) -> ChangeRow | None:
    """One change by id."""
    row = conn.execute(sa.select(changes).where(changes.c.id == change_id)).mappings().first()
    return ChangeRow(**row) if row else None
