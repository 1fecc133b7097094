"""`python -m tests.fleet.scale [SENDERS SEEDS SECONDS]`: a fleet at the size and rate this machine allows,
and what 200 senders x 5,000 seeds every 15 minutes would take: measured, assumed, and by which formula.

Fake SMTP and IMAP at the socket, the real store and engine: two agents on one PostgreSQL with fsync.
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
from tests.fleet.agents import FleetAgent, fleet, fleet_config
from tests.fleet.measure import Bench, Cost, disk_of
from tests.fleet.world import Load, load_world, many_files

AGENTS = 2
RATE = 40.0
"""Canaries a second that are asked for here."""
GOAL_SENDERS, GOAL_SEEDS, GOAL_EVERY = 200, 5_000, 900.0
CONNECTIONS = 7
"""To PostgreSQL, an agent."""
DAY, YEAR, KEPT = 86_400.0, 365.0, 90.0
START = 300.0


@dataclass
class Measured:
    """What one run showed. start: seconds; rss: bytes of the bigger agent; disk: bytes a canary."""

    senders: int
    seeds: int
    start: float
    rss: float
    cost: Cost
    disk: float


async def measure(server: Postgres, folder: Path, senders: int, seeds: int, seconds: float) -> Measured:
    """Starts the fleet, waits until every mailbox is read, and measures for so long."""
    with server.database(schema.make) as url:
        async with load_world() as world:
            every = f"{int(senders * seeds / RATE)}s"
            size = {"senders": senders, "seeds": seeds, "every": every, "deadline": "10m"}
            path = fleet_config(world, folder, url, provider="generic", **size)
            began = time.monotonic()
            async with fleet(path, AGENTS) as found:
                await _all_read(world, seeds, began)
                start = time.monotonic() - began
                store = open_store(url)
                bench = Bench(found, world, store, server)
                before = await asyncio.to_thread(disk_of, server, url)
                cost = await bench.during(seconds)
                disk = await asyncio.to_thread(disk_of, server, url) - before
                rss = max(map(_rss, found.agents))
                store.close()
    return Measured(senders, seeds, start, rss, cost, disk / max(1, cost.settled))


async def _all_read(world: Load, seeds: int, began: float) -> None:
    while (await world.figures())["open"] < seeds:
        if time.monotonic() - began > START:
            raise RuntimeError(f"{(await world.figures())['open']:.0f} of {seeds} mailboxes are read")
        await asyncio.sleep(0.5)


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
    cost = found.cost
    yield "all mailboxes read after", found.start, "s"
    yield f"canaries a second (asked for {RATE:g})", cost.rate, ""
    yield "CPU of agents a canary", cost.each("agents") * 1e3, "ms"
    yield "CPU of PostgreSQL a canary", cost.each("store") * 1e3, "ms"
    yield "CPU of the load world a canary", cost.each("world") * 1e3, "ms (not the fleet's)"
    yield "commits a canary", cost.each("commits"), ""
    yield "WAL a canary", cost.each("wal") / 1024, "KiB"
    yield "disk a canary, rows and indexes", found.disk / 1024, "KiB"
    yield "memory of an agent", found.rss / 2**20, "MiB"


def _extrapolated(found: Measured) -> Iterator[tuple[str, float, str]]:
    cost, routes = found.cost, GOAL_SENDERS * GOAL_SEEDS
    rate = routes / GOAL_EVERY
    pairs = 10 * GOAL_SENDERS
    yield "R", routes, "routes"
    yield f"r: R / {GOAL_EVERY:g} s", rate, f"canaries/s, {rate * DAY / 1e6:.0f} million a day"
    yield "cores of agents: r x CPU", rate * cost.each("agents"), ""
    yield "cores of PostgreSQL: r x CPU", rate * cost.each("store"), ""
    yield "commits: r x commits, at most", rate * cost.each("commits"), "/s"
    yield "WAL: r x WAL", rate * cost.each("wal") / 2**20, "MiB/s"
    yield f"rows kept: 2 r x {KEPT:g} days", 2 * rate * DAY * KEPT / 1e9, "thousand million"
    yield f"disk: r x {KEPT:g} days x disk", rate * DAY * KEPT * found.disk / 2**40, "TiB"
    yield "disk for a year", rate * DAY * YEAR * found.disk / 2**40, "TiB"
    yield "IMAP sessions: seeds", GOAL_SEEDS, ""
    yield f"connections: {CONNECTIONS} x agents", CONNECTIONS * 8, "with 8 agents"
    yield "series, at most", budget.series(routes, pairs, GOAL_SENDERS, GOAL_SEEDS), ""


def main(arguments: list[str]) -> int:
    """Measures and prints."""
    senders, seeds, seconds = (int(word) for word in arguments or ("20", "5000", "40"))
    many_files()
    with running(durable=True) as server, tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(server, Path(folder), senders, seeds, seconds))
    print("\n".join(report(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
