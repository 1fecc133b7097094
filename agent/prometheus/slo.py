"""Recording rules and burn-rate alerts: of each sender at each provider, of each provider, of each route."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from agent.prometheus.rule import Rule, alert, record
from agent.prometheus.shape import Shape, matchers
from agent.prometheus.windows import Burn, burns, duration

LEVELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("sender_provider", ("sender", "provider")),
    ("provider", ("provider",)),
)
MOST_ROUTES = 2_000
"""Up to so many routes have burn-rate alerts of their own: averages over days cost Prometheus dearly."""

TWO = 1.5
"""What increase() says of two failures is above this, and of one below, extrapolation and all."""


def recordings(shape: Shape) -> list[Rule]:
    """Failures, and their ratio to what could be judged, in every window that an alert uses."""
    rules: list[Rule] = []
    for level, labels in LEVELS:
        windows = {
            w for rate in shape.rates(labels).values() for b in burns(rate, shape.smallest) for w in _of(b)
        }
        for seconds in sorted(windows):
            rules += _recorded(level, labels, duration(seconds))
    return rules  # fmt: skip


def _of(burn: Burn) -> tuple[float, float]:
    return burn.long, burn.short


def _recorded(level: str, labels: tuple[str, ...], window: str) -> Iterator[Rule]:
    by = ", ".join(("job", *labels))

    def total(outcome: str) -> str:
        return f"sum by ({by}) (increase(mailcanary_canary_results_total{{{outcome}}}[{window}]))"

    judged = total('outcome=~"pass|fail"')
    yield record(f"{level}:mailcanary_canary_failures:increase{window}", total('outcome="fail"'))
    yield record(
        f"{level}:mailcanary_canary_failures:ratio_increase{window}",
        f"{level}:mailcanary_canary_failures:increase{window}\n/\n({judged} > 0)",
    )


def burn_alerts(shape: Shape) -> list[Rule]:
    """A page where mail is being lost fast, a ticket where slowly; never for a single canary."""
    rules: list[Rule] = []
    for level, labels in LEVELS:
        rates = shape.rates(labels)
        members: dict[Burn, list[tuple[str, ...]]] = defaultdict(list)
        for values, rate in rates.items():
            for burn in burns(rate, shape.smallest):
                members[burn].append(values)
        rules += [
            _burn(shape, level, labels, burn, matchers(values, rates, labels))
            for burn, values in members.items()
        ]
    return rules + (_route_burns(shape) if len(shape.routes) <= MOST_ROUTES else [])


def _burn(shape: Shape, level: str, labels: tuple[str, ...], burn: Burn, selectors: list[str]) -> Rule:
    limit = f"({burn.factor:g} * {1 - shape.objective:g})"
    name = f"{level}:mailcanary_canary_failures"
    long, short = duration(burn.long), duration(burn.short)

    def one(selector: str) -> str:
        chosen = f"{{{selector}}}" if selector else ""
        return (
            f"{name}:ratio_increase{long}{chosen} > {limit}\n"
            f"and\n{name}:ratio_increase{short}{chosen} > {limit}\n"
            f"and\n{name}:increase{long}{chosen} > {TWO}"
        )

    whom = (
        "{{ $labels.sender }} at {{ $labels.provider }}" if "sender" in labels else "{{ $labels.provider }}"
    )
    expression = "\nor\n".join(
        f"({one(selector)})" if len(selectors) > 1 else one(selector) for selector in selectors
    )
    return alert(
        shape,
        "MailcanaryDeliveryBurn" if "sender" in labels else "MailcanaryProviderBurn",
        expression,
        severity=burn.level,
        summary=f"Mail of {whom} does not arrive where it should",
        description=f"{{{{ $value | humanizePercentage }}}} of the canaries of the last {long} failed; "
        f"the objective of {shape.objective:.3%} allows {1 - shape.objective:.3%} in the long run.",
        runbook="missing",
        dashboard="overview",
        labels={"window": f"{long}/{short}"},
    )  # fmt: skip


def _route_burns(shape: Shape) -> list[Rule]:
    members: dict[Burn, list[tuple[str, ...]]] = defaultdict(list)
    slowest: dict[Burn, float] = {}
    for (every, _), pairs in shape.intervals().items():
        for burn in burns(3600.0 / every, shape.smallest):
            if burn.level == "warning":
                members[burn] += pairs
                slowest[burn] = max(every, slowest.get(burn, 0.0))
    everything = [pair for pairs in shape.intervals().values() for pair in pairs]
    return [
        _route_burn(shape, burn, slowest[burn], matchers(pairs, everything, ("sender", "seed")))
        for burn, pairs in members.items()
    ]


def _route_burn(shape: Shape, burn: Burn, every: float, selectors: list[str]) -> Rule:
    limit = burn.factor * (1 - shape.objective)
    # One bad verdict lasts until the next, at most 1.2 intervals later: two are surely more than 1.8.
    least = max(limit, 1.8 * every / burn.short)
    long, short = duration(burn.long), duration(burn.short)

    def one(selector: str) -> str:
        chosen = f"mailcanary_canary_outcome{{{selector}}}" if selector else "mailcanary_canary_outcome"
        return (
            f"1 - avg_over_time({chosen}[{long}]) > {limit:g}\n"
            f"and\n1 - avg_over_time({chosen}[{short}]) > {least:g}\n"
            f"and\n{chosen} offset {short} >= 0"
        )

    return alert(
        shape,
        "MailcanaryRouteBurn",
        "\nor\n".join(
            f"({one(selector)})" if len(selectors) > 1 else one(selector) for selector in selectors
        ),
        severity="warning",
        summary="{{ $labels.sender }} to {{ $labels.seed }} fails too often",
        description=f"The route was failing {{{{ $value | humanizePercentage }}}} of the last {long}.",
        runbook="missing",
        dashboard="route",
        labels={"window": f"{long}/{short}"},
    )
