"""Burn-rate windows that fit how many canaries there are.

The usual pair of 1 h and 5 min pages on one lost message where a canary goes out every ten minutes, and its
short window is often empty. Here the short window expects at least four canaries, and no window fires on
fewer than two failures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SAMPLES = 4
"""Canaries expected in the short window of the fastest pair."""

DENSE = 48.0
"""Canaries an hour from which the windows of Google's SRE workbook fit as they are."""

NICE = tuple(
    [m * MINUTE for m in (1, 2, 5, 10, 15, 20, 30)] + [h * HOUR for h in (1, 2, 3, 4, 6, 8, 12, 24, 48)]
)
LONGEST = 30 * DAY

Level = Literal["critical", "warning"]


@dataclass(frozen=True, slots=True)
class Burn:
    """Fires where the failure ratio is above factor x (1 - objective) in both windows (seconds)."""

    level: Level
    long: float
    short: float
    factor: float


def burns(per_hour: float, smallest: float = HOUR) -> tuple[Burn, ...]:
    """The pairs of windows for so many canaries an hour. smallest: least short window of sparse canaries.

    For one in 15 minutes: page 6h/1h x6, ticket 1d/6h x3 and 3d/1d x1.
    """
    if per_hour >= DENSE and smallest == HOUR:
        return (
            Burn("critical", HOUR, 5 * MINUTE, 14.4),
            Burn("critical", 6 * HOUR, 30 * MINUTE, 6.0),
            Burn("warning", DAY, 2 * HOUR, 3.0),
            Burn("warning", 3 * DAY, 6 * HOUR, 1.0),
        )
    unit = _nice(max(smallest, SAMPLES / per_hour * HOUR))
    return (
        Burn("critical", min(6 * unit, LONGEST), min(unit, LONGEST / 6), 6.0),
        Burn("warning", min(24 * unit, LONGEST), min(6 * unit, LONGEST / 4), 3.0),
        Burn("warning", min(72 * unit, LONGEST), min(24 * unit, LONGEST / 3), 1.0),
    )


def _nice(seconds: float) -> float:
    """Rounded up to what people would write."""
    for nice in NICE:
        if seconds <= nice * 1.0001:
            return nice
    return math.ceil(seconds / DAY) * DAY


def duration(seconds: float) -> str:
    """As PromQL writes it: 6h, 1d, 90m, 41m30s."""
    left, text = round(seconds), ""
    for size, letter in ((86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
        count, left = divmod(left, size)
        text += f"{count}{letter}" if count else ""
    return text or "0s"
