"""Thresholds in plain words: from a canary result to a symbol, from recent symbols to a condition. Pure.

The judged results of a route are kept as a string, newest last: "." is good, a letter is a kind of failure.
Unknown results leave no symbol: they neither fire nor resolve.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from alerts.observation import CanaryResult
from alerts.settings import ROUTE_KINDS, AlertKind, RuleSet, RuleSettings
from probes.outcome import Outcome, Placement

GOOD = "."
KEEP = 32
"""Symbols kept a route."""
WINDOW = 4
"""Newest symbols that count as evidence of the moment."""
BASELINE_AFTER = 20
DEFAULT_CHANCE = 4e-8

_LETTER = dict(zip(ROUTE_KINDS, "RBMDSAL", strict=True))
_KIND = {letter: kind for kind, letter in _LETTER.items()}
_RANK = {letter: rank for rank, letter in enumerate("RBMDSAL")} | {GOOD: 99}
_PLACED = {
    Placement.REJECTED: AlertKind.REJECTED,
    Placement.BOUNCED: AlertKind.BOUNCED,
    Placement.MISSING: AlertKind.MISSING,
    Placement.DEFERRED: AlertKind.DEFERRED,
    Placement.SPAM: AlertKind.SPAM,
    Placement.OTHER: AlertKind.SPAM,
    Placement.TAB: AlertKind.SPAM,
    Placement.INBOX: AlertKind.SPAM,
}


class Baseline(NamedTuple):
    """A route's usual latency: mean and mean deviation of its natural logarithm, over so many results."""

    mean: float = 0.0
    deviation: float = 0.0
    seen: int = 0


def learn(base: Baseline, latency: float, slow: bool) -> Baseline:
    """The baseline after one more latency (seconds); slow ones weigh little: slow must not become usual."""
    x = math.log(max(latency, 0.01))
    weight = max(1 / (base.seen + 1), 0.05) * (0.1 if slow else 1.0)
    mean = base.mean + weight * (x - base.mean)
    deviation = base.deviation if slow else base.deviation + weight * (abs(x - mean) - base.deviation)
    return Baseline(mean, deviation, min(base.seen + 1, 1000))


def is_slow(base: Baseline, latency: float, rule: RuleSettings) -> bool:
    """Longer than the route's own baseline allows, once that is known."""
    if base.seen < BASELINE_AFTER or latency < rule.slow_at_least:
        return False
    x = math.log(max(latency, 0.01))
    return x > base.mean + max(math.log(rule.slow_factor), 4 * base.deviation)


def not_passing(result: CanaryResult, rule: RuleSettings) -> str:
    """The authentication methods that did not pass, as "dkim=fail dmarc=fail"; "" if none."""
    verdicts = result.authentication
    bad = (m for m in rule.methods if verdicts.get(m, "pass") not in ("pass", "ambiguous", ""))
    return " ".join(f"{m}={verdicts[m]}" for m in bad)


def symbol(result: CanaryResult, base: Baseline, rules: RuleSet) -> str | None:
    """The result as one letter, or None where it judges nothing. What a switched-off rule sees is good."""
    if result.outcome is Outcome.UNKNOWN or result.placement is Placement.UNKNOWN:
        return None
    if result.outcome is Outcome.FAIL or (
        result.category and result.category in rules.rule(AlertKind.SPAM).tabs
    ):
        kind = _PLACED[result.placement]
        if rules.rule(kind).enabled:
            return _LETTER[kind]
    authentication = rules.rule(AlertKind.AUTHENTICATION)
    if authentication.enabled and result.authentication and not_passing(result, authentication):
        return _LETTER[AlertKind.AUTHENTICATION]
    slow = rules.rule(AlertKind.SLOW)
    if slow.enabled and result.latency is not None and is_slow(base, result.latency, slow):
        return _LETTER[AlertKind.SLOW]
    return GOOD


def kind_of(letter: str) -> AlertKind:
    """The kind a failure's letter stands for."""
    return _KIND[letter]


def bad_in(recent: str, last: int) -> int:
    """How many of the newest `last` symbols are failures."""
    tail = recent[-last:]
    return len(tail) - tail.count(GOOD)


def good_streak(recent: str) -> int:
    """Good results in a row, up to now."""
    return len(recent) - len(recent.rstrip(GOOD))


def bad_streak(recent: str) -> int:
    """Failures in a row, of any kind, up to now."""
    return len(recent) - 1 - recent.rfind(GOOD)


def condition(recent: str, rules: RuleSet) -> AlertKind | None:
    """The worst kind whose rule is true of these symbols, or None."""
    tail = recent[-KEEP:]
    for letter in sorted(set(tail) - {GOOD}, key=_RANK.__getitem__):
        kind = _KIND[letter]
        if _holds(tail, _RANK[letter], rules.rule(kind)):
            return kind
    return None


def _holds(recent: str, rank: int, rule: RuleSettings) -> bool:
    """Whether failures at least this bad meet one of the rule's three thresholds and are not yet past."""
    marks = [_RANK[s] <= rank for s in recent]
    if not any(marks[-rule.failure_threshold :]):
        return False
    if len(marks) >= rule.failure_threshold and all(marks[-rule.failure_threshold :]):
        return True
    if rule.failures and sum(marks[-rule.out_of :]) >= rule.failures:
        return True
    tail = marks[-rule.rate_over :] if rule.rate_over else []
    return len(tail) >= rule.rate_over > 0 and lower_bound(sum(tail), len(tail)) > rule.failure_rate


def lower_bound(failures: int, total: int, z: float = 2.58) -> float:
    """The Wilson score interval's lower end of a rate; z 2.58 is 99 percent."""
    if total == 0:
        return 0.0
    rate, square = failures / total, z * z
    centre = rate + square / (2 * total)
    spread = z * math.sqrt(rate * (1 - rate) / total + square / (4 * total * total))
    return (centre - spread) / (1 + square / total)


def evidence_weight(failures: float, total: float, noise: float) -> float:
    """How much better a real trouble than the usual noise explains the failures: a log likelihood ratio.

    The chance that noise alone reaches weight w is about exp(-w).
    """
    rate = failures / total if total else 0.0
    if rate <= noise:
        return 0.0
    weight = failures * math.log(rate / noise)
    return weight if rate >= 1 else weight + (total - failures) * math.log((1 - rate) / (1 - noise))


def route_weight(recent: str, noise: float) -> float:
    """The strongest evidence one route gives by itself: its streak, its last results, its long window."""
    streak = bad_streak(recent) * -math.log(noise)
    spans = (WINDOW, 8, 24)
    return max(streak, *(evidence_weight(bad_in(recent, n), min(n, len(recent)), noise) for n in spans))


def weight_needed(rule: RuleSettings) -> float:
    """The evidence a rule demands: from max_chance, or its default; none where few failures are asked for."""
    chance = rule.max_chance
    if chance is None:
        chance = DEFAULT_CHANCE if rule.failure_threshold >= 3 else 1.0
    return 0.0 if chance >= 1 else -math.log(max(chance, 1e-300))


def goods_needed(trouble: str, success_threshold: int) -> int:
    """Passes in a row that end a trouble: the rule's, or more where the trouble only fails now and then.

    trouble: the symbols from its first to its last failure. With failure rate f, that many passes in a row
    would come by luck in at most 2 percent of cases; never more than 12.
    """
    bad = bad_in(trouble, len(trouble)) if trouble else 0
    rate = bad / len(trouble) if trouble else 1.0
    if rate >= 1:
        return success_threshold
    return max(success_threshold, min(12, math.ceil(math.log(0.02) / math.log(1 - rate))))
