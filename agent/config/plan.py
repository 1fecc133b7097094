"""How many canaries the routes come to, and whether that is gentle enough. Pure."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.config.checks import Finding
from agent.config.fields import show_duration
from agent.config.models import Config, Route
from agent.config.providers import provider_facts

DAY = 86400.0
MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one seed gets a day, or all seeds of one provider a minute. cap: None where there is none."""

    name: str
    provider: str
    routes: int
    canaries: float
    cap: float | None

    @property
    def over(self) -> bool:
        """Whether it is more than the cap."""
        return self.cap is not None and self.canaries > self.cap * (1 + 1e-9)


@dataclass(frozen=True, slots=True)
class Plan:
    """seeds: canaries a day, one entry a seed; providers: canaries a minute, one entry a provider."""

    seeds: tuple[Load, ...]
    providers: tuple[Load, ...]

    @property
    def per_day(self) -> float:
        """All canaries of a day."""
        return sum(load.canaries for load in self.seeds)


def daily_cap(config: Config, seed: str) -> int:
    """Most canaries the seed gets a day: its own word, else the lower of preset and general limit."""
    given = config.seeds[seed].daily_limit
    if given is not None:
        return given
    facts = provider_facts(config.seeds[seed].provider)
    preset = facts.limits.per_day if facts else None
    return min(config.limits.per_seed_per_day, preset or config.limits.per_seed_per_day)


def pace_cap(config: Config, provider: str) -> float | None:
    """Most canaries the provider's seeds get a minute: the file's word, else the preset's, else None."""
    if config.limits.per_provider_per_minute is not None:
        return config.limits.per_provider_per_minute
    facts = provider_facts(provider)
    return facts.limits.per_minute if facts else None


def make_plan(config: Config) -> Plan:
    """What the routes of the config come to."""
    routes: Counter[str] = Counter()
    rates: defaultdict[str, float] = defaultdict(float)  # a second, by seed
    for _, seed, every, *_ in config.routes_resolved:
        routes[seed] += 1
        rates[seed] += 1 / every
    providers: defaultdict[str, list[str]] = defaultdict(list)
    for name in routes:
        providers[config.seeds[name].provider].append(name)
    return Plan(
        tuple(
            Load(name, seed.provider, routes[name], DAY * rates[name], daily_cap(config, name))
            for name, seed in config.seeds.items()
        ),
        tuple(
            Load(
                name,
                name,
                sum(routes[seed] for seed in seeds),
                MINUTE * sum(rates[seed] for seed in seeds),
                pace_cap(config, name),
            )
            for name, seeds in providers.items()
        ),
    )


def _grouped(routes: Iterable[Route], key: Callable[[Route], str]) -> Mapping[str, list[Route]]:
    groups: defaultdict[str, list[Route]] = defaultdict(list)
    for route in routes:
        groups[key(route)].append(route)
    return groups


def _rate(routes: Iterable[Route], period: float) -> float:
    return sum(period / route.every for route in routes)


def over_the_caps(config: Config) -> Iterator[Finding]:
    """One finding for each group of routes that sends more than a seed or a provider should get."""
    plan = make_plan(config)
    yield from _blame(config, plan.seeds, lambda route: route.seed, DAY)
    yield from _blame(config, plan.providers, lambda route: config.seeds[route.seed].provider, MINUTE)


def _blame(
    config: Config, loads: Iterable[Load], key: Callable[[Route], str], period: float
) -> Iterator[Finding]:
    """Each load that is over goes to the group that sends most of it; each group is told once. key: the name
    of the load that a route adds to."""
    over = {load.name: load for load in loads if load.over}
    routes = _grouped((route for route in config.routes_resolved if key(route) in over), key) if over else {}
    blamed: defaultdict[int | None, list[tuple[Load, float]]] = defaultdict(list)
    for load in over.values():
        if load.cap is not None:
            group = _heaviest(routes[load.name])
            blamed[group].append((load, _fitting(routes[load.name], group, load.cap, period)))
    for group, found in blamed.items():
        yield _finding(config, group, found, period)


def _heaviest(routes: Iterable[Route]) -> int | None:
    rates: defaultdict[int | None, float] = defaultdict(float)
    for route in routes:
        rates[route.group] += 1 / route.every
    return max(rates, key=lambda group: rates[group])


def _fitting(routes: Iterable[Route], group: int | None, cap: float, period: float) -> float:
    """The shortest `every` of the group with which the load fits, in whole minutes; inf where none does."""
    mine = sum(1 for route in routes if route.group == group)
    rest = _rate((route for route in routes if route.group != group), period)
    if rest >= cap:
        return math.inf
    return math.ceil(mine * period / (cap - rest) / MINUTE - 1e-9) * MINUTE


def _finding(config: Config, group: int | None, found: list[tuple[Load, float]], period: float) -> Finding:
    worst = max((load for load, _ in found), key=lambda load: load.canaries / (load.cap or 1))
    every = max(fit for _, fit in found)
    what = _what(worst, len(found) - 1, period)
    limit = f"seeds.{worst.name}.daily_limit" if period == DAY else "limits.per_provider_per_minute"
    if math.isinf(every):
        right = f"send less in the other routes too, or raise {limit}"
    elif group is None:
        right = f"add `routes: [{{every: {show_duration(every)}}}]`, which would fit, or raise {limit}"
    else:
        right = f"`every: {show_duration(every)}` would fit, or raise {limit}"
    return Finding(_place(config, group, worst, period), what, right, key=group is None)


def _what(load: Load, more: int, period: float) -> str:
    whom = f"seed {load.name}" if period == DAY else f"provider {load.provider}"
    others = f" (and {more} more)" if more else ""
    unit = "a day" if period == DAY else "a minute"
    return f"{whom}{others} would get {load.canaries:.4g} canaries {unit}, more than {load.cap:g}"


def _place(config: Config, group: int | None, load: Load, period: float) -> tuple[str | int, ...]:
    if group is not None:
        return ("routes", group, "every")
    if period == DAY:
        return ("seeds", load.name)
    return ("seeds", next(name for name, seed in config.seeds.items() if seed.provider == load.provider))
