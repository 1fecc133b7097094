"""G11: a reload under load drops no canary, and a bad file keeps the old config."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import aiohttp
import pytest
import yaml

from probes.canary.state import State
from probes.outcome import Placement
from tests.guarantees.agents import AgentProcess, eventually, sink_config, stored
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import Sink, sink

BOXES = tuple(f"box{n}@example.net" for n in range(3))
ROUTES = [{"every": "300ms", "deadline": "10s", "late_after": "1h"}]
RELOADS = 20
BAD = (
    "senders: [",
    "senders: {}\nseeds: {}\n",
    "sender: {}\n",
    "agent: {listen: 0.0.0.0:1}\n",
)


async def metric(listen: str, name: str) -> float:
    """A sample of the agent's /metrics."""
    async with aiohttp.ClientSession() as session, session.get(f"http://{listen}/metrics") as reply:
        found = re.search(rf"^{name} (\S+)$", await reply.text(), re.MULTILINE)
        return float(found.group(1)) if found else -1.0


async def _reloaded(agent: AgentProcess, seen: int) -> None:
    def said() -> int:
        log = agent.log()
        return log.count('"config loaded"') + log.count("the old one stays")

    await eventually(lambda: said() > seen, 20.0, lambda: "a reload was never told")


async def _sends(world: Sink, more: int) -> None:
    await eventually(lambda: len(world.accepted) > more, 20.0, lambda: "sending stopped")


async def part(folder: Path, number: int, reloads: int = RELOADS) -> Tally:
    """SIGHUPs while it sends; the good files drop and take back a seed, and change another's settings."""
    async with sink(*BOXES) as world:
        world.delay = 0.02
        path = sink_config(world, folder, senders=3, routes=ROUTES)
        good = path.read_text()
        listen = yaml.safe_load(good)["agent"]["listen"]
        agent = AgentProcess(path)
        tally = Tally(trials=reloads)
        try:
            await agent.start()
            await eventually(lambda: len(world.accepted) > 5, 30.0, lambda: agent.log()[-2000:])
            for turn in range(reloads):
                bad = turn % 2 == 1
                path.write_text(BAD[turn // 2 % len(BAD)] if bad else _changed(good, turn))
                more = len(world.accepted) + 3
                agent.signal(signal.SIGHUP)
                await _reloaded(agent, turn)
                said = await metric(listen, "mailcanary_config_last_reload_successful")
                tally.check(said == (0.0 if bad else 1.0), f"reload {turn}: the metric says {said}")
                await _sends(world, more)
            path.write_text(good)
            code = await agent.stop()
            tally.check(code == 0, f"it ended with {code}: {agent.log()[-2000:]}")
        finally:
            await agent.close()
        found = {canary.token: canary for canary in stored(folder)}
        for token in world.accepted:
            canary = found.get(token)
            tally.check(canary is not None and canary.attempts == 1, f"dropped: {token} {canary}")
        left = [c for c in found.values() if c.state is State.INTENDED]
        tally.check(not left, f"an intent was dropped: {left[:2]}")
        lost = [c for c in found.values() if c.placement is Placement.MISSING]
        tally.check(not lost, f"missing: {lost[:2]}")
        tally.figures = {"canaries": len(found)}
        return tally


def _changed(text: str, turn: int) -> str:
    document = yaml.safe_load(text)
    document["seeds"]["box1"]["imap"]["timeout"] = f"{5 + turn % 3}s"
    if turn % 4 == 0:
        del document["seeds"]["box2"]
    return yaml.safe_dump(document, sort_keys=False)


GUARANTEE = Guarantee(
    "G11", "a reload drops no canary, a bad file keeps the old config", "reloads", 500, RELOADS, part
)


@pytest.mark.timeout(400)  # a busy machine
async def test_twenty_reloads_under_load_drop_nothing(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
