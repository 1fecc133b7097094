"""Many keys asked for at the same time are one read; a failure and a cancellation are each waiter's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from agent.runner.together import Together
from probes.errors import StoreError


class Shelf:
    """Answers with the length of each key but the empty one, and notes what was asked for together."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.fault: StoreError | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def read(self, keys: Sequence[str]) -> Mapping[str, int]:
        self.asked.append(list(keys))
        await self.go.wait()
        if self.fault is not None:
            raise self.fault
        return {key: len(key) for key in keys if key}


async def test_what_is_asked_for_at_the_same_time_is_one_read() -> None:
    shelf = Shelf()
    together = Together(shelf.read)
    found = await asyncio.gather(*(together.get(key) for key in ("a", "bb", "", "a")))
    assert found == [1, 2, None, 1]
    assert shelf.asked == [["", "a", "bb"]]
    assert await together.get("ccc") == 3
    assert shelf.asked[1:] == [["ccc"]]


async def test_whoever_asks_while_it_is_read_waits_for_the_next() -> None:
    shelf = Shelf()
    shelf.go.clear()
    together = Together(shelf.read)
    first = asyncio.create_task(together.get("a"))
    while not shelf.asked:
        await asyncio.sleep(0)
    second = asyncio.create_task(together.get("a"))
    while len(shelf.asked) < 2:
        await asyncio.sleep(0)
    shelf.go.set()
    assert await asyncio.gather(first, second) == [1, 1]


async def test_a_failure_is_everybodys_and_the_next_read_is_a_new_one() -> None:
    shelf = Shelf()
    shelf.fault = StoreError("away")
    together = Together(shelf.read)
    found = await asyncio.gather(*(together.get(key) for key in "ab"), return_exceptions=True)
    assert found == [shelf.fault, shelf.fault]
    shelf.fault = None
    assert await together.get("a") == 1


async def test_one_that_is_cancelled_takes_no_answer_along() -> None:
    shelf = Shelf()
    shelf.go.clear()
    together = Together(shelf.read)
    gone, stays = (asyncio.create_task(together.get(key)) for key in "ab")
    while not shelf.asked:
        await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    shelf.go.set()
    assert await stays == 1
