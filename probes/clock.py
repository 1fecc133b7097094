"""Time as an argument: nothing else in the house may call time.time() or asyncio.sleep() for its own ends."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, cast


class Timer(Protocol):
    """What is to happen at its time."""

    def cancel(self) -> None:
        """It does not."""


class Clock(Protocol):
    """What the house knows of time. All values in seconds."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC. May jump."""

    def monotonic(self) -> float:
        """Seconds that never jump, still while suspended; comparable within one `boot` only."""

    @property
    def boot(self) -> str:
        """Names the machine and its boot: monotonic times of different boots cannot be compared."""

    async def sleep(self, seconds: float) -> None:
        """Waits on the monotonic clock."""

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Calls in the running loop, in so many seconds of the monotonic clock."""


def rfc3339(wall: float) -> str:
    """Seconds since the epoch as RFC 3339 UTC with milliseconds, e.g. 2026-11-21T08:15:30.250Z."""
    return datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _boot_id() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"process-{time.time_ns()}"


class SystemClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot = _boot_id()

    def wall(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    @property
    def boot(self) -> str:
        return self._boot

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        # uvloop counts whole milliseconds from the beginning of its turn: rather late than asked for again
        return asyncio.get_running_loop().call_later(max(0.0, seconds) + 0.001, call)


class FakeClock:
    """A clock that moves only when told to: thirty days of alerting run in a second of test."""

    def __init__(
        self, wall: float = 1_800_000_000.0, monotonic: float = 1_000.0, boot: str = "boot-1"
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._boot = boot
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    @property
    def boot(self) -> str:
        return self._boot

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        await future

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        loop = asyncio.get_running_loop()
        if seconds <= 0:
            return loop.call_soon(call)
        future: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(lambda done: None if done.cancelled() else call())
        heapq.heappush(self._sleepers, (self._monotonic + seconds, next(self._order), future))
        return cast(Timer, future)

    async def advance(self, seconds: float) -> None:
        """Moves both clocks on and wakes, in order, everybody whose time has come."""
        target = self._monotonic + seconds
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, future = heapq.heappop(self._sleepers)
            self._step(due - self._monotonic)
            if not future.done():
                future.set_result(None)
            await self._settle()
        self._step(target - self._monotonic)
        await self._settle()

    def jump(self, seconds: float) -> None:
        """Moves the wall clock alone, as NTP, an administrator or a resume from suspend does."""
        self._wall += seconds

    def reboot(self, boot: str, monotonic: float = 10.0) -> None:
        """A new boot: the monotonic clock starts over under a new name."""
        self._boot = boot
        self._monotonic = monotonic

    def _step(self, seconds: float) -> None:
        self._wall += seconds
        self._monotonic += seconds

    @staticmethod
    async def _settle() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
