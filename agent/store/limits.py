"""What may hold a canary back, asked in one go: on a server each statement is a wait."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.prepared import Prepared
from agent.store.rows import PAUSED
from agent.store.tables import canaries, paces, settings

_sent = sa.select(sa.func.count()).where(
    canaries.c.seed == sa.bindparam("of_seed"), canaries.c.created_at >= sa.bindparam("since")
)
_limits = Prepared(
    sa.select(
        sa.select(settings.c.value).where(settings.c.key == sa.bindparam("pause")).scalar_subquery(),
        sa.select(paces.c.free_at).where(paces.c.name == sa.bindparam("silence")).scalar_subquery(),
        _sent.scalar_subquery(),
    ),
    ("pause", "silence", "of_seed", "since"),
)


class Limits(NamedTuple):
    """paused: nothing is sent at all; silent_until: the provider asked for silence till then, 0.0 where it
    did not; sent: canaries meant for the seed since the time asked for."""

    paused: bool
    silent_until: float
    sent: int


def limits(conn: Connection, silence: str, seed: str, since: float) -> Limits:
    """silence: the name of the pace in which a provider's silence is kept; since: seconds since the epoch."""
    paused, silent, sent = _limits.all(conn, PAUSED, silence, seed, since)[0]
    return Limits(_truth(paused), float(silent or 0.0), int(sent))


def _truth(value: Any) -> bool:
    """A JSON column, whether its driver has read it already or not."""
    return bool(json.loads(value) if isinstance(value, str) else value)
