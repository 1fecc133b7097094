"""Thresholds in plain words, symbols, baselines."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from alerts import rules as rule
from alerts.observation import CanaryResult
from alerts.rules import Baseline
from alerts.settings import AlertKind, RuleSet, RuleSettings, default_rules
from probes.outcome import Outcome, Placement

RULES = RuleSet()
SEEN = CanaryResult("app", "gmail-1", "gmail", 100.0, Outcome.PASS, Placement.INBOX)


@pytest.mark.parametrize(
    ("recent", "kind"),
    [
        ("", None),
        (".....", None),
        ("..MM", None),
        ("..MMM", AlertKind.MISSING),
        ("..SSS", AlertKind.SPAM),
        ("MMM.", None),
        ("MMM...", None),
        ("MSR", AlertKind.SPAM),  # three failures at least as bad as spam
        ("LLL", None),  # slow asks for four
        ("LLLL", AlertKind.SLOW),
        ("M.MM.M.M", AlertKind.MISSING),  # five of eight
        ("M.M..M.M", None),
        (".M..M...M..M...M..M.M...", None),  # past: nothing in the last three
        ("..M..M...M..M...M..M.M.M", AlertKind.MISSING),  # the rate's lower bound is above 10 percent
        ("....................M..M", None),
    ],
)
def test_condition(recent: str, kind: AlertKind | None) -> None:
    assert rule.condition(recent, RULES) is kind


def test_unknown_leaves_no_symbol() -> None:
    unknown = replace(SEEN, outcome=Outcome.UNKNOWN, placement=Placement.MISSING)
    assert rule.symbol(unknown, Baseline(), RULES) is None
    assert rule.symbol(replace(SEEN, placement=Placement.UNKNOWN), Baseline(), RULES) is None


@pytest.mark.parametrize(
    ("placement", "letter"),
    [("rejected", "R"), ("bounced", "B"), ("missing", "M"), ("deferred", "D"), ("spam", "S"), ("other", "S")],
)
def test_symbol_of_each_failure(placement: str, letter: str) -> None:
    failed = replace(SEEN, outcome=Outcome.FAIL, placement=Placement(placement))
    assert rule.symbol(failed, Baseline(), RULES) == letter


def test_authentication_counts_only_what_a_provider_really_said() -> None:
    said = {"spf": "pass", "dkim": "fail", "dmarc": "ambiguous", "arc": "fail"}
    assert rule.symbol(replace(SEEN, authentication=said), Baseline(), RULES) == "A"
    assert (
        rule.not_passing(replace(SEEN, authentication=said), RULES.rule(AlertKind.AUTHENTICATION))
        == "dkim=fail"
    )
    vague = {"spf": "pass", "dkim": "ambiguous"}
    assert rule.symbol(replace(SEEN, authentication=vague), Baseline(), RULES) == "."


def test_a_switched_off_rule_sees_nothing() -> None:
    off = RuleSet({**default_rules(), AlertKind.SPAM: RuleSettings(enabled=False)})
    spam = replace(SEEN, outcome=Outcome.FAIL, placement=Placement.SPAM)
    assert rule.symbol(spam, Baseline(), off) == "."


def test_a_tab_counts_as_spam_only_where_the_rule_names_it() -> None:
    tab = replace(SEEN, placement=Placement.TAB, category="promotions")
    assert rule.symbol(tab, Baseline(), RULES) == "."
    strict = RuleSet({AlertKind.SPAM: RuleSettings(tabs=("promotions",))})
    assert rule.symbol(tab, Baseline(), strict) == "S"


def test_slow_is_against_the_routes_own_baseline() -> None:
    base, slow = Baseline(), RULES.rule(AlertKind.SLOW)
    for _ in range(40):
        base = rule.learn(base, 30.0, slow=False)
    assert math.isclose(math.exp(base.mean), 30.0, rel_tol=1e-6)
    assert not rule.is_slow(base, 90.0, slow)
    assert rule.is_slow(base, 200.0, slow)
    assert not rule.is_slow(Baseline(), 2000.0, slow), "nothing is slow before the baseline is known"
    fast = Baseline(math.log(2.0), 0.1, 100)
    assert not rule.is_slow(fast, 40.0, slow), "20 times the baseline, but under slow_at_least"


def test_slow_does_not_become_usual() -> None:
    base = Baseline(math.log(30.0), 0.2, 500)
    for _ in range(50):
        base = rule.learn(base, 600.0, slow=True)
    assert rule.is_slow(base, 600.0, RULES.rule(AlertKind.SLOW))


def test_lower_bound_never_pages_for_three_canaries() -> None:
    assert rule.lower_bound(3, 3) < 0.5
    assert rule.lower_bound(0, 0) == 0.0
    assert rule.lower_bound(7, 24) > 0.1 > rule.lower_bound(6, 24)


def test_the_noisier_the_fleet_the_more_a_lone_route_must_show() -> None:
    needed = rule.weight_needed(RuleSettings())
    assert rule.route_weight("...MMM", 0.003) > needed
    assert rule.route_weight("...MMM", 0.01) < needed < rule.route_weight("..MMMM", 0.01)
    assert rule.weight_needed(RuleSettings(failure_threshold=1)) == 0.0, "asked for in so many words"
    assert rule.weight_needed(RuleSettings(max_chance=1.0)) == 0.0


@pytest.mark.parametrize(
    ("trouble", "goods"), [("MMMM", 2), ("", 2), ("M.M.M.M", 5), ("M....M", 10), ("M.......M", 12)]
)
def test_an_intermittent_trouble_takes_longer_to_be_over(trouble: str, goods: int) -> None:
    assert rule.goods_needed(trouble, 2) == goods
