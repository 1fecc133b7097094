"""The store on PostgreSQL, with fsync: the same intents as on SQLite, and what a canary costs in WAL, commits
and bytes on the disk."""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from agent.store import canaries
from agent.store import rows as small_rows
from agent.store.database import Database, Tx
from agent.store.schema import make, open_store
from probes.canary.state import Canary, Moment, Reply, State
from probes.outcome import Evidence, Outcome, Placement
from tests.bench.row import BenchRow
from tests.bench.store import COUNT, RUNS, _alone, _canary, _together
from tests.fakes.postgres import Postgres, running, why_not

LIVES = 2000
HEADER = os.urandom(1024).hex().encode()
"""As a kept block of headers: 2 KiB; of random digits, which TOAST packs by half."""
REPLY = Reply(
    250, "2.0.0", "2.0.0 OK  1795900000 d2e1a72fcca58-7a1b2c3d4e5f6 - gsmtp", "data", "accepted", "nothing"
)
STAGES = {"connect": 0.02, "tls": 0.03, "mail": 0.01, "rcpt": 0.01, "data": 0.1}
VERDICTS = {"spf": "pass", "dkim": "pass", "dmarc": "pass", "arc": "none"}


def rows() -> list[BenchRow]:
    """Part of the group `store`."""
    if reason := why_not():
        raise RuntimeError(reason)
    with ExitStack() as stack:
        server = stack.enter_context(running(durable=True))
        url = stack.enter_context(server.database(make))
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd()))
        store, beside = open_store(url), open_store(f"sqlite:///{folder}/bench.db")
        stack.callback(store.close)
        stack.callback(beside.close)
        return asyncio.run(_measure(server, store, beside))


async def _measure(server: Postgres, store: Database, beside: Database) -> list[BenchRow]:
    alone, together, file = [], [], []
    for _ in range(RUNS):
        alone.append(COUNT / await _alone(store))
        together.append(COUNT / (await _together(store))[0])
        file.append(COUNT / (await _together(beside))[0])
    rate, single, sqlite = map(statistics.median, (together, alone, file))
    cost = await _cost(server, store)
    ratio, what = rate / single, "PostgreSQL: 200 concurrent intents"
    return [
        BenchRow(what, rate, "rows/s", single, "one row a transaction", ratio, 10.0, ratio >= 10.0),
        BenchRow(f"{what}, beside the file", rate, "rows/s", sqlite, "SQLite", rate / sqlite, None, None),
        _plain("WAL of a canary's life", cost.wal / 1024, "KiB", "from intent to evaluated"),
        _plain("commits of a canary's life", cost.commits, "commits", "200 at the same time"),
        _plain("a canary on the disk", cost.disk / 1024, "KiB", "rows, indexes, 2 KiB of headers"),
    ]


def _plain(name: str, figure: float, unit: str, what: str) -> BenchRow:
    """A figure without a peer."""
    return BenchRow(f"PostgreSQL: {name}", figure, unit, None, what, None, None, None)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one canary: bytes of WAL, commits, bytes on the disk."""

    wal: float
    commits: float
    disk: float


async def _cost(server: Postgres, store: Database) -> Cost:
    name = str(store.url.database)
    server.sql(
        "CHECKPOINT"
    )  # the first change of each page after one writes the whole page: part of the price
    before = _state(server, name)
    for start in range(0, LIVES, COUNT):
        await asyncio.gather(*(_life(store, start + number) for number in range(COUNT)))
        await _evaluate(store)
    await asyncio.sleep(1.5)  # counters of a session come in with a delay
    after = _state(server, name)
    wal, commits, disk = (b - a for a, b in zip(before, after, strict=True))
    return Cost(wal / LIVES, commits / LIVES, disk / LIVES)


def _state(server: Postgres, name: str) -> tuple[float, float, float]:
    (row,) = server.sql(
        "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, xact_commit, pg_database_size(datname)"
        f" FROM pg_stat_database WHERE datname = '{name}'",
        name,
    )
    wal, commits, size = row
    return float(str(wal)), float(str(commits)), float(str(size))


async def _life(store: Database, number: int) -> None:
    """Intent, accepted, read back with its observation: three units of work, as the agent does."""
    made = _canary(number)
    await store.write(lambda tx: canaries.insert(tx, made))
    now = Moment(time.time(), time.monotonic(), "boot")
    sent = replace(
        made, version=2, state=State.SENT, accepted=now, reply=REPLY, stages={"connect": 0.02, "data": 0.1}
    )
    await store.write(lambda tx: canaries.save(tx, sent, made), durable=False, order=made.id)
    await store.write(lambda tx: _placed(tx, sent, number), durable=False, order=made.id)


def _placed(tx: Tx, sent: Canary, number: int) -> None:
    now = time.time()
    found = replace(
        sent, version=3, state=State.SETTLED, placement=Placement.INBOX, outcome=Outcome.PASS, settled_at=now,
        seen_at=now, latency=2.5, folder="INBOX", verdicts=VERDICTS,
        evidence=(Evidence("imap", "in INBOX", now), Evidence("header", "spf=pass dkim=pass", now)),
    )  # fmt: skip
    canaries.sight(tx, sent.seed, ("INBOX", 1, number), sent.id, now, HEADER)
    canaries.save(tx, found, sent)
    small_rows.observe(
        tx, now, "canary", {"sender": sent.sender, "seed": sent.seed, "outcome": "pass", "at": now}
    )


async def _evaluate(store: Database) -> None:
    found = await store.read(small_rows.waiting_observations)
    await store.write(lambda tx: small_rows.evaluated(tx.conn, [number for number, _, _ in found]))
