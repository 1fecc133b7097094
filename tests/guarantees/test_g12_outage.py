"""PostgreSQL is away for a while: no agent ends, no session closes, nothing is sent without a record, and all
goes on by itself once it is back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from agent.store import schema
from tests.fakes.postgres import Postgres, running, why_not
from tests.fleet.agents import FleetAgent, fleet, fleet_config
from tests.fleet.incidents import Scene
from tests.fleet.settling import settle
from tests.fleet.truth import compare, every_canary
from tests.fleet.world import Load, load_world
from tests.guarantees.claim import Guarantee, Tally

AGENTS, SENDERS, SEEDS, EVERY = 2, 3, 10, 2.0
FULL, QUICK = 300.0, 8.0
"""Seconds without the database."""
GRACE = 2.0
"""Seconds in which what had its intent before is still sent."""
BACK = 60.0
LEASE = 3.0
PATHS = ("/metrics", "/-/healthy")


@dataclass
class Answers:
    """What the agents' web said meanwhile: path -> status -> how often; slowest: seconds."""

    said: dict[str, Counter[int]] = field(
        default_factory=lambda: {"/metrics": Counter(), "/-/healthy": Counter()}
    )
    slowest: float = 0.0

    async def ask(self, agents: list[FleetAgent]) -> None:
        """Asks each agent both questions once."""
        timeout = aiohttp.ClientTimeout(total=10.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for agent in agents:
                for path in self.said:
                    began = time.monotonic()
                    try:
                        async with session.get(f"http://{agent.listen}{path}") as reply:
                            await reply.read()
                            self.said[path][reply.status] += 1
                    except (TimeoutError, aiohttp.ClientError):
                        self.said[path][0] += 1
                    self.slowest = max(self.slowest, time.monotonic() - began)


async def away(server: Postgres, scene: Scene, world: Load, seconds: float, *, silent: bool) -> Tally:
    """Takes the database away for so long and sees what the agents do meanwhile and afterwards."""
    tally, answers = Tally(trials=1), Answers()
    pids = [agent.pid for agent in scene.fleet.agents]
    before = await world.figures()
    await asyncio.to_thread(server.freeze if silent else server.stop)
    gone = time.monotonic()
    await asyncio.sleep(GRACE)
    quiet = await world.figures()
    while time.monotonic() - gone < seconds:
        await answers.ask(scene.fleet.agents)
        await asyncio.sleep(min(1.0, seconds / 10))
    after = await world.figures()
    tally.check(
        after["tokens"] == quiet["tokens"], f"{after['tokens'] - quiet['tokens']:.0f} sent unrecorded"
    )
    tally.check(after["open"] == SEEDS and after["logins"] == before["logins"], f"sessions: {before} {after}")
    for path, said in answers.said.items():
        tally.check(set(said) == {200}, f"{path} answered {dict(said)}")
    await asyncio.to_thread(server.thaw if silent else server.start)
    tally.figures = {"s to the slowest answer": answers.slowest, **await _back(scene, world, after)}
    for agent, pid in zip(scene.fleet.agents, pids, strict=True):
        tally.check(agent.alive and agent.pid == pid, f"an agent ended: {agent.log()[-2000:]}")
    return tally


async def _back(scene: Scene, world: Load, after: dict[str, float]) -> dict[str, float]:
    """Seconds from the database's return to the first canary sent, and until all mailboxes are read."""
    began = time.monotonic()
    while (await world.figures())["tokens"] == after["tokens"]:
        assert time.monotonic() - began < BACK, scene.fleet.logs()
        await asyncio.sleep(0.05)
    sent = time.monotonic() - began
    await scene.spread()
    return {"s from its return to sending": sent, "s to all work held": time.monotonic() - began}


async def part(folder: Path, number: int, seconds: float = FULL) -> Tally:
    """One outage under load: every other one leaves connections open and silent."""
    with running() as server, server.database(schema.make) as url:
        async with load_world() as world:
            await world.shape(delay=0.02, eat=200, twice=200)
            path = fleet_config(
                world, folder, url, senders=SENDERS, seeds=SEEDS, every=f"{EVERY}s", deadline="6s"
            )
            async with fleet(path, AGENTS, lease=LEASE) as agents:
                scene = Scene(agents, world, server, url.rpartition("/")[2], SEEDS)
                await scene.spread()
                await asyncio.sleep(2 * EVERY)
                tally = await away(server, scene, world, seconds, silent=number % 2 == 0)
                await asyncio.sleep(2 * EVERY)
                await settle(scene, url)
                found = every_canary(url)
                truth = compare(found, await world.handled())
                tally.failures += truth.failures
                tally.figures["canaries"] = len(found)
    return tally


PROMISE = "PostgreSQL away under load: no agent ends, nothing lost or double, sessions stay, all answers"
GUARANTEE = Guarantee("G12-outage", PROMISE, "outages", 2, 1, part)


@pytest.mark.skipif(why_not() is not None, reason="needs Debian's postgresql")
@pytest.mark.timeout(400)  # a busy machine
async def test_postgresql_is_stopped_and_started(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1, seconds=QUICK)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
