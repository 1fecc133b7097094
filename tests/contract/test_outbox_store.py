"""What every OutboxStore does. A store joins by adding its name and opener to STORES."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest
import sqlalchemy as sa

from agent.store.database import Database
from agent.store.outbox import SqlOutbox, add
from agent.store.schema import open_store
from agent.store.tables import alerts
from alerts.memory import MemoryOutbox
from alerts.notification import Action, Notification, Section
from alerts.outbox import OutboxStore
from probes.outcome import Severity

NOW = 1_800_000_000.0


class Room(Protocol):
    """A store under test, and how its owner puts notifications in and alerts on."""

    store: OutboxStore

    async def add(self, *notifications: Notification) -> None: ...

    async def open(self, dedup_key: str) -> None: ...


class MemoryRoom:
    """The reference."""

    def __init__(self) -> None:
        self.store = MemoryOutbox()

    async def add(self, *notifications: Notification) -> None:
        self.store.add(notifications, NOW)

    async def open(self, dedup_key: str) -> None:
        self.store.open_keys.add(dedup_key)


@asynccontextmanager
async def _memory(request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    yield MemoryRoom()


class SqlRoom:
    """The agent's own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.store = SqlOutbox(database)

    async def add(self, *notifications: Notification) -> None:
        await self._database.write(lambda tx: add(tx.conn, notifications, NOW))

    async def open(self, dedup_key: str) -> None:
        row = {"key": dedup_key, "status": "firing", "severity": "error", "title": "", "body": {}}
        await self._database.write(
            lambda tx: tx.conn.execute(sa.insert(alerts).values(**row, since=NOW, updated_at=NOW)) and None
        )


@asynccontextmanager
async def _sqlite(request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    folder = request.getfixturevalue("tmp_path")
    async with _sql(f"sqlite:///{folder}/store.db") as room:
        yield room


@asynccontextmanager
async def _postgresql(request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    async with _sql(request.getfixturevalue("postgres_url")) as room:
        yield room


@asynccontextmanager
async def _sql(url: str) -> AsyncIterator[Room]:
    database = open_store(url)
    try:
        yield SqlRoom(database)
    finally:
        database.close()


Opener = Callable[[pytest.FixtureRequest], AbstractAsyncContextManager[Room]]
STORES: dict[str, Opener] = {"memory": _memory, "sqlite": _sqlite, "postgresql": _postgresql}


@pytest.fixture(params=list(STORES))
async def room(request: pytest.FixtureRequest) -> AsyncIterator[Room]:
    async with STORES[request.param](request) as found:
        yield found


def note(name: str, key: str = "k", receiver: str = "r", not_before: float = 0.0) -> Notification:
    section = (Section("What", "x"),)
    return Notification(
        name, receiver, key, Action.TRIGGER, Severity.ERROR, name, section, NOW, NOW, not_before=not_before
    )


async def claim(room: Room, now: float = NOW, receiver: str = "r", limit: int = 10) -> list[str]:
    return [i.id for i in await room.store.claim_due(receiver, now, limit, 60.0)]


async def test_only_the_oldest_of_a_key_can_be_claimed(room: Room) -> None:
    await room.add(note("a1", "a"), note("a2", "a"), note("b1", "b"), note("other", "a", "else"))
    assert await room.store.count_due("r", NOW) == 2
    assert await claim(room) == ["a1", "b1"]
    assert await claim(room) == [], "leased"
    await room.store.mark_sent(["a1"], NOW)
    assert await claim(room) == ["a2"]


async def test_a_lease_ends_by_itself(room: Room) -> None:
    await room.add(note("a1"))
    assert await claim(room) == ["a1"]
    assert await claim(room, NOW + 59) == []
    assert await claim(room, NOW + 60) == ["a1"]


async def test_adding_twice_is_adding_once(room: Room) -> None:
    await room.add(note("a1"), note("a1"))
    await room.store.mark_sent(await claim(room), NOW)
    await room.add(note("a1"))
    assert await claim(room) == []


async def test_what_is_rescheduled_waits_and_holds_up_its_key_only(room: Room) -> None:
    await room.add(note("a1", "a"), note("a2", "a"), note("b1", "b"))
    await room.store.reschedule(await claim(room), NOW + 30, "server_error")
    assert await claim(room) == []
    (first, second) = await room.store.claim_due("r", NOW + 30, 10, 60.0)
    assert (first.id, first.attempts, first.error) == ("a1", 1, "server_error")
    assert second.id == "b1"
    await room.store.reschedule(["a1"], NOW + 31, "")
    (again,) = await room.store.claim_due("r", NOW + 31, 10, 60.0)
    assert again.attempts == 1, "handed back without having failed"


async def test_what_is_given_up_lets_the_next_pass_and_was_not_sent(room: Room) -> None:
    await room.add(note("a1"), note("a2"))
    await room.store.give_up(await claim(room), NOW, "refused")
    assert not await room.store.was_sent("r", "k")
    await room.store.mark_sent(await claim(room), NOW)
    assert await room.store.was_sent("r", "k")
    assert not await room.store.was_sent("else", "k")
    assert not await room.store.was_sent("r", "other")


async def test_not_before_and_limit(room: Room) -> None:
    await room.add(note("late", "l", not_before=NOW + 100), *[note(f"n{i}", f"n{i}") for i in range(5)])
    assert len(await claim(room, limit=3)) == 3
    assert len(await claim(room)) == 2
    assert await claim(room, NOW + 99, limit=10) == [f"n{i}" for i in range(5)], "leases over, late not due"
    assert await claim(room, NOW + 100) == ["late"]


async def test_a_notification_comes_back_as_it_was(room: Room) -> None:
    await room.add(note("a1"))
    (item,) = await room.store.claim_due("r", NOW, 1, 60.0)
    assert (item.notification, item.created_at, item.due_at) == (note("a1"), NOW, NOW)


async def test_needs_escalation(room: Room) -> None:
    assert not await room.store.needs_escalation("k")
    await room.open("k")
    assert await room.store.needs_escalation("k")
