"""`python -m tests.fleet.scale [SENDERS SEEDS SECONDS]`: a fleet at the size and rate this machine allows,
and what 200 senders x 5,000 seeds every 15 minutes would take: measured, assumed, and by which formula.

Fake SMTP and IMAP at the socket, the real store and engine: two agents on one PostgreSQL with fsync. Four
spells of one run: the first start (schedules are made, every mailbox is logged in to and scanned); at rest,
with nothing due, which shows what the sessions alone cost; at a steady pace below what the machine can do,
where delays are latency and not a queue; and at all it can do. The last three begin with WARM seconds that do
not count. It takes so many routes that none is due twice: with few there is nothing to measure.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.metrics import budget
from agent.store import schema
from agent.store.schema import open_store
from tests.fakes.postgres import Postgres, running
from tests.fleet.agents import Fleet, FleetAgent, fleet, fleet_config
from tests.fleet.measure import Bench, Cost, disk_of, knowing
from tests.fleet.world import Load, load_world, many_files

AGENTS = 2
PROVIDERS = tuple("gmail yahoo aol icloud gmx webde fastmail zoho stalwart generic".split())
EVERY = "900s"
PACE, FULL = 40.0, 400.0
"""Canaries a second: a steady pace, and more than this machine can do."""
GOAL_SENDERS, GOAL_SEEDS, GOAL_EVERY = 200, 5_000, 900.0
DAY, YEAR, KEPT = 86_400.0, 365.0, 90.0
START, WARM, REST = 600.0, 35.0, 20.0
"""Seconds: for the start, at most; before a spell is measured (a sweep may be 30 away); at rest."""


@dataclass
class Measured:
    """What one run showed. runs, start: seconds until the agents say that they run and until every mailbox is
    read; rss, disk: bytes of the bigger agent and a canary; p95: seconds from event to row at the pace."""

    senders: int
    seeds: int
    runs: float
    start: float
    rss: float
    rest: Cost
    pace: Cost
    full: Cost
    p95: float
    disk: float
    connections: float


async def measure(server: Postgres, folder: Path, senders: int, seeds: int, seconds: float) -> Measured:
    """Starts the fleet, waits until every mailbox is read, and measures at rest, paced and at full load."""
    with server.database(schema.make) as url:
        async with load_world() as world:
            size = {"senders": senders, "seeds": seeds}
            path = fleet_config(world, folder, url, providers=PROVIDERS, every=EVERY, deadline="10m", **size)
            began = time.monotonic()
            async with fleet(path, AGENTS) as found:
                runs = await _all_run(found, began)
                await _all_read(world, seeds, began)
                start = time.monotonic() - began
                store = open_store(url)
                bench = Bench(found, world, store, server)
                rest = await _spell(bench, senders * seeds, 0.0, REST)
                pace, p95 = await _paced(bench, senders * seeds, seconds)
                before = await asyncio.to_thread(disk_of, server, url)
                full = await _spell(bench, senders * seeds, FULL, seconds)
                disk = await asyncio.to_thread(disk_of, server, url) - before
                rss = max(map(_rss, found.agents))
                store.close()
                connections = _connections(server, url) / AGENTS
    each = disk / max(1, full.settled)
    return Measured(senders, seeds, runs, start, rss, rest, pace, full, p95, each, connections)


async def _spell(bench: Bench, routes: int, rate: float, seconds: float) -> Cost:
    """So many canaries a second fall due from now on. What they cost, once the agents have seen it."""
    await asyncio.to_thread(_due, bench, routes, rate)
    await asyncio.sleep(WARM)
    return await bench.during(seconds)


def _due(bench: Bench, routes: int, rate: float) -> None:
    assert bench.server is not None
    over = routes / rate if rate else 1e9
    first = WARM / 2 if rate else 1e6
    changed = f"due_at = extract(epoch FROM now()) + {first} + random() * {over}"
    alone = "LOCK TABLE schedules IN SHARE ROW EXCLUSIVE MODE"
    bench.server.sql(f"{alone}; UPDATE schedules SET {changed}", str(bench.store.url.database))


async def _paced(bench: Bench, routes: int, seconds: float) -> tuple[Cost, float]:
    """The cost at the steady pace, and the p95 of what arrived in that spell."""
    assert bench.server is not None
    cost = await _spell(bench, routes, PACE, seconds)
    since = time.time() - seconds
    await asyncio.sleep(1.0)
    handled = await bench.world.handled()
    came = {token: one.at for token, one in handled.items() if one.at and one.at[0] >= since}
    delays = knowing(bench.server, str(bench.store.url.database), came)
    return cost, delays[int(0.95 * len(delays))]


async def _all_run(found: Fleet, began: float) -> float:
    while not all("mailcanary runs" in agent.log() for agent in found.agents):
        if time.monotonic() - began > START:
            raise RuntimeError(found.logs())
        await asyncio.sleep(0.2)
    return time.monotonic() - began


async def _all_read(world: Load, seeds: int, began: float) -> None:
    while (await world.figures())["open"] < seeds:
        if time.monotonic() - began > START:
            raise RuntimeError(f"{(await world.figures())['open']:.0f} of {seeds} mailboxes are read")
        await asyncio.sleep(0.5)


def _connections(server: Postgres, url: str) -> int:
    where = f"datname = '{url.rpartition('/')[2]}' AND backend_type = 'client backend'"
    return int(str(server.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {where}")[0][0]))


def _rss(agent: FleetAgent) -> float:
    text = Path(f"/proc/{agent.pid}/status").read_text()
    return next(float(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("VmRSS:"))


def report(found: Measured) -> Iterator[str]:
    """Lines for people: measured, then extrapolated."""
    size = f"{found.senders} senders x {found.seeds} seeds"
    yield f"measured: {size}, {AGENTS} agents, one PostgreSQL, fsync on"
    yield from _lines(_measured(found))
    yield f"{GOAL_SENDERS} x {GOAL_SEEDS} every {GOAL_EVERY / 60:g} minutes"
    yield from _lines(_extrapolated(found))
    yield "assumed: CPU a canary stays as measured with more rows and agents; the disk takes the WAL;"
    yield "mail is answered at once; ten providers a sender; nothing is late, twice or deferred"


def _lines(rows: Iterator[tuple[str, float, str]]) -> Iterator[str]:
    for what, figure, unit in rows:
        yield f"  {what:<40} {figure:12,.2f} {unit}"


def _measured(found: Measured) -> Iterator[tuple[str, float, str]]:
    rest, pace, full = found.rest, found.pace, found.full
    yield "routes", found.senders * found.seeds, ""
    yield "agents run after", found.runs, "s"
    yield "all mailboxes read after", found.start, "s"
    yield "at rest: CPU of agents", rest.agents / rest.at, "cores"
    yield "at rest: CPU of PostgreSQL", rest.store / rest.at, "cores"
    yield f"paced (asked for {PACE:g} a second)", pace.rate, "canaries/s"
    yield "paced: event to row, p95", found.p95 * 1e3, "ms"
    yield f"full (asked for {FULL:g} a second)", full.rate, "canaries/s"
    yield "full: CPU of agents a canary", full.each("agents") * 1e3, "ms"
    yield "full: the same without the rest", _more(found, "agents") * 1e3, "ms"
    yield "full: CPU of PostgreSQL a canary", full.each("store") * 1e3, "ms"
    yield "full: CPU of the load world a canary", full.each("world") * 1e3, "ms (not the fleet's)"
    yield "full: commits a canary", full.each("commits"), ""
    yield "full: WAL a canary", full.each("wal") / 1024, "KiB"
    yield "disk a canary, rows and indexes", found.disk / 1024, "KiB"
    yield "memory of an agent", found.rss / 2**20, "MiB"
    yield "connections of an agent", found.connections, ""


def _more(found: Measured, what: str) -> float:
    """CPU seconds that a canary adds to what the fleet takes at rest."""
    still = float(getattr(found.rest, what)) / found.rest.at
    return (float(getattr(found.full, what)) - still * found.full.at) / max(1, found.full.settled)


def _extrapolated(found: Measured) -> Iterator[tuple[str, float, str]]:
    cost, routes = found.full, GOAL_SENDERS * GOAL_SEEDS
    rate = routes / GOAL_EVERY
    pairs = 10 * GOAL_SENDERS
    still = found.rest.agents / found.rest.at * GOAL_SEEDS / found.seeds
    agents = 8
    yield "R", routes, "routes"
    yield f"r: R / {GOAL_EVERY:g} s", rate, f"canaries/s, {rate * DAY / 1e6:.0f} million a day"
    yield "cores of agents: rest + r x CPU", still + rate * _more(found, "agents"), ""
    yield "cores of PostgreSQL: r x CPU", rate * _more(found, "store"), ""
    yield "commits: r x commits, at most", rate * cost.each("commits"), "/s"
    yield "WAL: r x WAL", rate * cost.each("wal") / 2**20, "MiB/s"
    yield f"rows kept: 2 r x {KEPT:g} days", 2 * rate * DAY * KEPT / 1e9, "thousand million"
    yield f"disk: r x {KEPT:g} days x disk", rate * DAY * KEPT * found.disk / 2**40, "TiB"
    yield "disk for a year", rate * DAY * YEAR * found.disk / 2**40, "TiB"
    yield "IMAP sessions: seeds", GOAL_SEEDS, ""
    yield f"connections: {agents} agents x connections", agents * found.connections, ""
    yield "series, at most", budget.series(routes, pairs, GOAL_SENDERS, GOAL_SEEDS), ""


def main(arguments: list[str]) -> int:
    """Measures and prints."""
    senders, seeds, seconds = (int(word) for word in arguments or ("200", "5000", "40"))
    many_files()
    with (
        running(durable=True, more="track_commit_timestamp = on") as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        found = asyncio.run(measure(server, Path(folder), senders, seeds, seconds))
    print("\n".join(report(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
