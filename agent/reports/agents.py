"""The agents of the fleet as their rows show them: who is there, what each holds, how it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection

from agent.store import leases, members
from agent.store.members import LOST, Member
from probes.clock import rfc3339

STATES = ("working", "visiting", "draining", "behind", "silent", "lost")
"""What an agent can be; silent: its heartbeat is overdue."""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """One agent. state: one of STATES; held: resources by kind;
    config: whether it runs the active version; silence: seconds since its last heartbeat."""

    member: Member
    state: str
    held: Mapping[str, int]
    silence: float
    current: bool

    def to_json(self) -> dict[str, Any]:
        """As `mailcanary agents --json` and the API show it."""
        one = self.member
        return {
            "agent": one.place,
            "name": one.name,
            "listen": one.listen,
            "holder": one.holder,
            "version": one.version,
            "region": one.region,
            "state": self.state,
            "detail": one.detail,
            "epoch": one.epoch,
            "leases": dict(self.held),
            "lag_seconds": round(one.lag, 3),
            "started_at": rfc3339(one.started_at),
            "heartbeat_at": rfc3339(one.heartbeat_at),
            "config": one.config_hash,
            "config_current": self.current,
            "addresses": list(one.addresses),
        }


def read_agents(conn: Connection, now: float, active: str = "") -> list[AgentStatus]:
    """Every agent that is there or was lost, by address. active: hash of the config that counts."""
    held: dict[str, Counter[str]] = {}
    for lease in leases.every(conn).values():
        held.setdefault(lease.holder, Counter())[lease.resource.partition("/")[0]] += 1
    found = [
        AgentStatus(
            one,
            _state(one, now),
            held.get(one.holder, Counter()),
            max(0.0, now - one.heartbeat_at),
            not active or one.config_hash == active,
        )
        for one in members.every(conn)
    ]
    return sorted(found, key=lambda one: (one.member.listen, one.member.started_at))


def _state(one: Member, now: float) -> str:
    return "silent" if one.state != LOST and one.expires_at <= now else one.state
