"""One timer for all readers of a process.

Thousands of sessions rest most of their life; a task and a timer for each rest cost more than what is done
between them. What falls due at the same moment rings in the same turn of the loop.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from weakref import WeakKeyDictionary

from probes.clock import Clock, Timer

GRAIN = 0.001
"""Seconds that an alarm may be late, so that a new one, for all but the same moment, needs no new timer."""


class Alarm:
    """Rings once, unless it is cancelled before."""

    __slots__ = ("ring",)

    def __init__(self, ring: Callable[[], object]) -> None:
        self.ring: Callable[[], object] | None = ring

    def cancel(self) -> None:
        """It rings no more."""
        self.ring = None


class Alarms:
    """The alarms of one clock in one event loop."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._timer: Timer | None = None
        self._next = float("inf")

    def set(self, seconds: float, ring: Callable[[], object]) -> Alarm:
        """Calls `ring` in so many seconds of the monotonic clock."""
        due, alarm = self.clock.monotonic() + max(0.0, seconds), Alarm(ring)
        heapq.heappush(self._heap, (due, next(self._order), alarm))
        if due < self._next - GRAIN:
            self._wait()
        return alarm

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = self._heap[0][0]
        self._timer = self.clock.call_later(self._next - self.clock.monotonic(), self._ring)

    def _ring(self) -> None:
        self._timer, self._next = None, float("inf")
        now, heap = self.clock.monotonic(), self._heap
        while heap and (heap[0][0] <= now or heap[0][2].ring is None):
            ring = heapq.heappop(heap)[2].ring
            if ring is not None:
                ring()
        if heap and self._timer is None:
            self._wait()


_known: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[int, Alarms]] = WeakKeyDictionary()


def alarms_of(clock: Clock) -> Alarms:
    """Those of the clock in the running loop."""
    of_loop = _known.setdefault(asyncio.get_running_loop(), {})
    found = of_loop.get(id(clock))
    if found is None or found.clock is not clock:
        found = of_loop[id(clock)] = Alarms(clock)
    return found
