"""What the fleet's rows promise: one holder at a time, and nothing written by one who was given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from agent.config.load import parse
from agent.config.models import Config
from agent.fleet import membership
from agent.fleet.fleet import DRAINING, WORKING, Fleet
from agent.fleet.membership import BEAT, LEASE, Busy, Membership, Myself
from agent.store import leases, members
from agent.store.database import Database, Tx
from agent.store.leases import Lease
from agent.store.schema import open_store
from probes.clock import FakeClock
from probes.errors import StaleWrite, StoreError

SEEDS = [f"s{n}" for n in range(8)]


def config(seeds: list[str] = SEEDS, region: str = "") -> Config:
    pin = f"\n    region: {region}" if region else ""
    boxes = "".join(
        f"""
  {name}:
    provider: dovecot
    address: {name}@example.net
    password: {{env: P}}
    imap: {{host: imap.example.net}}{pin}"""
        for name in seeds
    )
    text = f"senders:\n  a:\n    from: a@example.org\n    relay: {{host: mail.example.org}}\nseeds:{boxes}\n"
    return parse(text.encode(), "mail.yaml", {"P": "x"})


class Rooms:
    """Notes what is done, and fails where two agents would do it at the same time."""

    doing: dict[str, str]

    def __init__(self, kind: str, holder: str, doing: dict[str, str]) -> None:
        self.kind, self.holder, self.doing = kind, holder, doing
        self.failing: set[str] = set()
        self.failing_ends: set[str] = set()
        self.together = 0
        """So many are begun before the first of them is done: one after another they would wait for ever."""
        self._begun = 0
        self._all = asyncio.Event()

    async def take(self, key: str) -> None:
        if self.together:
            await self._meet()
        if key in self.failing:
            raise StoreError("not now")
        name = f"{self.kind}/{key}"
        assert name not in self.doing, f"{name} is still done by {self.doing[name]}"
        self.doing[name] = self.holder

    async def _meet(self) -> None:
        self._begun += 1
        if self._begun == self.together:
            self._begun = 0
            self._all.set()
            self._all = asyncio.Event()
        else:
            await asyncio.wait_for(self._all.wait(), 20.0)

    async def give(self, key: str) -> None:
        if key in self.failing:
            return
        if key in self.failing_ends:
            self.failing_ends.remove(key)
            raise StoreError("the end could not be written down")
        await asyncio.sleep(0)  # a session that says goodbye
        await asyncio.sleep(0)
        assert self.doing.pop(f"{self.kind}/{key}") == self.holder


class World:
    """Several agents on one store and one clock."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clock = FakeClock()
        self.doing: dict[str, str] = {}
        self.config = config()
        self.databases: list[Database] = []

    async def agent(self, holder: str, region: str = "") -> Fleet:
        database = await asyncio.to_thread(open_store, self.url)
        self.databases.append(database)
        me = Myself(holder, "fleet", self.clock.wall(), WORKING, region)
        found = Fleet(Membership(database, self.clock, me.now), lambda: self.config)
        found.rooms = {
            kind: Rooms(kind, holder, self.doing) for kind in ("mailbox", "evaluator", "upkeep", "round")
        }
        found.joined(await found.membership.join())
        return found

    async def turn(self, *agents: Fleet, seconds: float = BEAT) -> None:
        await self.clock.advance(seconds)
        for one in agents:
            if one.membership.epoch:
                await one.beat()
            await one.move()

    def of(self, agent: Fleet) -> set[str]:
        return {name for name, holder in self.doing.items() if holder == agent.membership.holder}


@asynccontextmanager
async def world(url: str) -> AsyncIterator[World]:
    found = World(url)
    try:
        yield found
    finally:
        for database in found.databases:
            await asyncio.to_thread(database.close)


def write(agent: Fleet, resource: str = "") -> Callable[[], Any]:
    return lambda: agent.membership.database.write(lambda tx: agent.fence(tx, resource))


async def test_one_agent_has_everything_and_renews_one_row(store_url: str) -> None:
    async with world(store_url) as w:
        a = await w.agent("a")
        await a.begin()
        assert w.of(a) == {f"mailbox/{seed}" for seed in SEEDS} | {"evaluator/", "upkeep/"}
        for _ in range(10):
            await w.turn(a)
        await write(a, "mailbox/s0")()
        with pytest.raises(StaleWrite):
            await write(a, "mailbox/s9")()


async def test_sqlite_takes_one_agent(tmp_path: Path) -> None:
    async with world(f"sqlite:///{tmp_path}/one.db") as w:
        a = await w.agent("a")
        with pytest.raises(Busy):
            await w.agent("b")
        await w.clock.advance(LEASE + 1)
        b = await w.agent("b")
        await b.begin()
        with pytest.raises(StaleWrite):
            await write(a)()
        a.on_end = lambda: w.doing.clear()
        assert not await a.beat()
        with pytest.raises(Busy):
            await a.move()
        assert w.doing == {}, "it was told to stop"


async def test_two_share_and_each_is_done_by_one(postgres_url: str) -> None:
    async with world(postgres_url) as w:
        a = await w.agent("a")
        await a.begin()
        b = await w.agent("b")
        for _ in range(6):
            await w.turn(a, b)
        assert w.of(a)
        assert w.of(b)
        assert len(w.doing) == len(SEEDS) + 2
        a.membership.facts = Myself("a", "fleet", 0.0, DRAINING).now
        await a.beat()
        await a.hand_over()
        assert w.of(a) == set()
        await w.turn(b)
        assert len(w.of(b)) == len(SEEDS) + 2
        await a.membership.leave()
        assert [one.holder for one in b.membership.database.read_now(members.every)] == ["b"]


