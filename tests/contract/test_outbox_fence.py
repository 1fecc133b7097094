"""The outbox in a fleet: who was given up neither claims nor marks, and its late word is not the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from agent.store import leases, members
from agent.store.database import Database, Tx
from agent.store.leases import NOBODY, Lease
from agent.store.members import Member
from agent.store.outbox import SqlOutbox, add, release
from agent.store.schema import open_store
from agent.store.tables import outbox
from alerts.notification import Action, Gate, Notification, Section
from probes.errors import StaleWrite, StoreError
from probes.outcome import Severity

NOW = 1_800_000_000.0
RECEIVER = "receiver/r"


def note(action: Action, gate: Gate = Gate.ALWAYS) -> Notification:
    section = (Section("What", "x"),)
    return Notification(f"k {action}", "r", "k", action, Severity.ERROR, "t", section, NOW, NOW, gate=gate)


class Agent:
    """A member that delivers to r, once it has taken it."""

    def __init__(self, database: Database, holder: str, epoch: int) -> None:
        self.database, self.lease = database, Lease(RECEIVER, holder, epoch)
        self.box = SqlOutbox(database, lambda receiver: self.lease)

    async def join(self) -> None:
        me = Member(self.lease.holder, "x", "1", "127.0.0.1:1", NOW, NOW, self.lease.epoch, NOW + 15)
        await self.database.write(lambda tx: members.put(tx.conn, me))

    async def take(self) -> None:
        def take(tx: Tx) -> None:
            assert leases.take(tx.conn, self.lease)
            release(tx.conn, "r")

        await self.database.write(take)

    async def evicted(self) -> None:
        def evict(tx: Tx) -> None:
            me = next(one for one in members.every(tx.conn) if one.holder == self.lease.holder)
            assert members.evict(tx.conn, me)

        await self.database.write(evict)

    async def claim(self) -> list[str]:
        return [item.id for item in await self.box.claim_due("r", NOW, 10, 120.0)]

    async def tell(self) -> list[str]:
        """Everything that is due, one after the other."""
        told: list[str] = []
        while found := await self.claim():
            await self.box.mark_sent(found, NOW)
            told += found
        return told


@pytest.fixture
async def agents(postgres_url: str) -> AsyncIterator[list[Agent]]:
    databases = [await asyncio.to_thread(open_store, postgres_url) for _ in range(2)]
    found = [Agent(database, f"agent{n}", n + 1) for n, database in enumerate(databases)]
    for one in found:
        await one.join()
    await found[0].take()
    yield found
    for database in databases:
        await asyncio.to_thread(database.close)


async def put(agent: Agent, *told: Notification) -> None:
    await agent.database.write(lambda tx: add(tx.conn, told, NOW))


def member(agent: Agent) -> object:
    return lambda tx: members.check(tx.conn, agent.lease.holder, agent.lease.epoch)


async def test_who_was_given_up_claims_nothing(agents: list[Agent]) -> None:
    zombie, other = agents
    await put(zombie, note(Action.TRIGGER))
    await zombie.evicted()
    with pytest.raises(StaleWrite):
        await zombie.claim()
    await other.take()
    assert await other.tell() == ["k trigger"]


@pytest.mark.parametrize("ending", ["sent", "failed", "given up"])
async def test_a_zombies_outcome_changes_nothing(agents: list[Agent], ending: str) -> None:
    zombie, other = agents
    await put(zombie, note(Action.TRIGGER), note(Action.RESOLVE, Gate.IF_TOLD))
    mine = await zombie.claim()
    await zombie.evicted()
    await other.take()
    assert await other.tell() == ["k trigger", "k resolve"]
    before = await rows(other)
    endings = {
        "sent": lambda: zombie.box.mark_sent(mine, NOW + 9),
        "failed": lambda: zombie.box.reschedule(mine, NOW, "unreachable"),
        "given up": lambda: zombie.box.give_up(mine, NOW, "refused"),
    }
    with pytest.raises(StaleWrite):
        await endings[ending]()
    assert await rows(other) == before
    assert await other.tell() == [], "nothing is told again by the store's mistake"


async def test_what_a_zombie_may_have_said_too_late_is_not_the_last_word(agents: list[Agent]) -> None:
    zombie, other = agents
    await put(zombie, note(Action.TRIGGER), note(Action.RESOLVE, Gate.IF_TOLD))
    mine = await zombie.claim()
    await zombie.evicted()
    await other.take()
    await other.tell()
    with pytest.raises(StaleWrite):
        await zombie.box.mark_sent(mine, NOW)
    zombie.lease = Lease(RECEIVER, "agent0", 9)
    with pytest.raises(StaleWrite):  # not before it is a member again
        await zombie.box.repeat_last_words(member(zombie))  # type: ignore[arg-type]
    assert zombie.box.late
    await zombie.join()
    assert await zombie.box.repeat_last_words(member(zombie)) == 1  # type: ignore[arg-type]
    assert await other.box.was_sent("r", "k")
    assert await other.tell() == ["k resolve"]
    assert await zombie.box.repeat_last_words(member(zombie)) == 0  # type: ignore[arg-type]
    assert await other.tell() == []


async def test_nothing_is_said_again_where_more_is_to_come(agents: list[Agent]) -> None:
    zombie, other = agents
    await put(zombie, note(Action.TRIGGER), note(Action.RESOLVE, Gate.IF_TOLD))
    mine = await zombie.claim()
    await zombie.evicted()
    await other.take()
    await other.box.mark_sent(await other.claim(), NOW)
    with pytest.raises(StaleWrite):
        await zombie.box.mark_sent(mine, NOW)
    await zombie.join()
    zombie.lease = Lease(RECEIVER, "agent0", 1)
    assert await zombie.box.repeat_last_words(member(zombie)) == 0  # type: ignore[arg-type]
    assert await other.tell() == ["k resolve"]


async def test_what_ends_while_the_receiver_is_given_away_is_marked(agents: list[Agent]) -> None:
    first, second = agents
    await put(first, note(Action.TRIGGER))
    mine = await first.claim()

    def no_more(receiver: str) -> Lease:
        raise StaleWrite("not this agent's to tell")

    first.box._lease = no_more
    await first.box.mark_sent(mine, NOW)
    await first.database.write(lambda tx: leases.give_back(tx.conn, first.lease))
    await second.take()
    assert await second.tell() == []
    holder = await second.database.read(lambda conn: leases.every(conn)[RECEIVER].holder)
    assert holder not in (NOBODY, first.lease.holder)


@pytest.mark.parametrize("happened", [True, False])
async def test_a_claim_whose_answer_was_lost_is_no_long_wait(
    agents: list[Agent], happened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = agents[0]
    await put(one, note(Action.TRIGGER))
    with lost(one, happened, monkeypatch), pytest.raises(StoreError):
        await one.claim()
    assert await one.tell() == ["k trigger"]


@pytest.mark.parametrize("happened", [True, False])
async def test_what_was_sent_is_marked_once_the_store_takes_it(
    agents: list[Agent], happened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = agents[0]
    await put(one, note(Action.TRIGGER), note(Action.RESOLVE, Gate.IF_TOLD))
    mine = await one.claim()
    with lost(one, happened, monkeypatch), pytest.raises(StoreError):
        await one.box.mark_sent(mine, NOW + 3)
    assert await one.tell() == ["k resolve"], "the trigger is not told again"
    assert [row.sent_at for row in await rows(one)] == [NOW + 3, NOW]


async def test_who_loses_the_receiver_marks_nothing_later(
    agents: list[Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = agents
    await put(one, note(Action.TRIGGER))
    mine = await one.claim()
    with lost(one, False, monkeypatch), pytest.raises(StoreError):
        await one.box.mark_sent(mine, NOW)
    await one.evicted()
    await other.take()
    with pytest.raises(StaleWrite):
        await one.claim()
    assert await other.tell() == ["k trigger"], "nobody knows that it was told"


@contextmanager
def lost(agent: Agent, happened: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store's answers to writes are lost; whether they happened is another thing."""
    write = agent.database.write

    async def fails(work: Any, **more: Any) -> Any:
        if happened:
            await write(work, **more)
        raise StoreError("server closed the connection unexpectedly")

    with monkeypatch.context() as patched:
        patched.setattr(agent.database, "write", fails)
        yield


async def rows(agent: Agent) -> list[Any]:
    query = sa.select(outbox).order_by(outbox.c.seq)
    return await agent.database.read(lambda conn: list(conn.execute(query).all()))
