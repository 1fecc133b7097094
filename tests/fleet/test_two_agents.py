"""Two agents on one store: they share the work, and each does the other's when that has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from agent.store import leases, members
from agent.store.database import Database
from agent.store.leases import Lease
from agent.store.members import Member
from tests.fleet.agents import Fleet, fleet, fleet_config
from tests.fleet.truth import compare, every_canary, pause, unsettled
from tests.fleet.world import load_world
from tests.guarantees.agents import eventually

LEASE = 3.0


def view(store: str) -> tuple[list[Member], dict[str, Lease]]:
    """The fleet's rows, read beside the agents."""
    database = Database(store)
    try:
        return database.read_now(lambda conn: (members.every(conn), leases.every(conn)))
    finally:
        database.close()


def shares(store: str) -> set[int]:
    """How many resources each agent holds that holds any."""
    found = [lease.holder for lease in view(store)[1].values() if lease.holder]
    return {found.count(holder) for holder in found}


def held(store: str) -> int:
    """How many resources have a holder."""
    return sum(bool(lease.holder) for lease in view(store)[1].values())


async def until(found: Fleet, true: Callable[[], bool], timeout: float = 60.0) -> None:
    await eventually(true, timeout, found.logs)


async def test_one_is_killed_and_the_other_goes_on(tmp_path: Path, postgres_url: str) -> None:
    async with load_world() as world:
        path = fleet_config(world, tmp_path, postgres_url, senders=4, seeds=6, every="1s", deadline="3s")
        async with fleet(path, 2, lease=LEASE) as found:
            await until(found, lambda: held(postgres_url) == 8 and len(view(postgres_url)[0]) == 2)
            await until(found, lambda: len({c.epoch for c in every_canary(postgres_url)}) == 2)
            await until(found, lambda: len(every_canary(postgres_url)) >= 120)
            first, second = found.agents
            await first.kill()
            before = len(every_canary(postgres_url))
            await until(found, lambda: shares(postgres_url) == {8})
            await until(found, lambda: len(every_canary(postgres_url)) >= before + 60)
            await found.start(first)
            await until(found, lambda: len(shares(postgres_url)) == 2 or shares(postgres_url) == {4})
            assert await second.stop() == 0
            await until(found, lambda: shares(postgres_url) == {8})
            pause(postgres_url)
            await until(found, lambda: not unsettled(every_canary(postgres_url)))
            await asyncio.sleep(0.5)
        tally = compare(every_canary(postgres_url), await world.handled())
        assert tally.failures == []
        assert await world.ask("met") == [], "two sessions met in one mailbox"
