"""The number of series is bounded by a formula of the config."""

from __future__ import annotations

from agent.metrics import Metrics, budget
from agent.metrics.process import STAGES
from probes.canary.state import Reply
from tests.fakes.metrics import NOW, PROVIDERS, canary, fill

SMALL = 100
"""Series that no number of routes changes."""


def lines(metrics: Metrics) -> int:
    return sum(not line.startswith(b"#") for line in metrics.render().splitlines())


def test_a_hundred_thousand_routes_fit() -> None:
    assert budget.series(100_000, 500 * len(PROVIDERS), 500, 200) < budget.SERIES_LIMIT


def test_the_formula_holds_where_everything_that_can_happen_did() -> None:
    senders, seeds = [f"s{n}" for n in range(20)], [f"t{n}" for n in range(50)]
    metrics = Metrics(lambda: NOW)
    fill(metrics, senders, seeds)
    pairs = len(senders) * len(PROVIDERS)
    for sender in senders:
        for provider in PROVIDERS:
            for code in range(200, 600, 7):
                for result in ("pass", "fail", "none", "neutral", "policy", "temperror"):
                    verdicts = dict.fromkeys(("spf", "dkim", "dmarc", "arc"), result)
                    one = canary(sender, "", provider, verdicts=verdicts, reply=Reply(code, meaning="other"))
                    metrics.submitted(one)
                    metrics.settled(one)
    most = budget.series(len(senders) * len(seeds), pairs, len(senders), len(seeds))
    assert lines(metrics) <= most + SMALL


def test_stages_of_one_sender() -> None:
    relay = set(STAGES) - {"dns"}
    direct = set(STAGES) - {"auth"}
    assert max(len(relay), len(direct)) == budget.STAGES_A_SENDER
