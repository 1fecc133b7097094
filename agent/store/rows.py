"""The small tables: settings, schedules, paces, mailboxes, senders, observations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store.database import Hint, Tx, insert_new, upsert
from agent.store.json_text import to_text
from agent.store.paging import pages
from agent.store.prepared import Prepared
from agent.store.tables import (
    canaries,
    mailboxes,
    observations,
    outbox,
    paces,
    schedules,
    senders,
    settings,
    token_keys,
)
from probes.errors import StaleWrite

PAUSED = "paused"
CLOCKS = "clocks"
EVALUATE = Hint("evaluate")
NAMED = 10_000
"""Rows that are named in one query."""


_setting = Prepared(sa.select(settings.c.value).where(settings.c.key == sa.bindparam("wanted")), ("wanted",))
_pace = Prepared(sa.select(paces.c.free_at).where(paces.c.name == sa.bindparam("wanted")), ("wanted",))
_lock_pace = Prepared(
    sa.select(paces.c.free_at).where(paces.c.name == sa.bindparam("wanted")).with_for_update(), ("wanted",)
)
_new_pace = Prepared(insert_new(paces), ("name", "free_at"))
_move_pace = Prepared(
    sa.update(paces).where(paces.c.name == sa.bindparam("wanted")).values(free_at=sa.bindparam("at")),
    ("at", "wanted"),
)
_schedule = Prepared(sa.select(schedules).where(schedules.c.name == sa.bindparam("wanted")), ("wanted",))


def setting(conn: Connection, key: str) -> Any:
    """A setting's value, or None."""
    row = _setting.first(conn, key)
    if row is None:
        return None
    return json.loads(row[0]) if conn.dialect.name == "sqlite" else row[0]


def set_setting(conn: Connection, key: str, value: object) -> None:
    """Writes a setting."""
    upsert(conn, settings, ["key"], {"key": key, "value": value})


def load_token_keys(conn: Connection) -> dict[str, bytes]:
    """The HMAC keys by id, oldest first."""
    rows = conn.execute(sa.select(token_keys).order_by(token_keys.c.created_at)).mappings()
    return {row["id"]: row["key"] for row in rows}


def add_token_key(conn: Connection, key_id: str, key: bytes, now: float) -> None:
    """Adds an HMAC key; the newest one signs."""
    conn.execute(sa.insert(token_keys).values(id=key_id, key=key, created_at=now))


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule: when it is due next, how often it has run."""

    name: str
    due_at: float
    last_at: float | None
    count: int


PAGE = 50_000
"""Schedules that are read in one query."""


def schedule_rows(conn: Connection, after: str = "", most: int = PAGE) -> list[ScheduleRow]:
    """Schedules in the order of their names, from the first behind that name on."""
    query = sa.select(schedules).where(schedules.c.name > after).order_by(schedules.c.name)
    return [ScheduleRow(*row) for row in conn.execute(query.limit(most))]


def schedule_row(conn: Connection, name: str) -> ScheduleRow | None:
    """One schedule by name."""
    row = _schedule.first(conn, name)
    return ScheduleRow(*row) if row else None


def due_schedules(
    conn: Connection, now: float, mine: Callable[[str, float], bool], limit: int = 1000
) -> list[str]:
    """Names of what has come due and is the asker's, oldest first. mine: by name and due time."""
    c = schedules.c
    query = sa.select(c.name, c.due_at).where(c.due_at <= now).order_by(c.due_at, c.name)
    due = pages(conn, query, lambda last: sa.tuple_(c.due_at, c.name) > sa.tuple_(last.due_at, last.name))
    return list(islice((row.name for row in due if mine(row.name, row.due_at)), limit))


NEXT = (16, 512)
"""Rows that are looked at for the next that is the asker's: at first, and where none of those is."""


