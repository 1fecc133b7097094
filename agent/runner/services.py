"""What every part of the runner may touch, handed to it instead of reached for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.fleet.fleet import Fleet
from agent.fleet.membership import Myself
from agent.hints import LocalHints
from agent.metrics import Metrics
from agent.runner.means import Means, resolver_name, servers_of
from agent.store.database import Database, Tx
from agent.store.members import place_of
from probes.canary.token import TokenKeys

if TYPE_CHECKING:
    from agent.hints_procrastinate import ProcrastinateHints


@dataclass
class Services(Means):
    """One agent's means, its store, and its place among the agents that work on it."""

    database: Database
    hints: LocalHints | ProcrastinateHints
    metrics: Metrics
    keys: TokenKeys
    me: Myself
    fleet: Fleet
    inflight: set[str] = field(default_factory=set)

    @property
    def agent(self) -> str:
        """The agent's name, as tokens are minted for it."""
        return self.config.agent.name

    @property
    def place(self) -> str:
        """What people call this agent among the others."""
        return place_of(self.me.holder, self.config.agent.listen)

    def resolvers(self) -> tuple[str, ...]:
        """What its resolvers are called, the one it asks first at the head."""
        return tuple(map(self.resolver_name, servers_of(self.config)))

    def resolver_name(self, server: str) -> str:
        """What a resolver is called in the store."""
        machine = self.me.holder.partition(":")[0] if self.database.shared else ""
        return resolver_name(server, machine)

    @property
    def epoch(self) -> int:
        """Names this life of the agent."""
        return self.fleet.membership.epoch

    def fence(self, tx: Tx, resource: str = "") -> None:
        """Refuses the write of an agent that is no member any more, or does not hold the resource. Raises
        StaleWrite."""
        self.fleet.fence(tx, resource)

    def new_id(self, at: float) -> str:
        """An id that sorts by time and is never used twice."""
        return f"{int(at * 1000):012x}{self.random.getrandbits(64):016x}"


def nonce(source: random.Random, length: int) -> bytes:
    """Unpredictable bytes from the injected source (random.SystemRandom in the agent)."""
    return source.getrandbits(8 * length).to_bytes(length, "big")
