"""Alarms ring when they are due, in that order, and not once they are cancelled."""

from __future__ import annotations

import asyncio

from probes.clock import FakeClock
from probes.mailbox.alarms import Alarms, alarms_of


async def test_alarms_ring_in_the_order_in_which_they_fall_due() -> None:
    clock, rung = FakeClock(), list[str]()
    alarms = Alarms(clock)
    alarms.set(30.0, lambda: rung.append("late"))
    alarms.set(10.0, lambda: rung.append("early"))  # set later, due earlier
    alarms.set(30.0, lambda: rung.append("late too"))
    await clock.advance(0.0)  # the timer begins with the next turn of the loop
    await clock.advance(9.9)
    assert rung == []
    await clock.advance(0.1)
    assert rung == ["early"]
    await clock.advance(20.0)
    assert rung == ["early", "late", "late too"]


async def test_a_cancelled_alarm_is_silent_and_holds_up_no_other() -> None:
    clock, rung = FakeClock(), list[str]()
    alarms = Alarms(clock)
    alarms.set(5.0, lambda: rung.append("cancelled")).cancel()
    alarms.set(6.0, lambda: rung.append("kept"))
    await clock.advance(0.0)
    await clock.advance(60.0)
    assert rung == ["kept"]


async def test_an_alarm_may_set_the_next_one() -> None:
    clock, rung = FakeClock(), list[float]()
    alarms = Alarms(clock)

    def again() -> None:
        rung.append(clock.monotonic())
        if len(rung) < 3:
            alarms.set(1.0, again)

    began = clock.monotonic()
    alarms.set(1.0, again)
    await clock.advance(0.0)
    for _ in range(4):
        await clock.advance(1.0)
    assert rung == [began + 1.0, began + 2.0, began + 3.0]


async def test_a_time_that_is_over_rings_at_once() -> None:
    rung = asyncio.Event()
    Alarms(FakeClock()).set(-1.0, rung.set)
    async with asyncio.timeout(5):
        await rung.wait()


async def test_readers_of_one_clock_share_their_alarms() -> None:
    clock = FakeClock()
    assert alarms_of(clock) is alarms_of(clock)
    assert alarms_of(clock) is not alarms_of(FakeClock())
