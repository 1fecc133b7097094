"""What of a config the rules depend on: who sends where, how often, and what is promised."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.config.models import Config, Route
from agent.prometheus.windows import HOUR

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Shape:
    """Routes with their seeds' providers; without routes the rules hold for any config of one interval.

    objective: share of judged canaries that must pass. smallest: least short window (seconds), for tests.
    only_agent: without the alerts that the agent itself raises. runbooks, grafana: base URLs.
    """

    routes: tuple[Route, ...] = ()
    providers: Mapping[str, str] = field(default_factory=dict)
    objective: float = 0.99
    sweep: float | None = HOUR
    smallest: float = HOUR
    only_agent: bool = False
    runbooks: str = "http://127.0.0.1:9465/runbooks"
    grafana: str = "http://127.0.0.1:3000"
    every: float = 900.0
    deadline: float = 600.0

    @property
    def slowest(self) -> float:
        """The longest interval of a route, seconds."""
        return max((route.every for route in self.routes), default=self.every)

    @property
    def patience(self) -> float:
        """The longest deadline of a route, seconds."""
        return max((route.deadline for route in self.routes), default=self.deadline)

    def rates(self, level: tuple[str, ...]) -> dict[tuple[str, ...], float]:
        """Canaries an hour of each sender and provider, or of each provider, as the labels in `level` say."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        for route in self.routes:
            names = {"sender": route.sender, "provider": self.providers[route.seed]}
            found[tuple(names[label] for label in level)] += HOUR / route.every
        return dict(found) or {(): HOUR / self.every}

    def intervals(self) -> dict[tuple[float, float], list[Pair]]:
        """Routes (sender, seed) by interval and deadline."""
        found: dict[tuple[float, float], list[Pair]] = defaultdict(list)
        for route in self.routes:
            found[route.every, route.deadline].append((route.sender, route.seed))
        return dict(found) or {(self.every, self.deadline): []}


def shape_of(config: Config, *, grafana: str, only_agent: bool | None = None) -> Shape:
    """The shape of a config. only_agent None: as the config has receivers of its own or not."""
    agent, alerts = config.agent, config.alerts
    base = (agent.external_url or f"http://{agent.listen}").rstrip("/")
    return Shape(
        routes=config.routes_resolved,
        providers={name: seed.provider for name, seed in config.seeds.items()},
        objective=alerts.objective,
        sweep=config.blocklists.every if config.blocklists else None,
        only_agent=bool(alerts.receivers) if only_agent is None else only_agent,
        runbooks=(alerts.runbook_url or f"{base}/runbooks").rstrip("/"),
        grafana=grafana.rstrip("/"),
    )


def matchers(
    chosen: Iterable[tuple[str, ...]], everything: Iterable[tuple[str, ...]], labels: tuple[str, ...]
) -> list[str]:
    """Label matchers that select the chosen label values: [""] where that is everything there is."""
    wanted = set(chosen)
    if wanted == set(everything):
        return [""]
    if len(labels) == 1:
        return [_one(labels[0], (value[0] for value in wanted))]
    by_first: dict[str, set[str]] = defaultdict(set)
    for first, second in wanted:
        by_first[first].add(second)
    by_seconds: dict[frozenset[str], list[str]] = defaultdict(list)
    for first, seconds in by_first.items():
        by_seconds[frozenset(seconds)].append(first)
    return sorted(
        f"{_one(labels[0], firsts)},{_one(labels[1], seconds)}" for seconds, firsts in by_seconds.items()
    )


def _one(label: str, values: Iterable[str]) -> str:
    found = sorted(values)
    if len(found) == 1:
        return f"{label}={json.dumps(found[0])}"
    escaped = "|".join(value.replace(".", "[.]").replace("+", "[+]") for value in found)
    return f"{label}=~{json.dumps(escaped)}"
