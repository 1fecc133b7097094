"""The versions of the config that a fleet has run. The one with the highest number is active."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.tables import config_versions

KEEP = 20


@dataclass(frozen=True, slots=True)
class Version:
    """A config as it was activated. body: the file's text; by: the address of the agent that did it."""

    number: int
    hash: str
    body: str
    activated_at: float
    activated_by: str


def active(conn: Connection) -> Version | None:
    """The config that counts; None before the first."""
    query = sa.select(config_versions).order_by(config_versions.c.number.desc()).limit(1)
    row = conn.execute(query).mappings().first()
    return Version(**row) if row is not None else None


def active_hash(conn: Connection) -> str:
    """Its hash, "" before the first."""
    query = sa.select(config_versions.c.hash).order_by(config_versions.c.number.desc()).limit(1)
    return str(conn.execute(query).scalar() or "")


def activate(conn: Connection, version: Version) -> bool:
    """Makes it the active one, if its number is the next. False where another was activated meanwhile."""
    row = {name: getattr(version, name) for name in Version.__slots__}
    taken = sa.select(config_versions.c.number).where(config_versions.c.number >= version.number)
    if conn.execute(taken).first() is not None:
        return False
    # Of two that come here at the same time one is refused by the key, and looks again.
    conn.execute(sa.insert(config_versions).values(**row))
    conn.execute(sa.delete(config_versions).where(config_versions.c.number <= version.number - KEEP))
    return True
