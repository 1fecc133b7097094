"""When things are due. Pure: names, intervals and instants in, instants out. Seconds throughout.

Every schedule has a phase of its own (from a hash of its name), so that many of them spread evenly over
the interval whatever the moment of the start, and a jitter that changes with each run, so that two
schedules of the same interval do not stay in step.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

JITTER = 0.1
"""How far a run may lie from its even spacing, as a share of the interval."""

CATCH_UP = 60.0
"""Seconds over which runs that fell due while the agent was down are spread."""

STARTS = 20.0
"""First runs a second, at most, before they are spread over more than that."""

SLACK = 0.01
"""Seconds by which a turn may be taken early, and none more for it: clocks of a fleet differ by as much."""


def fraction(*parts: object) -> float:
    """A number in [0, 1) that depends on the parts alone."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64


def next_due(name: str, every: float, after: float, count: int) -> float:
    """The first run after `after`: on the schedule's own grid, moved by this run's jitter.

    Two runs are never closer than (1 - 2 * JITTER) of the interval.
    """
    phase = fraction(name) * every
    tick = math.floor((after - phase) / every) + 1
    jitter = (fraction(name, count) - 0.5) * 2 * JITTER * every
    due = phase + tick * every + jitter
    least = after + (1 - 2 * JITTER) * every if count else after
    return due if due > least else due + every


def spread(count: int) -> float:
    """Seconds over which the first runs of so many schedules, or those to catch up with, are spread: a
    minute, so that a newcomer sees it work; more where that would be a storm."""
    return max(CATCH_UP, count / STARTS)


def first_due(name: str, every: float, now: float, over: float = CATCH_UP) -> float:
    """The first run ever: within `over` seconds (see `spread`), or the interval."""
    return now + fraction(name, "first") * min(every, over)


def caught_up(name: str, due: float, now: float, every: float, over: float = CATCH_UP) -> float:
    """When to run what fell due while nobody was there: soon (see `spread`), once, and not all at the same
    instant."""
    if due > now:
        return min(due, now + every * (1 + JITTER))
    return now + fraction(name, due) * min(every, over)


@dataclass(frozen=True, slots=True)
class Pace:
    """GCRA: at most `rate` a second with bursts of `burst`. free_at is all the state there is."""

    rate: float
    burst: int = 1

    def take(self, free_at: float | None, now: float) -> tuple[bool, float]:
        """(True, the new free_at) where one may go now, else (False, when it may)."""
        step = 1.0 / self.rate
        # It never lies further ahead than a full burst, but where the clock went back or the rate went up.
        free_at = None if free_at is None else min(free_at, now + self.burst * step)
        base = max(free_at or 0.0, now)
        earliest = base - (self.burst - 1) * step
        if free_at is not None and earliest > now + SLACK:
            return False, earliest
        return True, base + step
