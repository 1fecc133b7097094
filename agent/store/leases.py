"""Lease rows: a mailbox, the evaluator, a receiver belong to one agent at a time.

A lease has no time of its own: it holds as long as its holder's membership (agent.store.members) does, so
that an agent renews one row however much it holds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.database import insert_new
from agent.store.prepared import Prepared
from agent.store.tables import leases
from probes.errors import StaleWrite

NOBODY = ""
EPOCHS = "epochs"
"""The row whose epoch counts the memberships there ever were."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A resource held in one life (epoch) of an agent."""

    resource: str
    holder: str
    epoch: int


def take(conn: Connection, lease: Lease) -> bool:
    """Takes a resource that nobody holds. False where somebody does."""
    _there(conn, lease.resource)
    changed = conn.execute(
        sa.update(leases)
        .where(leases.c.resource == lease.resource, leases.c.holder == NOBODY)
        .values(holder=lease.holder, epoch=lease.epoch)
    )
    return changed.rowcount == 1


TOGETHER = 500
"""Resources that are taken in one statement."""
_new = Prepared(insert_new(leases), ("resource", "holder", "epoch"))


def take_all(conn: Connection, asked: Sequence[Lease]) -> list[Lease]:
    """The same for many, all for one life of one agent. Returns those that it holds now."""
    if not asked:
        return []
    wanted = {lease.resource: lease for lease in asked}
    names = sorted(wanted)  # all agents lock in one order
    _new.run(conn, [(name, NOBODY, 0) for name in names])
    found: set[str] = set()
    for start in range(0, len(names), TOGETHER):
        free = (leases.c.resource.in_(names[start : start + TOGETHER]), leases.c.holder == NOBODY)
        mine = sa.update(leases).where(*free).values(holder=asked[0].holder, epoch=asked[0].epoch)
        found.update(conn.execute(mine.returning(leases.c.resource)).scalars())
    return [lease for name, lease in wanted.items() if name in found]


def _there(conn: Connection, resource: str) -> None:
    conn.execute(insert_new(leases).inline().values(resource=resource, holder=NOBODY, epoch=0))


def give_back(conn: Connection, lease: Lease) -> None:
    """Frees a resource, where it is still the holder's."""
    same = (leases.c.resource == lease.resource, leases.c.holder == lease.holder)
    conn.execute(sa.update(leases).where(*same, leases.c.epoch == lease.epoch).values(holder=NOBODY, epoch=0))


def free_all(conn: Connection, holder: str) -> None:
    """Frees whatever an agent held."""
    conn.execute(sa.update(leases).where(leases.c.holder == holder).values(holder=NOBODY, epoch=0))


def forget(conn: Connection, resources: Iterable[str]) -> None:
    """Drops the rows of resources that left the config, where nobody holds them."""
    for resource in resources:
        conn.execute(sa.delete(leases).where(leases.c.resource == resource, leases.c.holder == NOBODY))


_row = sa.select(leases.c.resource, leases.c.holder, leases.c.epoch)
_held = Prepared(_row.where(leases.c.resource == sa.bindparam("r")), ("r",))


def check(conn: Connection, held: Collection[Lease]) -> None:
    """Raises StaleWrite where one of the leases has passed to somebody else."""
    names = [lease.resource for lease in held]
    alone = len(names) == 1  # mostly
    rows = _held.all(conn, *names) if alone else conn.execute(_row.where(leases.c.resource.in_(names)))
    gone = {*held} - {Lease(*row) for row in rows}
    if gone:
        raise StaleWrite(f"lease on {min(lease.resource for lease in gone)} is held by somebody else now")


_all = Prepared(_row)


def every(conn: Connection) -> dict[str, Lease]:
    """Every resource that was ever taken; its holder is "" where nobody holds it now."""
    return {row[0]: Lease(*row) for row in _all.all(conn) if row[0] != EPOCHS}


def next_epoch(conn: Connection) -> int:
    """A number no membership had before. Locks the counter until the transaction ends."""
    _there(conn, EPOCHS)
    counted = sa.update(leases).where(leases.c.resource == EPOCHS).values(epoch=leases.c.epoch + 1)
    return int(conn.execute(counted.returning(leases.c.epoch)).scalar_one())


def last(conn: Connection) -> int:
    """The newest number that a membership had; 0 before the first."""
    found = conn.execute(sa.select(leases.c.epoch).where(leases.c.resource == EPOCHS)).scalar()
    return int(found or 0)


def go_on(conn: Connection, epoch: int) -> None:
    """Memberships are counted on from there: rows came along that name older ones."""
    _there(conn, EPOCHS)
    conn.execute(sa.update(leases).where(leases.c.resource == EPOCHS).values(epoch=epoch))
