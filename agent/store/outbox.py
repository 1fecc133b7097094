"""Notifications that wait for delivery: alerts.outbox.OutboxStore over SQL, each method one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.database import Database, insert_new
from agent.store.tables import alerts, outbox
from alerts import notification as notifications
from alerts.notification import Notification
from alerts.outbox import OutboxItem

_waiting = outbox.c.due_at.is_not(None)


def add(conn: Connection, told: Iterable[Notification], now: float) -> None:
    """Stores notifications in the transaction of the alert's change; one whose id is known is ignored."""
    for one in told:
        conn.execute(
            insert_new(outbox)
            .inline()
            .values(
                id=one.id,
                dedup_key=one.dedup_key,
                receiver=one.receiver,
                created_at=now,
                due_at=max(now, one.not_before),
                leased_until=0.0,
                attempts=0,
                error="",
                body=notifications.to_json(one),
            )
        )


def release(conn: Connection, receiver: str) -> None:
    """Frees what an agent that is gone had leased: only for who holds the receiver, when it takes it."""
    leased = (_waiting, outbox.c.leased_until > 0, outbox.c.receiver == receiver)
    conn.execute(sa.update(outbox).where(*leased).values(leased_until=0.0))


def backlog(conn: Connection) -> dict[str, int]:
    """How many notifications wait, by receiver."""
    query = sa.select(outbox.c.receiver, sa.func.count()).where(_waiting).group_by(outbox.c.receiver)
    return dict(conn.execute(query).all())


def _heads(receiver: str, now: float) -> sa.Select[Any]:
    """The oldest unsent row of each key, where it is due and not leased."""
    older = outbox.alias()
    before = (
        sa.select(older.c.seq)
        .where(
            older.c.receiver == outbox.c.receiver,
            older.c.dedup_key == outbox.c.dedup_key,
            older.c.due_at.is_not(None),
            older.c.seq < outbox.c.seq,
        )
        .exists()
    )
    return sa.select(outbox).where(
        outbox.c.receiver == receiver, outbox.c.due_at <= now, outbox.c.leased_until <= now, ~before
    )


class SqlOutbox:
    """OutboxStore on the agent's database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim_due(self, receiver: str, now: float, limit: int, lease: float) -> Sequence[OutboxItem]:
        """See OutboxStore."""
        if not await self.count_due(receiver, now):
            return []

        def claim(conn: Connection) -> list[OutboxItem]:
            # What another agent is claiming is passed over; what is behind it in its key is no head.
            query = _heads(receiver, now).order_by(outbox.c.due_at).limit(limit)
            query = query.with_for_update(skip_locked=True, of=outbox)
            rows = conn.execute(query).mappings().all()
            ids = [row["seq"] for row in rows]
            conn.execute(sa.update(outbox).where(outbox.c.seq.in_(ids)).values(leased_until=now + lease))
            return [_item(row) for row in rows]

        return await self._database.write(lambda tx: claim(tx.conn))

    async def count_due(self, receiver: str, now: float) -> int:
        """See OutboxStore."""
        query = sa.select(sa.func.count()).select_from(_heads(receiver, now).subquery())
        return await self._database.read(lambda conn: int(conn.execute(query).scalar_one()))

    async def mark_sent(self, ids: Sequence[str], at: float) -> None:
        """See OutboxStore."""
        await self._set(ids, sent_at=at, due_at=None)

    async def reschedule(self, ids: Sequence[str], due_at: float, error: str) -> None:
        """See OutboxStore."""
        attempts = outbox.c.attempts + (1 if error else 0)
        await self._set(ids, due_at=due_at, leased_until=0.0, attempts=attempts, error=error)

    async def give_up(self, ids: Sequence[str], at: float, error: str) -> None:
        """See OutboxStore."""
        await self._set(ids, gave_up_at=at, due_at=None, error=error or "given up")

    async def _set(self, ids: Sequence[str], **values: object) -> None:
        statement = sa.update(outbox).where(outbox.c.id.in_(ids)).values(**values)
        await self._database.write(lambda tx: tx.conn.execute(statement) and None)

    async def was_sent(self, receiver: str, dedup_key: str) -> bool:
        """See OutboxStore."""
        query = sa.select(outbox.c.seq).where(
            outbox.c.receiver == receiver,
            outbox.c.dedup_key == dedup_key,
            outbox.c.sent_at.is_not(None),
        )
        return await self._database.read(lambda conn: conn.execute(query).first() is not None)

    async def needs_escalation(self, dedup_key: str) -> bool:
        """See OutboxStore."""
        query = sa.select(alerts.c.body).where(alerts.c.key == dedup_key, alerts.c.status == "firing")
        row = await self._database.read(lambda conn: conn.execute(query).first())
        return row is not None and row[0].get("acked_at") is None and not row[0].get("muted")


def _item(row: Any) -> OutboxItem:
    return OutboxItem(
        row["id"],
        notifications.from_json(row["body"]),
        row["created_at"],
        row["due_at"],
        row["attempts"],
        row["error"],
    )
