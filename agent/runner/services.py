"""What every part of the runner may touch, handed to it instead of reached for."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.config.models import Config
from agent.hints import LocalHints
from agent.metrics import Metrics
from agent.store.database import Database, Tx
from agent.store.leases import Lease, check
from alerts.http import AiohttpPoster
from probes.canary.state import Moment
from probes.canary.token import TokenKeys
from probes.clock import Clock
from probes.dns import Resolver


@dataclass
class Services:
    """One agent's means. `config` and what is built from it are replaced as a whole by a reload."""

    config: Config
    clock: Clock
    random: random.Random
    database: Database
    hints: LocalHints
    metrics: Metrics
    resolver: Resolver
    tls: Callable[[str | None], ssl.SSLContext]
    keys: TokenKeys
    holder: str
    poster: AiohttpPoster
    lease: Lease
    inflight: set[str] = field(default_factory=set)

    @property
    def agent(self) -> str:
        """The agent's name, as tokens are minted for it."""
        return self.config.agent.name

    def now(self) -> Moment:
        """This instant on both clocks."""
        return Moment.of(self.clock)

    def fence(self, tx: Tx) -> None:
        """Refuses the write of an agent that has lost its lease. Raises StaleWrite."""
        check(tx.conn, self.lease)

    def new_id(self, at: float) -> str:
        """An id that sorts by time and is never used twice."""
        return f"{int(at * 1000):012x}{self.random.getrandbits(64):016x}"


def nonce(source: random.Random, length: int) -> bytes:
    """Unpredictable bytes from the injected source (random.SystemRandom in the agent)."""
    return source.getrandbits(8 * length).to_bytes(length, "big")
