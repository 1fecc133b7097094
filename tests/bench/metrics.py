"""/metrics with 100,000 routes (500 senders, 200 seeds, 10 providers), beside generate_latest in turn."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client import generate_latest

from agent.metrics import Metrics
from agent.metrics.budget import SERIES_LIMIT
from agent.metrics.routes import Verdict
from probes.outcome import Outcome
from tests.bench.row import BenchRow
from tests.fakes.metrics import NOW, PROVIDERS, canary, fill

SENDERS, SEEDS = 500, 200
RUNS = 5
SCRAPES = 12
VERDICTS = 1700
"""Canaries between two scrapes 15 s apart, at one in 15 minutes a route."""
STALL_MS = 20.0


def rows() -> list[BenchRow]:
    """The group `metrics`."""
    before = _resident()
    metrics = Metrics(lambda: NOW)
    fill(metrics, [f"sender-{n}" for n in range(SENDERS)], [f"seed-{n}" for n in range(SEEDS)])
    metrics.render()
    memory = _resident() - before
    ours, theirs = [], []
    registry = metrics.registry()
    for _ in range(RUNS):
        _work(metrics)
        ours.append(_timed(metrics.render))
        theirs.append(_timed(lambda: generate_latest(registry)))
    same = _sorted(metrics.render()) == _sorted(generate_latest(registry))
    stall, stalls = asyncio.run(_stalls(metrics))
    count = metrics.series.labels().value
    ratio = statistics.median(theirs) / statistics.median(ours)
    return [
        BenchRow(
            f"/metrics, {count:.0f} series" + ("" if same else ", NOT THE SAME TEXT"),
            statistics.median(ours) * 1e3,
            "ms",
            statistics.median(theirs) * 1e3,
            "generate_latest",
            ratio,
            20.0,
            ratio >= 20.0 and same,
        ),
        BenchRow(
            "series of 100,000 routes", count, "", SERIES_LIMIT, "limit", count / SERIES_LIMIT, 1.0,
            count <= SERIES_LIMIT,
        ),
        BenchRow(
            f"loop stall p99 while scraped (of {stalls})", stall, "ms", STALL_MS, "limit", stall / STALL_MS,
            1.0, stall < STALL_MS,
        ),
        BenchRow(
            "memory of the series", memory / count, "B/series", None, f"{memory / 2**20:.0f} MiB", None,
            None, None,
        ),
    ]  # fmt: skip


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _sorted(text: bytes) -> list[bytes]:
    moving = (b"process_", b"mailcanary_exposition_")
    return sorted(line for line in text.splitlines() if not line.startswith(moving))


def _work(metrics: Metrics) -> None:
    """What happens between two scrapes."""
    for n in range(VERDICTS):
        sender, seed = f"sender-{n % SENDERS}", f"seed-{n % SEEDS}"
        one = canary(sender, seed, PROVIDERS[n % SEEDS % len(PROVIDERS)])
        metrics.submitted(one)
        metrics.settled(one)
        metrics.routes.note(Verdict(sender, seed, Outcome.PASS, "", NOW, NOW + n / 1000))


async def _stalls(metrics: Metrics) -> tuple[float, int]:
    """The loop is asked for every millisecond while a thread renders: how late does it come?"""
    late: list[float] = []
    for _ in range(SCRAPES):
        _work(metrics)
        scrape = asyncio.create_task(asyncio.to_thread(lambda: list(metrics.pieces())))
        while not scrape.done():
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            late.append((time.perf_counter() - began - 0.001) * 1e3)
    return statistics.quantiles(late, n=100)[-1], len(late)


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
