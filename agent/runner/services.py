"""What every part of the runner may touch, handed to it instead of reached for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from agent.hints import LocalHints
from agent.metrics import Metrics
from agent.runner.means import Means
from agent.store.database import Database, Tx
from agent.store.leases import Lease, check
from probes.canary.token import TokenKeys


@dataclass
class Services(Means):
    """One agent's means, its store, and its lease on it."""

    database: Database
    hints: LocalHints
    metrics: Metrics
    keys: TokenKeys
    holder: str
    lease: Lease
    inflight: set[str] = field(default_factory=set)

    @property
    def agent(self) -> str:
        """The agent's name, as tokens are minted for it."""
        return self.config.agent.name

    def fence(self, tx: Tx) -> None:
        """Refuses the write of an agent that has lost its lease. Raises StaleWrite."""
        if self.lease not in tx.fences:
            check(tx.conn, self.lease)
            tx.fences.add(self.lease)

    def new_id(self, at: float) -> str:
        """An id that sorts by time and is never used twice."""
        return f"{int(at * 1000):012x}{self.random.getrandbits(64):016x}"


def nonce(source: random.Random, length: int) -> bytes:
    """Unpredictable bytes from the injected source (random.SystemRandom in the agent)."""
    return source.getrandbits(8 * length).to_bytes(length, "big")
