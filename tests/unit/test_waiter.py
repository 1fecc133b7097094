"""A waiter is answered once; its task goes on at once, and not at all inside another one."""

from __future__ import annotations

import asyncio

import pytest

from probes.waiter import Waiter


async def begun(waiter: Waiter[int], into: list[str]) -> asyncio.Task[None]:
    async def waits() -> None:
        try:
            into.append(f"answer {await waiter}")
        except (TimeoutError, ValueError, asyncio.CancelledError) as error:
            into.append(type(error).__name__)
            raise

    task = asyncio.create_task(waits())
    await asyncio.sleep(0)
    return task


async def test_the_task_goes_on_within_the_call_that_answers() -> None:
    loop, told = asyncio.get_running_loop(), list[str]()
    waiter = Waiter[int](loop)
    task = await begun(waiter, told)
    seen: list[list[str]] = []

    def protocol() -> None:
        waiter.set_result(7)
        seen.append(list(told))

    loop.call_soon(protocol)
    await task
    assert seen == [["answer 7"]]


async def test_inside_another_task_it_goes_on_in_the_next_turn() -> None:
    told = list[str]()
    waiter = Waiter[int](asyncio.get_running_loop())
    task = await begun(waiter, told)
    waiter.set_result(7)
    assert told == []
    await task
    assert told == ["answer 7"]


async def test_an_answer_that_is_there_is_not_waited_for() -> None:
    waiter = Waiter[int](asyncio.get_running_loop())
    waiter.set_result(7)
    assert await waiter == 7


async def test_errors_and_deadlines() -> None:
    loop, told = asyncio.get_running_loop(), list[str]()
    failed, late, answered = Waiter[int](loop), Waiter[int](loop), Waiter[int](loop)
    tasks = [await begun(waiter, told) for waiter in (failed, late)]
    failed.set_exception(ValueError("no"))
    late.expire()
    answered.set_result(1)
    answered.expire()
    assert isinstance((await asyncio.gather(*tasks, return_exceptions=True))[0], ValueError)
    assert told == ["ValueError", "TimeoutError"]
    assert await answered == 1


async def test_a_task_that_waits_can_be_cancelled_and_timed_out() -> None:
    told = list[str]()
    waiter = Waiter[int](asyncio.get_running_loop())
    task = await begun(waiter, told)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == ["CancelledError"]
    assert waiter.done()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Waiter[int](asyncio.get_running_loop())
