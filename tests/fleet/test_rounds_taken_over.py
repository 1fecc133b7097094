"""A round whose driver dies is gone on with by another agent: each canary once, and one verdict."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.fleet.resources import ROUND
from agent.store import leases
from agent.store.database import Database
from probes.canary.state import Canary
from tests.fleet.agents import Fleet, FleetAgent, fleet, fleet_config
from tests.fleet.truth import compare, every_canary
from tests.fleet.world import load_world
from tests.guarantees.agents import eventually

LEASE, SENDERS, SEEDS, COUNT = 3.0, 2, 3, 2


async def asked(agent: FleetAgent, method: str, path: str, **more: Any) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"http://{agent.listen}{path}", **more) as answer,
    ):
        assert answer.status < 300, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


def of(store: str, round_id: str) -> list[Canary]:
    return [canary for canary in every_canary(store) if canary.round == round_id]


def driver(store: str, round_id: str, agents: Fleet) -> FleetAgent | None:
    """The agent that holds the round, as the store has it."""
    database = Database(store)
    try:
        found = database.read_now(leases.every).get(ROUND + round_id)
    finally:
        database.close()
    pid = found.holder.split(":")[2] if found and found.holder else ""
    return next((agent for agent in agents.agents if str(agent.pid) == pid), None)


@pytest.mark.parametrize("kind", ["probe", "before"])
async def test_another_agent_goes_on_with_a_round(tmp_path: Path, postgres_url: str, kind: str) -> None:
    async with load_world() as world:
        await world.shape(hold=10_000, delay=0.05)  # all are accepted, none is delivered yet
        path = fleet_config(
            world, tmp_path, postgres_url, senders=SENDERS, seeds=SEEDS, every="1d", deadline="60s"
        )
        async with fleet(path, 2, lease=LEASE) as agents:
            first, second = agents.agents
            for agent in agents.agents:
                await eventually(lambda agent=agent: "mailcanary runs" in agent.log(), 60.0, agents.logs)  # type: ignore[misc]
            order = {"count": COUNT, "deadline": "60s", "by": "a test", "kind": kind}
            round_id = (await asked(first, "POST", "/api/v1/probes", json=order))["id"]
            wanted = SENDERS * SEEDS * COUNT
            await eventually(lambda: len(of(postgres_url, round_id)) >= wanted // 3, 30.0, agents.logs)
            assert driver(postgres_url, round_id, agents) is first
            await first.kill()
            await eventually(lambda: driver(postgres_url, round_id, agents) is second, 30.0, agents.logs)
            await world.shape(delay=0.0)
            end = asyncio.get_running_loop().time() + 90.0
            while not (report := await asked(second, "GET", f"/api/v1/probes/{round_id}?wait=2"))["done"]:
                await world.ask("release")
                assert asyncio.get_running_loop().time() < end, f"{report}\n{agents.logs()}"
            found = of(postgres_url, round_id)
            assert Counter(canary.route for canary in found) == {
                f"s{sender}/box{seed}": COUNT for sender in range(SENDERS) for seed in range(SEEDS)
            }
            handled = await world.handled()
            assert all(len(one.at) <= 1 for one in handled.values())
            assert (report["kind"], report["outcome"]) == (kind, "pass")
            assert [await agent.stop() for agent in agents.agents if agent.alive] == [0]
        assert compare(every_canary(postgres_url), handled).failures == []
