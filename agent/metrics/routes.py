"""The newest verdict of each route, kept in memory and filled from the store at the start and on a reload.

A scrape costs the same whatever the history; a verdict changes one line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock

from prometheus_client.core import GaugeMetricFamily, Metric

from agent.config.models import Route
from agent.metrics.families import BATCH, Values, header, labelled, number
from agent.metrics.specs import LAST_SUCCESS, OUTCOME, UNKNOWN, Spec
from probes.outcome import Outcome

STALE_ROUNDS = 3
"""A route's verdict vanishes after so many intervals without a new one."""

REASONS = frozenset(
    "seed-unreadable unconfirmed seed-fault sender-unreachable contaminated ambiguous scan-incomplete "
    "clock junk-folder-gone withdrawn".split()
)

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a canary says of its route. created, seen: seconds since the epoch; seen None: not in time."""

    sender: str
    seed: str
    outcome: Outcome
    reason: str
    created: float
    seen: float | None


class _Line:
    """A route's verdict with its lines of the exposition."""

    __slots__ = (
        "created",
        "life",
        "outcome",
        "outcome_text",
        "reason",
        "route",
        "success",
        "success_text",
        "unknown_text",
    )

    def __init__(self, route: Key, life: float) -> None:
        self.route = route
        self.life = life
        self.created = float("-inf")
        self.outcome: Outcome | None = None
        self.reason = ""
        self.success: float | None = None
        self.outcome_text = self.unknown_text = self.success_text = ""

    def judge(self, outcome: Outcome, reason: str) -> None:
        self.outcome, self.reason = outcome, reason if reason in REASONS else "other"
        if outcome is Outcome.UNKNOWN:
            self.outcome_text = ""
            self.unknown_text = f"{_name(UNKNOWN, (*self.route, self.reason))} 1.0\n"
        else:
            self.unknown_text = ""
            self.outcome_text = f"{_name(OUTCOME, self.route)} {float(outcome is Outcome.PASS)}\n"

    def succeed(self, at: float) -> None:
        self.success = at
        self.success_text = f"{_name(LAST_SUCCESS, self.route)} {number(at)}\n"


def _name(spec: Spec, values: tuple[str, ...]) -> str:
    return labelled(spec.full_name, zip(spec.labels, values, strict=True))


class Routes:
    """The gauges of the routes of the config in force."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lines: dict[Key, _Line] = {}
        self._changing = Lock()  # verdicts come on the loop, and from the store in a thread

    def configure(self, routes: Iterable[Route]) -> None:
        """Takes the routes of a config: what is not among them vanishes."""
        lines: dict[Key, _Line] = {}
        for route in routes:
            key = (route.sender, route.seed)
            life = STALE_ROUNDS * route.every + route.deadline
            line = lines[key] = self._lines.get(key) or _Line(key, life)
            line.life = life
        self._lines = lines

    def __len__(self) -> int:
        return len(self._lines)

    def note(self, verdict: Verdict) -> None:
        """A verdict, in any order: only the canary sent last speaks for its route."""
        line = self._lines.get((verdict.sender, verdict.seed))
        if line is None:
            return
        with self._changing:
            if verdict.created >= line.created:
                line.created = verdict.created
                line.judge(verdict.outcome, verdict.reason)
        if verdict.outcome is Outcome.PASS and verdict.seen is not None:
            self.success((verdict.sender, verdict.seed), verdict.seen)

    def success(self, key: Key, at: float) -> None:
        """A canary of the route was seen where it should be."""
        line = self._lines.get(key)
        if line is not None and (line.success is None or at > line.success):
            line.succeed(at)

    def without_success(self) -> list[Key]:
        """Routes of which no success is known."""
        return [key for key, line in self._lines.items() if line.success is None]

    @property
    def all_succeeded(self) -> bool:
        """Whether a success of each route is known."""
        return all(line.success is not None for line in self._lines.values())

    def _fresh(self) -> list[_Line]:
        now = self._now()
        return [line for line in list(self._lines.values()) if now - line.created < line.life]

    def text(self) -> Iterator[str]:
        """The exposition, in pieces."""
        fresh = self._fresh()
        yield header(OUTCOME.full_name, OUTCOME.type, OUTCOME.help)
        yield from _pieces(fresh, lambda batch: "".join([line.outcome_text for line in batch]))
        yield header(UNKNOWN.full_name, UNKNOWN.type, UNKNOWN.help)
        yield from _pieces(fresh, lambda batch: "".join([line.unknown_text for line in batch]))
        yield header(LAST_SUCCESS.full_name, LAST_SUCCESS.type, LAST_SUCCESS.help)
        every = list(self._lines.values())
        yield from _pieces(every, lambda batch: "".join([line.success_text for line in batch]))

    def collect(self) -> Iterable[Metric]:
        """The same for prometheus_client."""
        fresh = self._fresh()
        judged: dict[Values, float] = {
            line.route: float(line.outcome is Outcome.PASS) for line in fresh if line.outcome_text
        }
        unknown: dict[Values, float] = {
            (*line.route, line.reason): 1.0 for line in fresh if line.unknown_text
        }
        seen: dict[Values, float] = {
            line.route: line.success for line in self._lines.values() if line.success is not None
        }
        yield _family(OUTCOME, judged)
        yield _family(UNKNOWN, unknown)
        yield _family(LAST_SUCCESS, seen)


def _pieces(lines: list[_Line], join: Callable[[list[_Line]], str]) -> Iterator[str]:
    for start in range(0, len(lines), BATCH):
        yield join(lines[start : start + BATCH])


def _family(spec: Spec, samples: Mapping[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(spec.full_name, spec.help, labels=spec.labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family