def next_schedule(conn: Connection, after: float, mine: Callable[[str, float], bool]) -> float | None:
    """When the asker's next schedule comes due; sooner where it is not found soon."""
    last = None
    for limit in NEXT:
        query = sa.select(schedules.c.name, schedules.c.due_at).where(schedules.c.due_at > after)
        rows = conn.execute(query.order_by(schedules.c.due_at).limit(limit)).all()
        found = next((float(at) for name, at in rows if mine(name, at)), None)
        if found is not None or len(rows) < limit:
            return found
        last = float(rows[-1][1])
    return last


_put = Prepared(insert_new(schedules), ("name", "due_at", "count"))


_put_all = sa.text(
    "INSERT INTO schedules (name, due_at, count) SELECT name, due_at, 0 "
    "FROM unnest(CAST(:names AS text[]), CAST(:times AS float8[])) AS new (name, due_at) "
    "ON CONFLICT (name) DO NOTHING"
)


def put_schedules(conn: Connection, due: Mapping[str, float]) -> None:
    """Adds schedules: when each is due. One that is there already, as another agent added it, stays."""
    if conn.dialect.name == "postgresql":  # a statement for each row takes it ten times as long
        conn.execute(_put_all, {"names": list(due), "times": list(due.values())})
    elif due:
        _put.run(conn, [(name, at, 0) for name, at in due.items()])


_as_seen = sa.update(schedules).where(
    schedules.c.name == sa.bindparam("n"),
    schedules.c.count == sa.bindparam("c"),
    schedules.c.due_at == sa.bindparam("d"),
)
_postpone = Prepared(_as_seen.values(due_at=sa.bindparam("to")), ("to", "n", "c", "d"))
_ran = Prepared(
    _as_seen.values(due_at=sa.bindparam("to"), last_at=sa.bindparam("at"), count=sa.bindparam("times")),
    ("to", "at", "times", "n", "c", "d"),
)


def move_schedule(conn: Connection, row: ScheduleRow, due_at: float, ran_at: float | None) -> bool:
    """Moves a schedule on by compare-and-swap. False where somebody else has run it."""
    seen = (row.name, row.count, row.due_at)
    if ran_at is None:
        return _postpone.run(conn, [(due_at, *seen)]) == 1
    return _ran.run(conn, [(due_at, ran_at, row.count + 1, *seen)]) == 1


_drop = Prepared(sa.delete(schedules).where(schedules.c.name == sa.bindparam("n")), ("n",))


def drop_schedules(conn: Connection, names: Iterable[str]) -> None:
    """Forgets schedules whose object left the config."""
    gone = [(name,) for name in names]
    if gone:
        _drop.run(conn, gone)


def shift_times(conn: Connection, seconds: float) -> None:
    """After a jump of the wall clock: moves every time of ours that lies ahead by as much."""
    ahead = (
        schedules.c.due_at,
        canaries.c.due_at,
        canaries.c.retry_at,
        paces.c.free_at,
        outbox.c.due_at,
        outbox.c.leased_until,
    )
    for column in ahead:
        conn.execute(
            sa.update(column.table).where(column.is_not(None)).values({column.name: column + seconds})
        )


def pace(conn: Connection, name: str) -> float | None:
    """A pace's free_at."""
    row = _pace.first(conn, name)
    return float(row[0]) if row else None


def lock_pace(conn: Connection, name: str) -> float:
    """A pace's free_at for one who is going to move it: nobody else can before this transaction ends.

    Whatever is counted afterwards in the same transaction includes what those did who had the lock before.
    """
    row = _lock_pace.first(conn, name)
    if row is None:
        _new_pace.run(conn, [(name, 0.0)])
        row = _lock_pace.all(conn, name)[0]
    return float(row[0])


def set_pace(conn: Connection, name: str, free_at: float) -> None:
    """Writes a pace's free_at."""
    if not _move_pace.run(conn, [(free_at, name)]):
        upsert(conn, paces, ["name"], {"name": name, "free_at": free_at})


def lock_pace_in(tx: Tx, name: str) -> float:
    """As `lock_pace`. Those that share a transaction ask once."""
    if name not in tx.kept:
        tx.kept[name] = lock_pace(tx.conn, name)
    return float(tx.kept[name])


