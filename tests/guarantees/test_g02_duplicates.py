"""G2: a canary whose final 250 was lost, or that was saved twice, counts once and is never sent again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.app import App
from probes.canary.state import Canary
from probes.outcome import Outcome, Placement
from tests.guarantees.agents import app_on, eventually, rows_of, send, sink_config
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import TWICE, Sink, sink

BOXES = tuple(f"box{n}@example.net" for n in range(5))
EACH = 50


async def settled(app: App, number: int, timeout: float = 40.0) -> list[Canary]:
    """The canaries of the store, once there are so many and each was read back."""

    def seen() -> list[Canary]:
        return [c for c in rows_of(app) if c.seen_at is not None]

    await eventually(lambda: len(seen()) >= number, timeout, lambda: f"{len(seen())} of {number} were placed")
    return rows_of(app)


def compare(world: Sink, found: list[Canary], copies: int) -> Tally:
    """Each canary placed once, its copies counted, nothing sent again."""
    tally = Tally(trials=len(found))
    for canary in found:
        good = (canary.placement, canary.outcome, canary.attempts) == (Placement.INBOX, Outcome.PASS, 1)
        tally.check(good, f"not placed once: {canary}")
        tally.check(canary.duplicates == copies, f"{canary.duplicates} duplicates, not {copies}: {canary}")
        tally.check(world.accepted[canary.token] == 1, f"accepted {world.accepted[canary.token]} times")
    tally.check(not world.sent_again(), "sent again")
    tally.check(len(world.accepted) == len(found), "the server has other canaries than the store")
    return tally


async def lost_replies(folder: Path, each: int) -> Tally:
    """The server takes every message and the connection ends before its 250."""
    async with sink(*BOXES) as world:
        world.eat = True
        async with app_on(sink_config(world, folder, senders=1), seeds=["box0"]) as app:
            await send(app, times=each // len(BOXES))
            found = await settled(app, each)
            await app.timer.sweep()
            await asyncio.sleep(0.5)
            return compare(world, rows_of(app) or found, copies=0)


async def saved_twice(folder: Path, each: int) -> Tally:
    """The server saves every message twice."""
    async with sink(*BOXES) as world:
        world.fate = lambda _token, _to: TWICE
        async with app_on(sink_config(world, folder, senders=1), seeds=["box0"]) as app:
            await send(app, times=each // len(BOXES))
            await eventually(
                lambda: sum(c.duplicates for c in rows_of(app)) >= each, 40.0, lambda: "copies not counted"
            )
            await asyncio.sleep(0.5)
            return compare(world, rows_of(app), copies=1)


async def part(folder: Path, number: int) -> Tally:
    """Both, with so many canaries each."""
    tally = await lost_replies(folder / "lost", EACH)
    tally.add(await saved_twice(folder / "twice", EACH))
    return tally


PROMISE = "a lost final 250 and a message saved twice count once, nothing is sent again"
GUARANTEE = Guarantee("G2", PROMISE, "canaries", 1000, 2 * EACH, part)


async def test_fifty_lost_replies_and_fifty_copies_count_once(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
    assert tally.trials == 2 * EACH
