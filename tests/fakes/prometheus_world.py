"""What Prometheus would have scraped, a value a minute, of an agent and its canaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Fate = Callable[[int], str]
"""What becomes of the n-th canary: pass, missing, spam, unknown, or "" (not sent, or not judged)."""

Value = float | None
DAY = 1440
STARTED = -1_000_000.0
JOB = 'job="mailcanary",instance="agent:9465"'


@dataclass
class Pair:
    """One seed of one sender, a canary each `every` minutes."""

    sender: str
    provider: str
    seed: str
    fate: Fate
    every: int = 15


@dataclass
class World:
    """Series by name and labels, a value for each minute; None where there is no sample."""

    minutes: int
    series: dict[str, list[Value]] = field(default_factory=dict)

    def set(self, name: str, values: Callable[[int], Value], labels: str = "") -> World:
        """A series from a function of the minute."""
        key = f"{name}{{{','.join(filter(None, (JOB, labels)))}}}"
        self.series[key] = [values(minute) for minute in range(self.minutes)]
        return self

    def change(self, part: str, change: Callable[[int, Value], Value]) -> World:
        """Changes each value of the series whose name and labels contain `part`."""
        for key, values in self.series.items():
            if part in key:
                self.series[key] = [change(minute, value) for minute, value in enumerate(values)]
        return self

    def input_series(self, step: int = 1) -> list[dict[str, str]]:
        """As promtool reads it. step: minutes between two scrapes."""
        return [
            {"series": key, "values": " ".join("_" if v is None else f"{v:.10g}" for v in values[::step])}
            for key, values in self.series.items()
        ]


def world(pairs: Iterable[Pair], minutes: int = DAY) -> World:
    """An agent in good health, and the canaries of the pairs."""
    made = World(minutes)
    made.set("up", lambda _: 1.0)
    made.set("mailcanary_build_info", lambda _: 1.0, 'version="1"')
    made.set("mailcanary_time_seconds", lambda minute: 60.0 * minute)
    made.set("process_start_time_seconds", lambda _: STARTED)
    made.set("mailcanary_paused", lambda _: 0.0)
    made.set("mailcanary_routes", lambda _: 1.0)
    made.set("mailcanary_config_last_reload_successful", lambda _: 1.0)
    made.set("mailcanary_loop_lag_seconds", lambda _: 0.001)
    for pair in pairs:
        _add(made, pair)
    return made


def _add(made: World, pair: Pair) -> None:
    counts = {"pass": 0.0, "fail": 0.0, "unknown": 0.0}
    counted: dict[str, list[Value]] = {outcome: [] for outcome in counts}
    outcome_line, success_line, unknown_line = [], [], []
    outcome: Value = None
    success: Value = None
    unknown: Value = None
    for minute in range(made.minutes):
        for told in _verdicts(pair, minute):
            counts[told] += 1
            outcome = {"pass": 1.0, "fail": 0.0, "unknown": None}[told]
            unknown = 1.0 if told == "unknown" else None
            success = 60.0 * minute if told == "pass" else success
        for key, line in counted.items():
            line.append(counts[key])
        outcome_line.append(outcome)
        success_line.append(success)
        unknown_line.append(unknown)
    for key, line in counted.items():
        labels = f'sender="{pair.sender}",provider="{pair.provider}",outcome="{key}"'
        _sum(made, f"mailcanary_canary_results_total{{{JOB},{labels}}}", line)
    route = f'sender="{pair.sender}",seed="{pair.seed}"'
    made.series[f"mailcanary_canary_outcome{{{JOB},{route}}}"] = outcome_line
    made.series[f"mailcanary_canary_last_success_timestamp_seconds{{{JOB},{route}}}"] = success_line
    made.series[f'mailcanary_canary_unknown{{{JOB},{route},reason="unconfirmed"}}'] = unknown_line


def _verdicts(pair: Pair, minute: int) -> Iterable[str]:
    """Sent at the first minute of an interval; a missing one is told eleven minutes later."""
    now, late = divmod(minute - 1, pair.every), divmod(minute - 12, pair.every)
    if minute >= 12 and late[1] == 0 and pair.fate(late[0]) == "missing":
        yield "fail"
    if minute >= 1 and now[1] == 0:
        fate = pair.fate(now[0])
        if fate in ("pass", "unknown"):
            yield fate
        elif fate == "spam":
            yield "fail"


def _sum(made: World, key: str, line: list[Value]) -> None:
    known = made.series.get(key)
    made.series[key] = (
        line if known is None else [(a or 0) + (b or 0) for a, b in zip(known, line, strict=True)]
    )
