"""The load world is a mail world: what an agent's store says of it agrees with its own log."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.fleet.agents import fleet_config
from tests.fleet.truth import compare, every_canary, pause, unsettled
from tests.fleet.world import load_world
from tests.guarantees.agents import AgentProcess, eventually, stored

FATES = {"swallow": 300, "eat": 1000, "defer": 1000, "twice": 1000}


async def test_one_agent_and_the_load_world_agree(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/mailcanary.db"
    async with load_world() as world:
        await world.shape(**FATES)
        path = fleet_config(world, tmp_path, store, senders=4, seeds=5, every="1s", deadline="2s")
        agent = AgentProcess(path)
        try:
            await agent.start()
            await eventually(lambda: len(stored(tmp_path)) >= 80, 60.0, lambda: agent.log()[-2000:])
            pause(store)
            await eventually(lambda: not unsettled(every_canary(store)), 60.0, lambda: agent.log()[-2000:])
            await asyncio.sleep(0.5)  # further copies are still being read
        finally:
            await agent.stop()
            await agent.close()
        found, handled = every_canary(store), await world.handled()
        assert compare(found, handled).failures == []
        assert any(one.copies == 2 for one in handled.values())
        assert any(0 in one.codes for one in handled.values())
        assert await world.ask("met") == []
