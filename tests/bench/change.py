"""The probe after a change: time to a verdict beside the lab's own delivery, and what the test costs."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path

from probes.change.sequential import SequentialTest, fixed_size
from tests.bench.row import BenchRow

RUNS = 7
PROBES = 1000


def rows() -> list[BenchRow]:
    """Every figure; those of the lab only where it can run."""
    from tests.lab.world.packages import why_not

    found = sequential()
    if reason := why_not():
        goal = "time to a verdict after a change"
        return [*found, BenchRow(f"{goal}: no lab ({reason})", 0.0, "s", None, "delivery", None, 2.0, None)]
    return [*found, *asyncio.run(in_the_lab())]


def sequential() -> list[BenchRow]:
    """Mean number of canaries until the claim, beside a fixed number of the same error rates."""
    test = SequentialTest()
    size, _ = fixed_size(test)
    found = []
    for rate in (1.0, 0.95, 0.80, 0.70, 0.50):
        source = random.Random(f"bench {rate}")
        claims = [test.run(source.random() < rate for _ in range(10_000)) for _ in range(PROBES)]
        mean = statistics.mean(claim.used for claim in claims)
        wrong = sum(claim.decision.value == ("bad" if rate >= test.good else "good") for claim in claims)
        name = f"canaries to a claim at {rate:.0%} inbox ({wrong / PROBES:.1%} wrong)"
        found.append(BenchRow(name, mean, "canaries", size, "fixed size", mean / size, 1.0, mean <= size))
    return found


async def in_the_lab() -> list[BenchRow]:
    """A clean pass and a hard fail, by the API's own call, beside what the mail itself took."""
    from tests.lab.agents import lab_agent
    from tests.lab.world.lab import Lab

    with tempfile.TemporaryDirectory() as folder:
        lab = await asyncio.to_thread(Lab.start)
        try:
            async with lab_agent(lab, Path(folder), deadline="20s") as agent:
                clean = [await _probe(agent, "") for _ in range(RUNS)]
                baseline = clean[-1][2]
                lab.dkim.break_("sender.test")
                broken = [await _probe(agent, baseline) for _ in range(RUNS)]
                lab.dkim.repair("sender.test")
                missing = await _missing(lab, agent)
        finally:
            await asyncio.to_thread(lab.stop)
    found = [_row("clean pass", clean), _row("hard fail (dkim)", broken)]
    name = "missing declared after its deadline"
    return [*found, BenchRow(name, missing, "s", None, "one scan", None, None, missing < 5.0)]


def _row(name: str, runs: list[tuple[float, float, str]]) -> BenchRow:
    verdict = statistics.median(seconds for seconds, _, _ in runs)
    delivery = statistics.median(seconds for _, seconds, _ in runs)
    ratio = statistics.median(seconds / taken for seconds, taken, _ in runs)
    return BenchRow(f"verdict: {name}", verdict, "s", delivery, "delivery", ratio, 2.0, ratio < 2.0)


async def _probe(agent: object, baseline: str) -> tuple[float, float, str]:
    """(seconds to the verdict, seconds of submission and delivery of the slower route, the round)."""
    from agent.runner.rounds import Order
    from tests.lab.agents import LabAgent

    assert isinstance(agent, LabAgent)
    began = time.monotonic()
    round_id = await agent.app.rounds.order(Order(["app"], [], baseline=baseline))
    report = await agent.app.rounds.wait(round_id, 60.0)
    taken = time.monotonic() - began
    assert report is not None
    await asyncio.sleep(0.3)
    each = [sum(c["stages_seconds"].values()) + c["latency_seconds"] for c in report["canaries"]]
    return taken, max(each), round_id


async def _missing(lab: object, agent: object) -> float:
    """Seconds between the deadline and the verdict."""
    from agent.runner.rounds import Order
    from tests.lab.agents import LabAgent
    from tests.lab.world.lab import Lab

    assert isinstance(lab, Lab)
    assert isinstance(agent, LabAgent)
    lab.policy("a").rule(agent.users["a"].address, "DISCARD")
    began = time.monotonic()
    report = await agent.app.rounds.wait(
        await agent.app.rounds.order(Order(["app"], ["a"], deadline=3.0)), 60.0
    )
    assert report is not None
    assert report["outcome"] == "fail"
    return time.monotonic() - began - 3.0
