"""Commits that happen and whose answers are lost: the rows tell, and nothing is lost or double.

What is told meanwhile is in tests/contract/test_outbox_fence.py: here our own fault mutes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from agent.store.database import Database
from agent.store.schema import upgrade
from tests.fakes.lossy_commits import lossy_commits
from tests.fakes.postgres import Postgres
from tests.fleet import audit
from tests.fleet.agents import fleet, fleet_config
from tests.fleet.truth import compare, every_canary, pause, unsettled
from tests.fleet.world import load_world
from tests.guarantees.agents import eventually

CANARIES, LOST, EVERY = 150, 25, 13


@pytest.mark.timeout(300)  # a busy machine
async def test_nothing_is_lost_or_double(tmp_path: Path, postgres: Postgres, postgres_url: str) -> None:
    store = Database(postgres_url)
    database = str(store.url.database)
    upgrade(store.engine)
    audit.watch(postgres, database)
    async with load_world() as world, lossy_commits(postgres.port) as way:
        await world.shape(eat=200, twice=200, defer=200)
        through = make_url(postgres_url).set(port=way.port).render_as_string(hide_password=False)
        path = fleet_config(world, tmp_path, through, senders=4, seeds=6, every="2s", deadline="6s")
        async with fleet(path, 2) as agents:
            for agent in agents.agents:
                await eventually(lambda agent=agent: "mailcanary runs" in agent.log(), 60.0, agents.logs)  # type: ignore[misc]
            way.every = EVERY
            await eventually(
                lambda: way.lost >= LOST and len(every_canary(postgres_url)) >= CANARIES, 90.0, agents.logs
            )
            way.every = 0
            pause(postgres_url)
            # An intent of which its agent does not know is decided ten minutes later, or when the agent ends.
            assert [await agent.stop() for agent in agents.agents] == [0, 0]
            await asyncio.gather(*map(agents.start, agents.agents))
            await eventually(
                lambda: not unsettled(every_canary(postgres_url)),
                90.0,
                lambda: f"{unsettled(every_canary(postgres_url))[:3]}\n{agents.logs()}",
            )
            await asyncio.sleep(0.5)  # further copies are still being read
            assert [await agent.stop() for agent in agents.agents] == [0, 0]
        assert compare(every_canary(postgres_url), await world.handled()).failures == []
        assert audit.settled_twice(postgres, database) == []
    store.close()
