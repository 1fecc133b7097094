"""A fleet on one PostgreSQL: 1, 2 and 4 agents beside one agent on SQLite, the same load in the same run.

The load world, PostgreSQL and all agents share this machine's cores; the world's CPU is told apart.
Throughput is measured at more than there is CPU for. Event to row is a latency, so it is measured at half
of that (the row says how much), of what arrives once no mailbox changes hands any more: at full load, or
while agents start, it would be the length of a queue.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.config.load import load
from agent.store import schema
from agent.store.schema import open_store
from tests.bench.row import BenchRow
from tests.fakes.postgres import Postgres, running, why_not
from tests.fleet.agents import Fleet, FleetAgent, fleet, fleet_config
from tests.fleet.measure import Bench, Cost, knowing, rested, waiting
from tests.fleet.world import Load, load_world, many_files

SENDERS, SEEDS = 20, 50
AGENTS = (1, 2, 4)
WAITING = 10_000
WARM, BUSY, CALM, REST, IDLE = 3.0, 6.0, 8.0, 15.0, 8.0
"""Seconds to begin, at full load, at a calm pace, until a start is over, and with everything waiting."""
FULL, NEVER = "3s", "10d"
"""A route's interval: more than there is CPU for, none."""
EACH = "a canary"


@dataclass
class Side:
    """What was measured with so many agents; agents 0: one on SQLite."""

    name: str
    agents: int
    busy: Cost
    idle: float
    """Share of a core that each agent takes with everything waiting."""
    restart: float
    knowing: float | None
    pace: float
    """Canaries a second, half of the throughput, at which that was measured."""


def rows() -> list[BenchRow]:
    """The group `fleet`."""
    many_files()
    if reason := why_not():
        return [BenchRow(f"a fleet: {reason}", 0.0, "canaries/s", None, "SQLite", None, None, None)]
    with running(durable=True, more="track_commit_timestamp = on") as server:
        alone = asyncio.run(_side(None, 1))
        sides = [asyncio.run(_side(server, agents)) for agents in AGENTS]
    return [row for side in sides for row in _rows(side, sides[0], alone)]


async def _side(server: Postgres | None, agents: int) -> Side:
    with tempfile.TemporaryDirectory() as name, _store(server, Path(name)) as url:
        folder = Path(name)
        async with load_world() as world:
            busy = await _busy(server, world, folder / "busy", url, agents)
        with _store(server, folder / "second") as other:
            async with load_world() as world:
                calm = await _calm(server, world, folder / "calm", other, agents, busy.rate / 2)
        with _store(server, folder / "third") as other:
            idle, restart = await _idle(server, folder / "idle", other, agents)
    title = f"PostgreSQL, {agents} agent{'s' * (agents > 1)}" if server else "SQLite"
    return Side(title, agents, busy, idle, restart, calm, busy.rate / 2)


@contextmanager
def _store(server: Postgres | None, folder: Path) -> Iterator[str]:
    if server is None:
        folder.mkdir(exist_ok=True)
        yield f"sqlite:///{folder}/mailcanary.db"
    else:
        with server.database(schema.make) as url:
            yield url


@asynccontextmanager
async def _bench(
    server: Postgres | None, world: Load, folder: Path, url: str, agents: int, every: str
) -> AsyncIterator[Bench]:
    path = fleet_config(world, folder, url, senders=SENDERS, seeds=SEEDS, every=every, deadline="5m")
    if every == NEVER:
        store = open_store(url)
        rested(store, load(path).routes_resolved)
        store.close()
    async with fleet(path, agents) as found:
        await _read(world, found)
        store = open_store(url)
        try:
            yield Bench(found, world, store, server)
        finally:
            store.close()
            await asyncio.gather(*(agent.stop() for agent in found.agents))


async def _read(world: Load, found: Fleet) -> None:
    """Waits until every mailbox is read."""
    end = time.monotonic() + 60.0
    while len(await world.ask("newest")) < SEEDS:
        if time.monotonic() > end:
            raise RuntimeError(f"mailboxes are not read\n{found.logs()}")
        await asyncio.sleep(0.05)


