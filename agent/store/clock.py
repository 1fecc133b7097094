"""The database's clock: in a fleet it is everybody's, so that times of different machines can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from agent.store.prepared import Prepared

DRIFT = 100e-6
"""How far a good quartz may run off, as a share of the time: what a measurement is worth fades with it."""


class database_now(FunctionElement[float]):  # noqa: N801  # stands in SQL, like sa.func.now
    """The time at this moment, in seconds since the epoch: later within a transaction than at its start."""

    type = sa.Float()
    inherit_cache = True


@compiles(database_now, "postgresql")
def _postgresql(_element: object, _compiler: object, **_more: Any) -> str:
    return "extract(epoch from clock_timestamp())::float8"


@compiles(database_now, "sqlite")
def _sqlite(_element: object, _compiler: object, **_more: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


_now = Prepared(sa.select(database_now()))


def read_now(conn: Connection) -> float:
    """What the database's clock says, in seconds since the epoch."""
    return float(_now.all(conn)[0][0])


@dataclass(frozen=True, slots=True)
class Offset:
    """What to add to the local monotonic clock to get the database's time. error: by so much it may be off;
    at: the monotonic time of the measurement."""

    seconds: float
    error: float
    at: float

    def error_at(self, monotonic: float) -> float:
        """By how much it may be off by then."""
        return self.error + DRIFT * max(0.0, monotonic - self.at)


def measure(conn: Connection, monotonic: Callable[[], float] = time.monotonic) -> Offset:
    """Asks the database for its time, in a transaction that runs anyhow; half the wait bounds the error."""
    before = monotonic()
    now = read_now(conn)
    after = monotonic()
    return Offset(now - (before + after) / 2, (after - before) / 2, after)


def better(known: Offset | None, new: Offset) -> Offset:
    """The one to go by. A new one that cannot be true together with the known one tells that the database's
    clock was set, or is another machine's now: it counts."""
    if known is None:
        return new
    old = known.error_at(new.at)
    apart = abs(new.seconds - known.seconds)
    return known if old < new.error and apart <= old + new.error else new
