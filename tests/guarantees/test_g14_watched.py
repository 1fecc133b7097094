"""G14: whoever watches the monitor notices within two periods that it is killed, frozen, blocked or empty."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from aiohttp import web

from tests.guarantees.agents import AgentProcess, eventually, sink_config
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import sink

PERIOD = 2.0
"""Seconds between pings; the receiver's grace is as long again, as healthchecks has it by default."""
STEADY = 4
"""Pings that must have come in time before anything is broken."""
FAULTS = ("killed", "frozen", "blocked", "empty")


@dataclass
class Watch:
    """A receiver like healthchecks: it calls for help when no ping came for a period and its grace."""

    port: int = 0
    pings: list[float] = field(default_factory=list)

    async def ping(self, _request: web.Request) -> web.Response:
        self.pings.append(time.monotonic())
        return web.Response(text="OK")

    @property
    def overdue(self) -> bool:
        """Whether it calls for help now."""
        return bool(self.pings) and time.monotonic() - self.pings[-1] > 2 * PERIOD

    @property
    def longest_gap(self) -> float:
        """Seconds between two pings, at most."""
        return max((b - a for a, b in zip(self.pings, self.pings[1:], strict=False)), default=0.0)


@asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    """The receiver, listening."""
    found = Watch()
    app = web.Application()
    app.router.add_post("/ping/uuid", found.ping)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


def config(world: object, folder: Path, watch: Watch) -> Path:
    """A canary every half second, a ping every period while one was read back within two."""
    url = folder / "ping.url"
    url.touch(mode=0o600)
    url.write_text(f"http://127.0.0.1:{watch.port}/ping/uuid")
    beat = {"url": {"file": str(url)}, "every": f"{PERIOD:g}s", "within": f"{2 * PERIOD:g}s"}
    routes = [{"every": "500ms", "deadline": "10s", "late_after": "1h"}]
    return sink_config(world, folder, senders=1, routes=routes, alerts={"heartbeat": beat})  # type: ignore[arg-type]


def emptied(path: Path) -> None:
    """A config that names a sender and a seed and sends nothing."""
    document = yaml.safe_load(path.read_text())
    document["routes"] = []
    path.write_text(yaml.safe_dump(document))


async def inflict(fault: str, agent: AgentProcess, path: Path) -> None:
    """Does it to the agent."""
    if fault == "killed":
        agent.signal(signal.SIGKILL)
    elif fault == "frozen":
        agent.signal(signal.SIGSTOP)
    elif fault == "blocked":
        agent.signal(signal.SIGUSR1)
    else:
        emptied(path)
        agent.signal(signal.SIGHUP)


async def one(folder: Path, fault: str) -> Tally:
    """Waits for steady pings, breaks the agent, and sees how long the receiver takes to notice."""
    folder.mkdir(parents=True, exist_ok=True)
    tally = Tally(trials=1)
    async with sink("box0@example.net") as world, watching() as watch:
        path = config(world, folder, watch)
        agent = AgentProcess(path)
        try:
            await agent.start()
            await eventually(lambda: len(watch.pings) > STEADY, 60.0, lambda: agent.log()[-2000:])
            tally.check(
                watch.longest_gap <= 2 * PERIOD, f"a healthy agent was silent for {watch.longest_gap}"
            )
            broken = time.monotonic()
            await inflict(fault, agent, path)
            await eventually(lambda: watch.overdue, 4 * PERIOD, lambda: f"{fault}: never noticed")
            noticed = time.monotonic() - broken
            tally.check(noticed <= 2 * PERIOD + 0.5, f"{fault}: noticed after {noticed:.1f} s")
            tally.figures = {f"periods until {fault} is noticed": noticed / PERIOD}
            if fault == "frozen":
                agent.signal(signal.SIGCONT)
                await eventually(lambda: not watch.overdue, 30.0, lambda: "thawed, and still silent")
        finally:
            agent.signal(signal.SIGCONT)
            await agent.close()
    return tally


async def part(folder: Path, number: int) -> Tally:
    """Each fault once."""
    tally = Tally()
    for found in await asyncio.gather(*(one(folder / fault, fault) for fault in FAULTS)):
        tally.add(found)
    return tally


PROMISE = "an outside receiver notices within 2 periods that the agent is killed, frozen, blocked, empty"
GUARANTEE = Guarantee("G14", PROMISE, "faults", 200, len(FAULTS), part)


async def test_an_outside_receiver_notices_within_two_periods(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
