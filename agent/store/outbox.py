"""Notifications that wait for delivery: alerts.outbox.OutboxStore over SQL, each method one transaction.

Every write checks that the receiver is still held in the life in which the item was claimed: who was given up
neither claims, nor marks, nor plans anew what others may have sent since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store import leases, members
from agent.store.database import Database, Tx, insert_new
from agent.store.leases import Lease
from agent.store.tables import alerts, outbox
from alerts import notification as notifications
from alerts.notification import Notification
from alerts.outbox import OutboxItem
from probes.errors import StaleWrite, StoreError

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
    """Frees what was leased and is not under way: only for who holds the receiver, when it takes it."""
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


@dataclass(frozen=True, slots=True)
class _Claim:
    """What an item was claimed under. lease: None where one process has the store to itself."""

    lease: Lease | None
    receiver: str
    dedup_key: str


def _fence(tx: Tx, lease: Lease | None) -> None:
    if lease is not None and lease not in tx.fences:
        members.check(tx.conn, lease.holder, lease.epoch)
        leases.check(tx.conn, [lease])
        tx.fences.add(lease)


def _again(conn: Connection, receiver: str, dedup_key: str, late: str) -> int:
    """The newest that was sent of a key is due again, where it is another than the late one and nothing newer
    waits behind it. Returns 1 or 0."""
    same = (outbox.c.receiver == receiver, outbox.c.dedup_key == dedup_key)
    query = sa.select(outbox.c.seq, outbox.c.id, outbox.c.sent_at, outbox.c.due_at).where(*same)
    rows = conn.execute(query.order_by(outbox.c.seq.desc())).all()
    last = next((row for row in rows if row.sent_at is not None or row.due_at is not None), None)
    if last is None or last.id == late or last.due_at is not None:
        return 0
    # It keeps when it was sent: for who asks, it was.
    again = sa.update(outbox).where(outbox.c.seq == last.seq)
    conn.execute(again.values(due_at=last.sent_at, leased_until=0.0, attempts=0))
    return 1


def _mend(conn: Connection, receiver: str, sent: Mapping[str, float]) -> None:
    for name, at in sent.items():
        waits = (outbox.c.id == name, outbox.c.due_at.is_not(None))
        conn.execute(sa.update(outbox).where(*waits).values(sent_at=at, due_at=None))
    release(conn, receiver)


class SqlOutbox:
    """OutboxStore on the agent's database. lease: by receiver, under which this agent delivers; raises
    StaleWrite where it does not.

    late: (receiver, dedup_key) to id of what was claimed in a life that ended before the outcome was written:
    it may have reached the receiver after what others have sent.

    A write whose answer was lost may have happened. The next claim for that receiver writes again what was
    sent, and frees what nobody delivers now.
    """

    def __init__(self, database: Database, lease: Callable[[str], Lease] | None = None) -> None:
        self._database = database
        self._lease = lease
        self._claims: dict[str, _Claim] = {}
        self._unsure: dict[str, dict[str, float]] = {}
        """By receiver, where the last write failed: what was sent all the same, and when."""
        self.late: dict[tuple[str, str], str] = {}

    async def claim_due(self, receiver: str, now: float, limit: int, lease: float) -> Sequence[OutboxItem]:
        """See OutboxStore."""
        if receiver not in self._unsure and not await self.count_due(receiver, now):
            return []
        held = self._lease(receiver) if self._lease is not None else None
        unsure = self._unsure.get(receiver)

        def claim(tx: Tx) -> list[OutboxItem]:
            _fence(tx, held)
            if unsure is not None:
                _mend(tx.conn, receiver, unsure)
            # What another agent is claiming is passed over; what is behind it in its key is no head.
            query = _heads(receiver, now).order_by(outbox.c.due_at).limit(limit)
            query = query.with_for_update(skip_locked=True, of=outbox)
            rows = tx.conn.execute(query).mappings().all()
            ids = [row["seq"] for row in rows]
            tx.conn.execute(sa.update(outbox).where(outbox.c.seq.in_(ids)).values(leased_until=now + lease))
            return [_item(row) for row in rows]

        with self._doubted(receiver):
            found = await self._database.write(claim)
        self._unsure.pop(receiver, None)
        self._claims |= {x.id: _Claim(held, receiver, x.notification.dedup_key) for x in found}
        return found

    @contextmanager
    def _doubted(self, receiver: str, sent: Mapping[str, float] | None = None) -> Iterator[None]:
        try:
            yield
        except StaleWrite:
            self._unsure.pop(receiver, None)  # another agent's now
            raise
        except StoreError:
            self._unsure.setdefault(receiver, {}).update(sent or {})
            raise

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
        claims = {name: claim for name in ids if (claim := self._claims.pop(name, None)) is not None}

        def write(tx: Tx) -> None:
            for claim in claims.values():
                _fence(tx, claim.lease)
            tx.conn.execute(statement)

        at = values.get("sent_at")
        sent = dict.fromkeys(ids, at) if isinstance(at, float) else {}
        try:
            with ExitStack() as doubts:
                for receiver in {claim.receiver for claim in claims.values()}:
                    doubts.enter_context(self._doubted(receiver, sent))
                await self._database.write(write)
        except StaleWrite:
            self.late |= {(claim.receiver, claim.dedup_key): name for name, claim in claims.items()}
            raise

    async def repeat_last_words(self, fence: Callable[[Tx], None]) -> int:
        """Has whoever delivers now say again what was said last of each key of which this agent may have
        spoken too late. Returns of how many. fence: refuses the write of who is no member."""
        late = dict(self.late)

        def repeat(tx: Tx) -> int:
            fence(tx)
            return sum(_again(tx.conn, *key, name) for key, name in late.items())

        found = await self._database.write(repeat) if late else 0
        self.late = {key: name for key, name in self.late.items() if key not in late}
        return found

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
