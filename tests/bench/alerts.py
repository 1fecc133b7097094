"""The alert engine over 30 simulated days with 40 scripted incidents, beside one-alert-per-route rules."""

from __future__ import annotations

import statistics
import time

from alerts.engine import evaluate
from alerts.observation import CanaryResult, Observation
from alerts.settings import RuleSet
from alerts.state import EngineState, from_json, to_json
from probes.outcome import Outcome, Placement
from tests.bench.alertworld import START, Score, World, run, script
from tests.bench.row import BenchRow

DAYS = 30
INCIDENTS = 40
PASSES = 5


def rows() -> list[BenchRow]:
    """Acceptance 1 and 5: what was found, how soon, how truly, how quietly; and what a pass costs."""
    rounds = DAYS * 96
    started = time.perf_counter()
    score = run(World(incidents=script(rounds, INCIDENTS)), rounds)
    return [*_judgement(score, time.perf_counter() - started), *_passes()]


def _least(name: str, figure: float, unit: str, goal: float) -> BenchRow:
    return BenchRow(name, figure, unit, None, "", figure, goal, figure >= goal)


def _most(name: str, figure: float, unit: str, goal: float) -> BenchRow:
    return BenchRow(name, figure, unit, None, "", figure, goal, figure <= goal)


def _judgement(score: Score, seconds: float) -> list[BenchRow]:
    total, found = len(score.incidents), sum(bool(i.found) for i in score.incidents)
    groups = sum(score.groups.values()) / max(1, found)
    right = 100 * (total - len(score.missed) - len(score.wrong)) / total
    days = score.blocks
    growth = min(days[-len(days) // 3 :]) / min(days[len(days) // 15 : len(days) // 3])  # quiet moments
    saved = score.per_route_pages / max(1, score.pages)
    return [
        _least("alerts: incidents found", 100 * found / total, "percent", 100),
        _most("alerts: notification groups an incident", groups, "groups", 1.0),
        _least("alerts: cause right", right, "percent", 95),
        _most("alerts: false alerts in 30 days", len(score.false_alerts), "alerts", 3),
        _most("alerts: found later than 2 rounds", len(score.late), "incidents", 0),
        BenchRow(
            "alerts: pages",
            score.pages,
            "pages",
            score.per_route_pages,
            "a rule a route",
            saved,
            10,
            saved >= 10,
        ),
        _most("alerts: memory blocks, last ten days to first", growth, "ratio", 1.02),
        _least("alerts: canaries judged", score.canaries / seconds, "a second", 10_000),
    ]


def _fleet(number: int, failing: str) -> list[Observation]:
    at = START + number * 900.0
    found: list[Observation] = []
    for sender in (f"s{i}" for i in range(100)):
        bad = sender == failing
        outcome, placement = (Outcome.FAIL, Placement.SPAM) if bad else (Outcome.PASS, Placement.INBOX)
        for seed in range(100):
            name, provider = f"seed-{seed}", f"p{seed % 10}"
            found.append(
                CanaryResult(sender, name, provider, at, outcome, placement, sent_at=at - 60, latency=20.0)
            )
    return found


def _passes() -> list[BenchRow]:
    """10,000 routes: one pass with a result of each, a pass with one result, and the state through JSON."""
    state, rules = EngineState(), RuleSet()
    whole, single = [], []
    for number in range(PASSES + 3):
        batch = _fleet(number, "s7" if number >= 3 else "")
        now = START + number * 900.0
        begin = time.perf_counter()
        state, _ = evaluate(state, batch, now, rules)
        middle = time.perf_counter()
        state, _ = evaluate(state, batch[:1], now, rules)
        whole.append(middle - begin)
        single.append(time.perf_counter() - middle)
    assert len(state.firing()) == 1
    assert from_json(to_json(state)) == state
    return [
        _most("alerts: 10,000 routes, a result each", 1000 * statistics.median(whole), "ms", 1000),
        _most("alerts: 10,000 routes, one result", 1000 * statistics.median(single), "ms", 20),
    ]


if __name__ == "__main__":
    for row in rows():
        print(
            f"{row.name:45} {row.figure:12.2f} {row.unit:10} goal {row.goal}  {'met' if row.ok else 'MISSED'}"
        )
