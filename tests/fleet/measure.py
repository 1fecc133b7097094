"""What a fleet costs: CPU, commits, bytes of WAL and time, read from the kernel and from PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from agent.config.models import Route
from agent.runner.origins import schedule_name
from agent.store import canaries, rows
from agent.store.database import Database, Tx
from probes.canary.state import Canary, Moment, State
from probes.canary.token import TokenKeys, mint
from tests.fakes.postgres import Postgres
from tests.fleet.agents import TICK, Fleet, cpu_of
from tests.fleet.world import Load

KEYS = TokenKeys(1, {1: bytes(32)})
HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts so far; the difference of two is what happened between them. CPU and at: seconds."""

    at: float
    agents: float
    store: float
    world: float
    settled: int
    commits: int
    wal: int

    def __sub__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, name) - getattr(other, name) for name in Cost.__slots__))

    @property
    def rate(self) -> float:
        """Canaries a second."""
        return self.settled / self.at

    def each(self, what: str) -> float:
        """So much a canary."""
        return float(getattr(self, what)) / max(1, self.settled)


@dataclass
class Bench:
    """A fleet and its store. server: None where the store is SQLite."""

    fleet: Fleet
    world: Load
    store: Database
    server: Postgres | None = None

    async def cost(self) -> Cost:
        """Everything so far."""
        figures = await self.world.figures()
        commits, wal = self._server_counts()
        return Cost(
            at=time.monotonic(),
            agents=cpu_of(*(agent.pid for agent in self.fleet.agents)),
            store=_tree_cpu(self.server) if self.server else 0.0,
            world=figures["cpu"],
            settled=await asyncio.to_thread(self.store.read_now, _settled),
            commits=commits,
            wal=wal,
        )

    def _server_counts(self) -> tuple[int, int]:
        if self.server is None:
            return 0, 0
        name = str(self.store.url.database)
        query = (
            "SELECT xact_commit, pg_current_wal_insert_lsn() - '0/0'::pg_lsn "
            f"FROM pg_stat_database WHERE datname = '{name}'"
        )
        commits, wal = self.server.sql(query)[0]
        return int(str(commits)), int(str(wal))

    async def during(self, seconds: float) -> Cost:
        """What happens in the next so many seconds."""
        before = await self.cost()
        await asyncio.sleep(seconds)
        return await self.cost() - before


SETTLED = sa.text("SELECT count(*) FROM canaries WHERE settled_at IS NOT NULL")
ACCEPTED = sa.text(
    "UPDATE canaries SET accepted_at = created_at, accepted_monotonic = 0, accepted_boot = boot"
)


def _settled(conn: sa.Connection) -> int:
    return int(conn.execute(SETTLED).scalar_one())


def _tree_cpu(server: Postgres) -> float:
    """CPU of every process of the server, and of those that have ended."""
    pids = server.processes()
    words = Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()
    return cpu_of(*pids) + sum(map(int, words[13:15])) / TICK


def rested(store: Database, routes: Sequence[Route]) -> None:
    """Has the routes' first runs lie ahead, where a newcomer's are due within a minute."""
    far = time.time() + 100 * HOUR

    def put(tx: Tx) -> None:
        rows.put_schedules(tx.conn, {schedule_name(route): far for route in routes})

    store.write_now(put)


def waiting(store: Database, count: int, seeds: Sequence[str], provider: str) -> None:
    """Leaves so many canaries in the store that were sent and are waited for, for an hour."""
    now = time.time()

    def one(number: int) -> Canary:
        seed = seeds[number % len(seeds)]
        token = mint(KEYS, agent="fleet", route=f"s0/{seed}", at=now, nonce=number.to_bytes(16, "big"))
        return Canary(
            id=canaries.id_of(token),
            token=token,
            message_id=f"<{number}@bench.example>",
            sender="s0",
            seed=seed,
            provider=provider,
            round="",
            created=Moment(now, 0.0, "bench"),
            deadline=HOUR,
            late_after=2 * HOUR,
            state=State.SENT,
            due_at=now + HOUR,
        )

    def fill(tx: Tx) -> None:
        for number in range(count):
            canaries.insert(tx, one(number))
        tx.flush()
        tx.conn.execute(ACCEPTED)

    store.write_now(fill)


def knowing(server: Postgres, database: str, handled: dict[str, list[float]]) -> list[float]:
    """Seconds from the arrival of each message to the commit of the row that knows of it.

    handled: when each token's message came. The server keeps the time of each commit.
    """
    query = (
        "SELECT token, extract(epoch FROM pg_xact_commit_timestamp(xmin)) FROM canaries "
        "WHERE outcome = 'pass' AND seen_at IS NOT NULL"
    )
    known = {str(token): float(str(at)) for token, at in server.sql(query, database) if at is not None}
    return sorted(known[token] - times[0] for token, times in handled.items() if times and token in known)


def disk_of(server: Postgres, url: str) -> int:
    """Bytes of a database's files."""
    name = url.rpartition("/")[2]
    return int(str(server.sql(f"SELECT pg_database_size('{name}')")[0][0]))
