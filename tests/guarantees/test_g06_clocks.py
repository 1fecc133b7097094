"""G6: whatever the clocks do, no latency is negative, nothing crashes, and nothing is falsely missing."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from agent.app import App
from agent.store import rows
from probes.canary.state import Canary
from probes.clock import SystemClock
from probes.outcome import Outcome, Placement
from tests.guarantees.agents import app_on, eventually, rows_of, send, sink_config
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import DELIVER, HOLD, sink

BOXES = tuple(f"box{n}@example.net" for n in range(2))
HOUR = 3_600.0
ROUTES = [{"every": "1d", "deadline": "5s", "late_after": "1h"}]
DATES = (
    b"Thu, 01 Jan 1970 00:00:00 +0000",
    b"Fri, 31 Dec 9999 23:59:59 +0000",
    b"Sun, 30 Feb 2026 25:61:61 +9999",
    b"",
    b"\xff\xfe\x00",
    b"Mon, 1 Jan 0001 00:00:00 -2400",
    b"Tue, 19 Jan 2038 03:14:08 +0000",
    b"yesterday",
    b"1" * 5000,
    b"Wed, 21 Oct 2015 07:28:00 (((((",
)


class BentClock(SystemClock):
    """The machine's clocks, the wall clock off by so many seconds. A machine that slept looks the same: its
    wall clock went on while its monotonic clock stood still."""

    def __init__(self, off: float = 0.0) -> None:
        super().__init__()
        self.off = off

    def wall(self) -> float:
        return time.time() + self.off


async def _all_settled(app: App, number: int) -> list[Canary]:
    def settled() -> list[Canary]:
        return [c for c in rows_of(app) if c.settled_at is not None]

    await eventually(lambda: len(settled()) >= number, 60.0, lambda: f"{len(settled())} of {number} settled")
    return rows_of(app)


def judge(found: list[Canary]) -> Tally:
    """Every canary was delivered at once, so each has to be in the inbox, with no negative latency."""
    tally = Tally(trials=len(found))
    for canary in found:
        tally.check(canary.latency is None or canary.latency >= 0, f"negative latency: {canary}")
        tally.check(canary.placement is not Placement.MISSING, f"falsely missing: {canary}")
        tally.check(canary.outcome is Outcome.PASS, f"delivered, and {canary.outcome}: {canary}")
    return tally


async def agent_off(folder: Path, off: float) -> Tally:
    """The agent's own clock is wrong from the start."""
    async with sink(*BOXES) as world:
        path = sink_config(world, folder, routes=ROUTES)
        async with app_on(path, clock=BentClock(off), seeds=["box0", "box1"]) as app:
            await send(app, times=2)
            return judge(await _all_settled(app, 8))


async def jumps(folder: Path, *offs: float) -> Tally:
    """The agent's clock jumps while canaries are under way."""
    clock = BentClock()
    async with sink(*BOXES) as world:
        path = sink_config(world, folder, routes=ROUTES)
        async with app_on(path, clock=clock, seeds=["box0", "box1"]) as app:
            number = 0
            for off in offs:
                world.fate = lambda _token, _to: HOLD
                await send(app)
                number += 4
                await eventually(lambda: len(world.held) >= 4, 10.0, lambda: "not sent")
                clock.off += off
                await asyncio.sleep(1.5)  # the agent looks at its clocks each second
                world.fate = lambda _token, _to: DELIVER
                world.release()
                await _all_settled(app, number)
            await asyncio.sleep(1.2)
            tally = judge(rows_of(app))
            tally.check(_ahead(app, clock) < 86_400 * 1.2, "a jump left a due time far ahead")
            return tally


def _ahead(app: App, clock: BentClock) -> float:
    """Seconds until the last thing that is due."""
    found = app.services.database.read_now(rows.schedule_rows)
    return max((row.due_at - clock.wall() for row in found), default=0.0)


async def server_off(folder: Path, chance: random.Random, number: int) -> Tally:
    """The server's INTERNALDATE is wrong by up to years, and the Date and Received fields are rubbish."""
    async with sink(*BOXES) as world:
        plain = {address: box.deliver for address, box in world.boxes.items()}

        def spoil(address: str, data: bytes) -> None:
            off = chance.choice([-HOUR, HOUR, -40 * 365 * 86_400.0, 5 * 365 * 86_400.0])
            bad = b"Received: from x by y; %s\r\nDate: %s\r\n" % (chance.choice(DATES), chance.choice(DATES))
            plain[address](bad + data, internaldate=time.time() + off)

        for address, box in world.boxes.items():
            box.deliver = lambda data, a=address: spoil(a, data)
        async with app_on(
            sink_config(world, folder, senders=4, routes=ROUTES), seeds=["box0", "box1"]
        ) as app:
            await send(app, times=number // 8)
            return judge(await _all_settled(app, number))


async def part(folder: Path, number: int) -> Tally:
    """Each way a clock can be wrong, once."""
    chance = random.Random(number)
    tally = Tally()
    for name, off in (("ahead", HOUR), ("behind", -HOUR)):
        tally.add(await agent_off(folder / name, off))
    tally.add(await jumps(folder / "jumps", HOUR, -2 * HOUR))
    tally.add(await server_off(folder / "server", chance, 200))
    return tally


PROMISE = "no negative latency, crash or false missing, whatever the clocks say"
GUARANTEE = Guarantee("G6", PROMISE, "canaries", 1000, 224, part)


async def test_clocks_that_are_wrong_jump_or_lie(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []


@pytest.mark.parametrize("night", ["2026-03-29T00:59:57Z", "2026-10-25T00:59:57Z"])
async def test_both_nights_on_which_summer_time_begins_and_ends(
    tmp_path: Path, night: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import datetime

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        off = datetime.fromisoformat(night).timestamp() - time.time()
        tally = await agent_off(tmp_path, off)
        assert tally.failures == []
    finally:
        monkeypatch.undo()
        time.tzset()


async def test_a_jump_while_no_agent_ran_is_found_at_the_next_start(tmp_path: Path) -> None:
    async with sink(*BOXES) as world:
        path, clock, name = sink_config(world, tmp_path, routes=ROUTES), BentClock(), "canary:s0/box0"
        async with app_on(path, clock=clock, seeds=["box0"]) as app:
            database = app.services.database
            await database.write(lambda tx: rows.put_schedules(tx.conn, {name: clock.wall() + 60.0}))
            await app.upkeep._beat_clocks()
            before = _ahead(app, clock)
        clock.off -= HOUR
        async with app_on(path, clock=clock, seeds=["box0"]) as app:
            assert abs(_ahead(app, clock) - before) < 120.0


async def test_a_suspend_leaves_no_false_latency_and_nothing_missing(tmp_path: Path) -> None:
    tally = await jumps(tmp_path, 2 * HOUR)
    assert tally.failures == []
