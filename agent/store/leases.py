"""Lease rows with an epoch: a mailbox, a sender or the evaluator belongs to one holder at a time.

Every write of a holder checks its epoch in the same transaction, so that one who was frozen and comes
back is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.prepared import Prepared
from agent.store.tables import leases
from probes.errors import StaleWrite

LEASE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A resource held. epoch grows with every change of holder."""

    resource: str
    holder: str
    epoch: int


def acquire(conn: Connection, resource: str, holder: str, now: float) -> Lease | None:
    """Takes or renews a lease; None while somebody else holds it."""
    row = conn.execute(sa.select(leases).where(leases.c.resource == resource)).mappings().first()
    expires = now + LEASE_SECONDS
    if row is None:
        conn.execute(sa.insert(leases).values(resource=resource, holder=holder, epoch=1, expires_at=expires))
        return Lease(resource, holder, 1)
    if row["holder"] != holder and row["expires_at"] > now:
        return None
    epoch = row["epoch"] if row["holder"] == holder else row["epoch"] + 1
    changed = conn.execute(
        sa.update(leases)
        .where(leases.c.resource == resource, leases.c.epoch == row["epoch"])
        .values(holder=holder, epoch=epoch, expires_at=expires)
    )
    return Lease(resource, holder, epoch) if changed.rowcount == 1 else None


def renew_all(conn: Connection, holder: str, now: float) -> None:
    """Extends every lease the holder has and has not lost."""
    conn.execute(sa.update(leases).where(leases.c.holder == holder).values(expires_at=now + LEASE_SECONDS))


_held = Prepared(
    sa.select(leases.c.epoch).where(
        leases.c.resource == sa.bindparam("r"),
        leases.c.holder == sa.bindparam("h"),
        leases.c.epoch == sa.bindparam("e"),
    ),
    ("r", "h", "e"),
)


def check(conn: Connection, lease: Lease) -> None:
    """Raises StaleWrite where the lease has passed to somebody else."""
    if _held.first(conn, lease.resource, lease.holder, lease.epoch) is None:
        raise StaleWrite(f"lease on {lease.resource} is held by somebody else now")


def release_all(conn: Connection, holder: str) -> None:
    """Gives back every lease, so that the next holder need not wait for it to expire."""
    conn.execute(sa.update(leases).where(leases.c.holder == holder).values(expires_at=0.0))


def holder_of(conn: Connection, resource: str, now: float) -> str | None:
    """Who holds the resource, or None."""
    query = sa.select(leases.c.holder).where(leases.c.resource == resource, leases.c.expires_at > now)
    row = conn.execute(query).first()
    return str(row[0]) if row else None