def set_pace_in(tx: Tx, name: str, free_at: float) -> None:
    """Writes a pace that is locked in this transaction, at its end: once for all that share it."""
    tx.kept[name] = free_at
    tx.put(name, _move_pace, (free_at, name))


def set_mailbox(conn: Connection, seed: str, **changes: object) -> None:
    """Writes a seed's state: readable, reason, detail, since, scanned_at, state."""
    known = conn.execute(sa.select(mailboxes.c.seed).where(mailboxes.c.seed == seed)).first()
    if known:
        conn.execute(sa.update(mailboxes).where(mailboxes.c.seed == seed).values(**changes))
        return
    blank = {"readable": False, "reason": "starting", "detail": "", "since": 0.0}
    conn.execute(sa.insert(mailboxes).values(seed=seed, **{**blank, **changes}))


def mailbox_states(conn: Connection, seeds: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """What is remembered of these seeds' mailboxes, of those that were ever read."""
    found: dict[str, Mapping[str, Any]] = {}
    for start in range(0, len(seeds), NAMED):
        some = mailboxes.c.seed.in_(seeds[start : start + NAMED])
        query = sa.select(mailboxes.c.seed, mailboxes.c.state).where(some)
        found |= {seed: state or {} for seed, state in conn.execute(query)}
    return found


def mailbox_rows(conn: Connection) -> dict[str, Mapping[str, Any]]:
    """Every seed's state by name."""
    return {row["seed"]: dict(row) for row in conn.execute(sa.select(mailboxes)).mappings()}


def set_sender(conn: Connection, sender: str, usable: bool, detail: str, now: float) -> bool:
    """Writes whether a sender can submit. True where that changed."""
    query = sa.select(senders.c.usable).where(senders.c.sender == sender)
    row = conn.execute(query).first()
    if row is not None and bool(row[0]) == usable:
        return False
    values = {"sender": sender, "usable": usable, "detail": detail, "since": now}
    upsert(conn, senders, ["sender"], values)
    return True


def sender_rows(conn: Connection) -> dict[str, Mapping[str, Any]]:
    """Every sender's state by name."""
    return {row["sender"]: dict(row) for row in conn.execute(sa.select(senders)).mappings()}


_observe = Prepared(sa.insert(observations), ("at", "kind", "body"))


def observe(tx: Tx, at: float, kind: str, body: Mapping[str, object]) -> None:
    """Leaves an observation for the evaluator: part of the commit of the result it comes from."""
    tx.insert(_observe, (at, kind, to_text(body)))
    tx.defer(EVALUATE)


def waiting_observations(conn: Connection, limit: int = 5000) -> list[tuple[int, str, Mapping[str, Any]]]:
    """What is not evaluated yet, oldest first: (id, kind, body). Those that are there are the work: ids of
    several agents are not committed in their order."""
    query = sa.select(observations.c.id, observations.c.kind, observations.c.body)
    query = query.order_by(observations.c.id).limit(limit)
    return [(row[0], row[1], row[2]) for row in conn.execute(query)]


def evaluated(conn: Connection, ids: Sequence[int]) -> None:
    """Deletes observations in the commit of what was made of them. Raises StaleWrite where they are gone.

    ids: in their order. Runs of neighbours go together; what is not named stays, wherever its id lies.
    """
    gone = 0
    for first, last in _runs(ids):
        gone += conn.execute(sa.delete(observations).where(observations.c.id.between(first, last))).rowcount
    if gone != len(ids):
        raise StaleWrite("observations were evaluated by somebody else")


def _runs(ids: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in ids:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def store_size(conn: Connection) -> float:
    """Bytes of the store: SQLite's file without its log, or the PostgreSQL database."""
    if conn.dialect.name == "postgresql":
        return float(conn.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
    pages, each = (conn.exec_driver_sql(f"PRAGMA {n}").scalar_one() for n in ("page_count", "page_size"))
    return float(pages * each)