async def _busy(server: Postgres | None, world: Load, folder: Path, url: str, agents: int) -> Cost:
    async with _bench(server, world, folder, url, agents, FULL) as bench:
        await asyncio.sleep(WARM)
        return await bench.during(BUSY)


async def _calm(
    server: Postgres | None, world: Load, folder: Path, url: str, agents: int, pace: float
) -> float | None:
    """p95 seconds from a message's arrival to the commit that knows of it, at so many canaries a second."""
    if server is None:
        return None
    every = f"{SENDERS * SEEDS / pace:.0f}s"
    async with _bench(server, world, folder, url, agents, every) as bench:
        await asyncio.sleep(REST)  # agents that have just joined are given their mailboxes
        since = time.time()
        await asyncio.sleep(CALM)
        until = time.time()
        await asyncio.sleep(1.0)  # the last of them are recorded
        found = await world.handled()
        came = {token: one.at for token, one in found.items() if one.at and since <= one.at[0] < until}
        delays = knowing(server, str(bench.store.url.database), came)
        return delays[int(0.95 * len(delays))]


async def _idle(server: Postgres | None, folder: Path, url: str, agents: int) -> tuple[float, float]:
    """The share of a core each agent takes with 10,000 waiting, and the seconds one needs to start so."""
    store = open_store(url)
    waiting(store, WAITING, [f"box{n}" for n in range(SEEDS)], "dovecot")
    store.close()
    async with load_world() as world, _bench(server, world, folder, url, agents, NEVER) as bench:
        await asyncio.sleep(REST)
        spent = await bench.during(IDLE)
        restart = await _restart(bench.fleet, bench.fleet.agents[0])
        return spent.agents / spent.at / agents, restart


async def _restart(found: Fleet, agent: FleetAgent) -> float:
    """Seconds from the start of its process (its modules are loaded) until it serves."""
    await agent.stop()
    seen, began = agent.log().count("mailcanary runs"), time.monotonic()
    await found.start(agent)
    while agent.log().count("mailcanary runs") == seen:
        if time.monotonic() - began > 60.0:
            raise RuntimeError(found.logs())
        await asyncio.sleep(0.02)
    return time.monotonic() - began


def _rows(side: Side, one: Side, alone: Side) -> Iterator[BenchRow]:
    """The figures of one side. one: a single agent on PostgreSQL; alone: on SQLite."""
    busy, name = side.busy, side.name
    cpu, least = busy.each("agents") * 1e3, alone.busy.each("agents") * 1e3
    yield _row(f"{name}: throughput", busy.rate, "canaries/s", alone.busy.rate, "SQLite", 0.5, more=True)
    yield _row(f"{name}: CPU of agents {EACH}", cpu, "ms", least, "SQLite", 2.0)
    whole, first = (s.busy.each("agents") + s.busy.each("store") for s in (side, one))
    yield _row(f"{name}: with PostgreSQL's", whole * 1e3, "ms", first * 1e3, "1 agent", 1.5)
    yield _row(f"{name}: commits {EACH}", busy.each("commits"), "", one.busy.each("commits"), "1 agent", 2.0)
    wal, less = busy.each("wal") / 1024, one.busy.each("wal") / 1024
    yield _row(f"{name}: WAL {EACH}", wal, "KiB", less, "1 agent", 1.5)
    yield _row(f"{name}: CPU of the load world {EACH}", busy.each("world") * 1e3, "ms", cpu, "agents", 0.5)
    yield _row(f"{name}: idle CPU an agent, 10,000 waiting", side.idle * 100, "%", 3.0, "goal", 1.0)
    if side.knowing is not None:
        what = f"{name}: event to row, p95 at {side.pace:.0f}/s, half of its throughput"
        yield _row(what, side.knowing * 1e3, "ms", 50.0, "goal", 1.0)
    yield _row(f"{name}: restart with 10,000 waiting", side.restart, "s", 2.0, "goal", 1.0)


def _row(
    name: str, figure: float, unit: str, peer: float, peer_name: str, goal: float, *, more: bool = False
) -> BenchRow:
    ratio = figure / peer if peer else 0.0
    good = ratio >= goal if more else ratio <= goal
    return BenchRow(name, figure, unit, peer, peer_name, ratio, goal, good)