async def test_a_zombie_is_refused_and_begins_a_new_life(postgres_url: str) -> None:
    async with world(postgres_url) as w:
        a, b = await w.agent("a"), await w.agent("b")
        await a.begin()
        for _ in range(6):
            await w.turn(a, b)
        lost = sorted(w.of(a))
        told: list[str] = []

        async def hears(gone: Any) -> None:
            told.extend(one.holder for one in gone)

        b.on_lost = hears
        assert a.membership.sure()
        frozen = {name: w.doing.pop(name) for name in lost}
        while not told:
            await w.turn(b)
        assert set(lost) <= w.of(b)
        assert not a.membership.sure(), "it would not have sent any more"
        for resource in ["", lost[0].rstrip("/")]:
            with pytest.raises(StaleWrite):
                await write(a, resource)()
        before = a.membership.epoch
        assert not await a.beat()
        with pytest.raises(StaleWrite):
            await write(a)()
        w.doing.clear()
        w.doing |= frozen
        await a.move()
        assert not w.doing, "it dropped what it did"
        assert a.membership.epoch > before
        await write(a)()


async def test_take_over_within_the_lease_and_two_heartbeats(postgres_url: str) -> None:
    async with world(postgres_url) as w:
        a, b = await w.agent("a"), await w.agent("b")
        await a.begin()
        for _ in range(6):
            await w.turn(a, b)
        for name in w.of(a):
            del w.doing[name]  # killed
        died = w.clock.wall()
        while len(w.of(b)) < len(SEEDS) + 2:
            await w.turn(b)
        assert w.clock.wall() - died <= membership.LEASE + 2 * membership.BEAT


async def test_after_an_outage_nobody_is_given_up_who_comes_back_in_time(postgres_url: str) -> None:
    async with world(postgres_url) as w:
        a, b = await w.agent("a"), await w.agent("b")
        for _ in range(6):
            await w.turn(a, b)
        await w.clock.advance(300.0)  # the database was away: nobody beat
        assert not a.membership.sure()
        assert await b.beat()
        assert await a.beat()
        assert a.membership.sure()
        assert not b.view.lost
        assert not a.view.lost


async def test_pins_of_regions_hold(postgres_url: str) -> None:
    async with world(postgres_url) as w:
        w.config = config(region="us")
        a = await w.agent("a", "eu")
        await a.begin()
        assert w.of(a) == {"evaluator/", "upkeep/"}
        b = await w.agent("b", "us")
        await w.turn(a, b)
        assert {name for name in w.of(b) if name.startswith("mailbox/")} == {f"mailbox/{s}" for s in SEEDS}


async def test_a_round_goes_to_another_agent_only_when_its_own_has_gone(postgres_url: str) -> None:
    async with world(postgres_url) as w:
        a, b = await w.agent("a"), await w.agent("b")
        lease = await a.membership.database.write(lambda tx: a.hold_in(tx, "round/r1"))
        assert lease == Lease("round/r1", "a", a.membership.epoch)
        a.keep(lease)
        w.doing["round/r1"] = "a"
        for _ in range(3):
            await w.turn(a, b)
        assert w.doing["round/r1"] == "a"
        a.membership.facts = Myself("a", "fleet", 0.0, DRAINING).now
        await a.beat()
        await a.hand_over()
        await w.turn(b)
        assert w.doing["round/r1"] == "b"
        await b.done("round/r1")
        assert "round/r1" not in b.membership.database.read_now(leases.every)


async def test_epochs_are_never_used_again(store_url: str) -> None:
    async with world(store_url) as w:
        seen = []
        for _ in range(3):
            a = await w.agent("a")
            seen.append(a.membership.epoch)
            await a.membership.leave()
        assert seen == sorted(set(seen))

        def several(tx: Tx) -> list[int]:
            return [leases.next_epoch(tx.conn) for _ in range(3)]

        assert min(await a.membership.database.write(several)) > seen[-1]


async def test_what_cannot_be_begun_is_given_back_and_holds_up_nothing(store_url: str) -> None:
    async with world(store_url) as w:
        a = await w.agent("a")
        boxes = cast(Rooms, a.rooms["mailbox"])
        boxes.failing = {"s1", "s4"}
        boxes.together = len(SEEDS)
        await a.begin()
        begun = {f"mailbox/{seed}" for seed in SEEDS if seed not in boxes.failing}
        assert w.of(a) == begun | {"evaluator/", "upkeep/"}
        held = a.membership.database.read_now(leases.every)
        assert {name for name, lease in held.items() if not lease.holder} == {"mailbox/s1", "mailbox/s4"}
        boxes.failing, boxes.together = set(), 2
        await w.turn(a)
        assert {f"mailbox/{s}" for s in SEEDS} <= w.of(a)


async def test_nothing_begins_anew_while_an_end_of_it_is_under_way(postgres_url: str) -> None:
    async with world(postgres_url) as w:
        a, b = await w.agent("a"), await w.agent("b")
        await a.begin()
        for _ in range(6):
            await w.turn(a, b)
        frozen = {name: w.doing.pop(name) for name in w.of(a)}
        while not any(member.state == members.LOST for member in b.view.members):
            await w.turn(b)
        assert not await a.beat()
        w.doing.clear()
        w.doing |= frozen
        kind, _, key = min(frozen).partition("/")
        cast(Rooms, a.rooms[kind]).failing_ends.add(key)
        with pytest.raises(StoreError, match="could not be written"):
            await a.move()
        assert set(w.doing) == {min(frozen)}, "the others ended before the error was told"
