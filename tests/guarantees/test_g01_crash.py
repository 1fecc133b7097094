"""G1: whenever the agent is killed, no canary is lost, counted twice, or unknown to the store."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.store import rows
from agent.store.schema import open_store
from probes.canary.state import Canary, State
from probes.outcome import Outcome, Placement
from tests.fakes.stores import store_in
from tests.guarantees.agents import AgentProcess, eventually, sink_config, stored
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.launcher import POINTS
from tests.guarantees.sink import DEFER, DELIVER, TWICE, Sink, sink

KILLS = 20
STAGES = ("MAIL", "RCPT", "DATA", "DOT", "SAID")
BOXES = tuple(f"box{n}@example.net" for n in range(5))
ROUTES = [{"every": "300ms", "deadline": "4s", "late_after": "1h"}]
LIFE = 20.0
"""Seconds after which a life that did not reach its own end is ended."""


def at_stage(world: Sink, agent: AgentProcess, stage: str, turn: int) -> None:
    """Has the agent killed when the server is at a stage for the n-th time."""
    seen = Counter[str]()

    def look(name: str) -> None:
        seen[name] += 1
        if name == stage and seen[name] == turn:
            agent.signal(signal.SIGKILL)

    world.on_stage = look


async def one_life(world: Sink, agent: AgentProcess, kill: int, chance: random.Random) -> float:
    """Starts the agent and sees it killed; returns the seconds until it sent again."""
    before = sum(world.accepted.values())
    way = ("time", "stage", "point")[kill % 3]
    point = "-"
    if way == "point":
        name = chance.choice(list(POINTS))
        point = f"{name}:{1 if name == 'take-up' else chance.randint(1, 50)}"
    if way == "stage":
        at_stage(world, agent, chance.choice(STAGES), chance.randint(1, 80))
    began = time.monotonic()
    await agent.start(point)
    resumed = await resumes(world, agent, before, began)
    until = time.monotonic() + (chance.uniform(0.0, 2.0) if way == "time" else 2.5)
    while time.monotonic() < until and not agent.dead:
        await asyncio.sleep(0.01)
    await agent.kill()
    world.on_stage = lambda _stage: None
    return resumed


async def resumes(world: Sink, agent: AgentProcess, before: int, began: float) -> float:
    """Seconds until the first canary of this life was accepted; 0 where it died first."""
    while not agent.dead and time.monotonic() - began < LIFE:
        if sum(world.accepted.values()) > before:
            return time.monotonic() - began
        await asyncio.sleep(0.01)
    return 0.0


async def settle(agent: AgentProcess, folder: Path) -> list[Canary]:
    """Runs the agent without sending until every row is settled."""
    store = open_store(store_in(folder))
    store.write_now(lambda tx: rows.set_setting(tx.conn, rows.PAUSED, {"by": "proof"}))
    store.close()
    await agent.start()

    def open_rows() -> list[Canary]:
        awaited = (State.INTENDED, State.SENT, State.UNCONFIRMED, State.DEFERRED)
        return [c for c in stored(folder) if c.state in awaited]

    try:
        await eventually(lambda: not open_rows(), 60.0, lambda: f"never settled: {open_rows()[:2]}")
        await asyncio.sleep(0.5)  # further copies are still being read
    finally:
        await agent.stop()
    return stored(folder)


def compare(world: Sink, found: list[Canary]) -> Tally:
    """The store's word against the server's."""
    tally = Tally(trials=len(found))
    by_token = {canary.token: canary for canary in found}
    tally.check(len(by_token) == len(found), "a token has two rows")
    for token, times in world.accepted.items():
        canary = by_token.get(token)
        tally.check(canary is not None, f"accepted, and unknown to the store: {token}")
        tally.check(times == 1, f"sent {times} times: {token}")
        if canary is not None:
            tally.check(canary.placement is Placement.INBOX, f"delivered, and {canary.placement}: {canary}")
            tally.check(canary.duplicates == int(world.fate(token, "") == TWICE), f"counted twice: {canary}")
    for canary in found:
        tally.check(canary.outcome is not None, f"without outcome: {canary}")
        invented = canary.outcome is Outcome.PASS and canary.token not in world.accepted
        tally.check(not invented, f"passed, and never accepted: {canary}")
        missed = canary.placement is Placement.MISSING
        tally.check(not missed, f"missing, and the server never lost one: {canary}")
    tally.check(not world.sent_again(), f"sent again after its end: {world.sent_again()[:3]}")
    return tally


def fates(chance: random.Random) -> Callable[[str, str], str]:
    """Most are delivered; a few are deferred once, a few are saved twice."""
    deferred: set[str] = set()

    def fate(token: str, to: str) -> str:
        draw = int.from_bytes(token[-3:].encode(), "big") % 40
        if draw == 0 and to and token not in deferred:
            deferred.add(token)
            return DEFER
        return TWICE if draw == 1 else DELIVER

    return fate


async def part(folder: Path, number: int, kills: int = KILLS) -> Tally:
    """Kills an agent that sends and reads so many times, and compares."""
    chance = random.Random(number)
    async with sink(*BOXES) as world:
        world.fate = fates(chance)
        world.delay = 0.02
        agent = AgentProcess(sink_config(world, folder, senders=4, routes=ROUTES))
        try:
            resumed = [await one_life(world, agent, kill, chance) for kill in range(kills)]
            tally = compare(world, await settle(agent, folder))
        finally:
            await agent.close()
        tally.figures = {"kills": kills, "s from a restart to its first canary": max(resumed[1:])}
        # A dead holder's lease lasts 30 s where it is not broken.
        tally.check(max(resumed) < LIFE, "a restart waited for the dead one's lease")
        return tally


GUARANTEE = Guarantee(
    "G1", "canaries lost, counted twice or unknown to the store over SIGKILL", "canaries", 200, 20, part
)


@pytest.mark.timeout(400)  # a busy machine
async def test_nothing_is_lost_counted_twice_or_unknown_over_20_kills(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
    assert tally.trials >= 800
