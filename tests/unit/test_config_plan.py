"""How many canaries a day, what is refused, and what would fit."""

from __future__ import annotations

import re

import pytest

from agent.config.load import parse
from agent.config.models import Config
from agent.config.plan import daily_cap, make_plan, pace_cap
from agent.config.problems import ConfigInvalid


def text(senders: int, seeds: dict[str, str], rest: str = "") -> str:
    lines = ["senders:"]
    lines += [
        f"  s{i}: {{from: s{i}@acme.example, relay: {{host: smtp.acme.example}}}}" for i in range(senders)
    ]
    lines.append("seeds:")
    for name, provider in seeds.items():
        host = ", imap: {host: imap.example.net}" if provider in ("generic", "dovecot") else ""
        login = "password: {env: P}"
        lines.append(f"  {name}: {{provider: {provider}, address: {name}@example.net, {login}{host}}}")
    return "\n".join(lines) + "\n" + rest


def config_of(yaml: str) -> Config:
    return parse(yaml.encode(), "mail.yaml", {"P": "x"})


def test_the_plan_of_all_by_all() -> None:
    plan = make_plan(config_of(text(2, {"a": "gmail", "b": "gmail", "c": "yahoo"}, "routes: [{every: 30m}]")))
    assert [(load.name, load.routes, load.canaries, load.over) for load in plan.seeds] == [
        ("a", 2, 96.0, False),
        ("b", 2, 96.0, False),
        ("c", 2, 96.0, False),
    ]
    assert {load.name: load.canaries for load in plan.providers} == pytest.approx(
        {"gmail": 4 / 30, "yahoo": 2 / 30}
    )
    assert plan.per_day == 288.0


def test_whose_word_on_the_daily_cap() -> None:
    config = config_of(text(1, {"a": "gmail", "b": "dovecot", "c": "gmx"}))
    assert [daily_cap(config, name) for name in "abc"] == [200, 200, 100]
    lower = config_of(text(1, {"a": "gmail", "c": "gmx"}, "limits: {per_seed_per_day: 96}"))
    assert [daily_cap(lower, name) for name in "ac"] == [96, 96]


def test_the_seed_s_own_word_beats_all() -> None:
    yaml = text(1, {"a": "gmx"}, "limits: {per_seed_per_day: 10}").replace(
        "provider:", "daily_limit: 500, provider:"
    )
    assert daily_cap(config_of(yaml), "a") == 500


def test_whose_word_on_the_pace() -> None:
    assert pace_cap(config_of(text(1, {"a": "gmail"})), "gmail") == 6
    assert (
        pace_cap(config_of(text(1, {"a": "gmail"}, "limits: {per_provider_per_minute: 2.5}")), "gmail") == 2.5
    )


CASES = [
    (3, {"a": "gmail"}, "routes: [{every: 15m}]"),
    (7, {"a": "gmail", "b": "gmx"}, "routes: [{every: 20m}]"),
    (2, {"a": "gmx"}, "routes: [{senders: [s0], every: 10m}, {senders: [s1], every: 1h}]"),
    (9, {"a": "dovecot"}, "routes: [{every: 7s}]\nlimits: {per_seed_per_day: 100000}"),
    (
        5,
        {"a": "generic"},
        "routes: [{every: 5s}]\nlimits: {per_seed_per_day: 1000000, per_provider_per_minute: 3}",
    ),
]


@pytest.mark.parametrize(("senders", "seeds", "rest"), CASES)
def test_what_would_fit_fits_and_a_minute_less_does_not(
    senders: int, seeds: dict[str, str], rest: str
) -> None:
    """Follows the advice to the letter until the plan is accepted, then goes one minute back."""
    yaml, worst = text(senders, seeds, rest), 0
    for _ in range(3):
        try:
            config_of(yaml)
            break
        except ConfigInvalid as error:
            fits = [re.search(r"`every: (\d+)m` would fit", str(problem)) for problem in error.problems]
            worst = max(int(found[1]) for found in fits if found)
            yaml = re.sub(r"every: \w+", f"every: {worst}m", yaml, count=1)
    config_of(yaml)
    if worst > 1:
        with pytest.raises(ConfigInvalid, match="more than"):
            config_of(yaml.replace(f"every: {worst}m", f"every: {worst - 1}m", 1))


def test_many_seeds_over_are_one_problem() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        config_of(text(1, {f"a{i}": "gmail" for i in range(30)}, "routes: [{every: 5m}]"))
    (problem,) = caught.value.problems
    assert str(problem) == (
        "mail.yaml:34:18: routes[0].every: seed a0 (and 29 more) would get 288 canaries a day, "
        "more than 200; `every: 8m` would fit, or raise seeds.a0.daily_limit"
    )
