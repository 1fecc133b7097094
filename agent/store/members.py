"""The agents that work on the store: one row each, which is the agent's own lease on being one.

Every write checks its agent's row in the same transaction. Whoever finds a row expired evicts it: the epoch
moves on, so that an agent that was frozen and comes back is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store import leases
from agent.store.database import upsert
from agent.store.prepared import Prepared
from agent.store.tables import agents
from probes.errors import StaleWrite

LOST = "lost"
"""The state of an agent that was evicted and not seen since."""


@dataclass(frozen=True, slots=True)
class Member:
    """An agent as the others see it.

    epoch: names this life of it; expires_at: until then it is a member; state: working, visiting, draining
    or lost; detail: why it does not do its part; addresses: its own IPs; lag: seconds its loop was late;
    resolvers: what its resolvers are called, the one it asks first at the head.
    """

    holder: str
    name: str
    version: str
    listen: str
    started_at: float
    heartbeat_at: float = 0.0
    epoch: int = 0
    expires_at: float = 0.0
    state: str = "working"
    region: str = ""
    addresses: tuple[str, ...] = ()
    config_hash: str = ""
    detail: str = ""
    lag: float = 0.0
    resolvers: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """What people call it, whichever process it is: its address; its machine's where that is loopback."""
        return place_of(self.holder, self.listen)


def place_of(holder: str, listen: str) -> str:
    """See Member.place."""
    address, _, port = listen.rpartition(":")
    local = address.startswith("127.") or address in ("localhost", "[::1]", "::1")
    return f"{holder.partition(':')[0]}:{port}" if local else listen


_COLUMNS = tuple(field.name for field in fields(Member))
_LISTS = ("addresses", "resolvers")


def put(conn: Connection, member: Member) -> None:
    """Writes an agent's row at its joining; a row of an earlier life of the same process is replaced."""
    leases.free_all(conn, member.holder)
    row = {name: getattr(member, name) for name in _COLUMNS}
    upsert(conn, agents, ["holder"], row | {name: list(getattr(member, name)) for name in _LISTS})


_renew = Prepared(
    sa.update(agents)
    .where(agents.c.holder == sa.bindparam("h"), agents.c.epoch == sa.bindparam("e"))
    .values(
        heartbeat_at=sa.bindparam("now"),
        expires_at=sa.bindparam("until"),
        state=sa.bindparam("s"),
        listen=sa.bindparam("w"),
        addresses=sa.bindparam("a"),
        config_hash=sa.bindparam("c"),
        detail=sa.bindparam("d"),
        lag=sa.bindparam("l"),
        resolvers=sa.bindparam("r"),
    ),
    ("now", "until", "s", "w", "a", "c", "d", "l", "r", "h", "e"),
)


def renew(conn: Connection, member: Member) -> bool:
    """The heartbeat. False where the membership has ended."""
    row = (
        member.heartbeat_at,
        member.expires_at,
        member.state,
        member.listen,
        json.dumps(list(member.addresses)),
        member.config_hash,
        member.detail,
        member.lag,
        json.dumps(list(member.resolvers)),
        member.holder,
        member.epoch,
    )
    return _renew.run(conn, [row]) == 1


_is = sa.select(agents.c.epoch).where(
    agents.c.holder == sa.bindparam("h"), agents.c.epoch == sa.bindparam("e")
)
_check = {
    "sqlite": Prepared(_is, ("h", "e")),
    # Nobody may evict us between this look and our commit.
    "postgresql": Prepared(_is.with_for_update(read=True), ("h", "e")),
}


def check(conn: Connection, holder: str, epoch: int) -> None:
    """Raises StaleWrite where the membership has ended."""
    if _check[conn.dialect.name].first(conn, holder, epoch) is None:
        raise StaleWrite("this agent's membership has ended: others do its work now")


_every = Prepared(sa.select(*(agents.c[name] for name in _COLUMNS)))


def every(conn: Connection) -> list[Member]:
    """Every agent there is or was and is not forgotten."""
    return [_member(dict(zip(_COLUMNS, row, strict=True))) for row in _every.all(conn)]


def _member(row: Mapping[str, Any]) -> Member:
    return Member(**{**row, **{name: _listed(row[name]) for name in _LISTS}})


def _listed(found: Any) -> tuple[str, ...]:
    return tuple((json.loads(found) if isinstance(found, str) else found) or ())


def forget(conn: Connection, place: str) -> bool:
    """Drops the agents that were lost at that place: one answers there again, or none is to. False where
    there were none."""
    lost = [one.holder for one in every(conn) if one.state == LOST and one.place == place]
    for holder in lost:
        drop(conn, holder)
    return bool(lost)


def evict(conn: Connection, member: Member) -> bool:
    """Ends a membership and frees what hung on it. False where the row has moved, or is being written."""
    same = (agents.c.holder == member.holder, agents.c.epoch == member.epoch)
    row = sa.select(agents.c.expires_at).where(*same).with_for_update(skip_locked=True)
    found = conn.execute(row).first()
    if found is None or found[0] != member.expires_at:
        return False
    epoch = leases.next_epoch(conn)
    conn.execute(sa.update(agents).where(*same).values(epoch=epoch, expires_at=0.0, state=LOST))
    leases.free_all(conn, member.holder)
    return True


def drop(conn: Connection, holder: str) -> None:
    """An agent that left in good order, or was removed."""
    leases.free_all(conn, holder)
    conn.execute(sa.delete(agents).where(agents.c.holder == holder))
