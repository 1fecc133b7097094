"""Cron expressions for maintenance windows: five fields in a time zone, and whether a window is open now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from probes.errors import ConfigError

_DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), 1
    )
}
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("weekday", 0, 7, _DAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression; day and weekday both restricted mean either, as in cron(5)."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    def on(self, day: datetime) -> bool:
        """Whether the expression names this day."""
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_day or by_weekday) if self.either else (by_day and by_weekday)


@lru_cache(maxsize=256)
def parse_cron(text: str) -> Cron:
    """Reads "30 2 * * sun" and the like: lists, ranges, steps, English names. Raises ConfigError."""
    parts = text.lower().split()
    if len(parts) != 5:
        raise ConfigError(
            f"cron {text!r} has {len(parts)} fields; five are needed: minute hour day month weekday"
        )
    minute, hour, day, month, weekday = (
        _numbers(part, field) for part, field in zip(parts, _FIELDS, strict=True)
    )
    return Cron(
        tuple(sorted(minute)),
        tuple(sorted(hour)),
        frozenset(day),
        frozenset(month),
        frozenset(d % 7 for d in weekday),
        either=not parts[2].startswith("*") and not parts[4].startswith("*"),
    )


def _numbers(text: str, field: tuple[str, int, int, Mapping[str, int]]) -> set[int]:
    name, low, high, names = field
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        try:
            first, last = _span(span, low, high, names, bool(step))
            stride = int(step) if step else 1
        except ValueError:
            raise ConfigError(f"cron {name} {item!r} is not a number, range or name") from None
        if not low <= first <= last <= high or stride < 1:
            raise ConfigError(f"cron {name} {item!r} is outside {low}-{high}")
        found.update(range(first, last + 1, stride))
    return found


def _span(span: str, low: int, high: int, names: Mapping[str, int], stepped: bool) -> tuple[int, int]:
    if span == "*":
        return low, high
    start, dash, end = span.partition("-")
    first = names[start] if start in names else int(start)
    if not dash:
        return first, high if stepped else first
    return first, names[end] if end in names else int(end)


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone. Raises ConfigError where there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(f"no time zone {name!r}; write an IANA name such as Europe/Berlin") from None


def last_start(cron: Cron, time_zone: str, now: float, within: float) -> float | None:
    """The newest start at most `within` seconds before now (epoch seconds), or None.

    A local time that the clock skips in spring starts when it would have been; one that comes twice in autumn
    starts at its first.
    """
    tz = zone(time_zone)
    today = datetime.fromtimestamp(now, tz)
    for back in range(int(within // 86400) + 3):
        day = today - timedelta(days=back - 1)
        if not cron.on(day):
            continue
        for hour in reversed(cron.hours):
            for minute in reversed(cron.minutes):
                start = datetime(day.year, day.month, day.day, hour, minute, tzinfo=tz).timestamp()
                if start <= now:
                    return start if now - start < within else None
    return None
