"""The store: 200 intents at the same time with full durability, beside one row a transaction and a bare
fdatasync, in turn."""

from __future__ import annotations

import asyncio
import os
import secrets
import statistics
import tempfile
import time
from pathlib import Path

from agent.store import canaries
from agent.store.database import Database
from agent.store.schema import open_store
from probes.canary.state import Canary, Moment
from probes.canary.token import TokenKeys, mint
from probes.clock import SystemClock
from tests.bench.row import BenchRow

COUNT = 200
RUNS = 9
SYNCS = 300
KEYS = TokenKeys(1, {1: secrets.token_bytes(32)})


def rows() -> list[BenchRow]:
    """The group `store`."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        database = open_store(f"sqlite:///{folder}/bench.db")
        try:
            return asyncio.run(_measure(database, Path(folder)))
        finally:
            database.close()


async def _measure(database: Database, folder: Path) -> list[BenchRow]:
    alone, together, worst, syncs = [], [], [], []
    for _ in range(RUNS):
        alone.append(await _alone(database))
        seconds, waits = await _together(database)
        together.append(seconds)
        worst.append(sorted(waits)[int(0.99 * COUNT)])
        syncs += _fdatasyncs(folder)
    rate, single = COUNT / statistics.median(together), COUNT / statistics.median(alone)
    # Like with like: the 99th percentile of the waits beside that of the bare syncs.
    p99, sync = statistics.median(worst) * 1e3, sorted(syncs)[int(0.99 * len(syncs))] * 1e3
    return [
        BenchRow(
            "200 concurrent intents, durable",
            rate,
            "rows/s",
            single,
            "one row a transaction",
            rate / single,
            10.0,
            rate / single >= 10.0,
        ),
        BenchRow(
            "200 concurrent intents, p99 wait",
            p99,
            "ms",
            sync,
            "bare fdatasync, p99 too",
            p99 / sync,
            20.0,
            p99 / sync <= 20.0,
        ),
    ]


def _canary(number: int) -> Canary:
    at = time.time()
    token = mint(KEYS, agent="bench", route="app/gmail-1", at=at, nonce=secrets.token_bytes(16))
    return Canary(
        id=canaries.id_of(token),
        token=token,
        message_id=f"<{number}.{time.time_ns()}@bench.test>",
        sender="app",
        seed="gmail-1",
        provider="gmail",
        round="",
        created=Moment.of(SystemClock()),
        deadline=600.0,
        late_after=86400.0,
        due_at=at + 600.0,
    )


async def _alone(database: Database) -> float:
    batch = [_canary(number) for number in range(COUNT)]
    began = time.perf_counter()
    for canary in batch:
        await database.write(lambda tx, c=canary: canaries.insert(tx, c))
    return time.perf_counter() - began


async def _together(database: Database) -> tuple[float, list[float]]:
    batch = [_canary(number) for number in range(COUNT)]
    waits: list[float] = []

    async def one(canary: Canary) -> None:
        began = time.perf_counter()
        await database.write(lambda tx: canaries.insert(tx, canary))
        waits.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(one(canary) for canary in batch))
    return time.perf_counter() - began, waits


def _fdatasyncs(folder: Path) -> list[float]:
    """What a bare durable write of the disk costs: 4 KiB and fdatasync."""
    found = []
    handle = os.open(folder / "sync.bin", os.O_CREAT | os.O_WRONLY)
    try:
        for _ in range(SYNCS // RUNS):
            os.write(handle, b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(handle)
            found.append(time.perf_counter() - began)
    finally:
        os.close(handle)
    return found
