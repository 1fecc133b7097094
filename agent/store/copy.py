"""A history moves from SQLite to PostgreSQL: in pages, each with its mark in one commit, compared at the end.

The source stays as it is. What is not history stays behind: who works on the store now, and its clocks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store import leases as epochs
from agent.store import members, rows, schema
from agent.store.database import Database
from agent.store.tables import agents, leases, metadata, settings
from probes.errors import StoreError

PAGE = 2000
MARK = "copy"
"""The setting of the target that says how far the copy is: {"source", "tables": {name: last key}, "done"}."""
BEHIND = frozenset({MARK, schema.DECLARED, rows.CLOCKS})
"""Settings that do not move."""
ALIVE = 60.0
"""Seconds since its last heartbeat in which an agent is taken to work."""

TABLES: Sequence[sa.Table] = [table for table in metadata.sorted_tables if table not in (agents, leases)]
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """One table as both sides have it. checksum: the same whatever the order of the rows."""

    table: str
    rows: int
    checksum: str


Progress = Callable[[str, int, int], None]
"""Hears (table, rows done, rows in all)."""


def copy(source: Database, target: Database, now: float, progress: Progress) -> list[Copied]:
    """Copies what is missing, compares both sides and sets the target's sequences.

    May be broken off and called again. Raises StoreError where an agent works on either side, where the
    target holds anything of its own, or where the sides differ at the end.
    """
    name = str(source.url.database)
    mark = _begin(source, target, name, now)
    for table in TABLES:
        _copy_table(source, target, table, mark, progress)
    found = [_compare(source, target, table) for table in TABLES]
    lives = source.read_now(epochs.last)
    target.write_now(lambda tx: epochs.go_on(tx.conn, lives))
    target.write_now(lambda tx: _finish(tx.conn, {**mark, "done": True}))
    return found


def _begin(source: Database, target: Database, name: str, now: float) -> dict[str, Any]:
    if not target.shared or source.shared:
        raise StoreError("a copy goes from SQLite to PostgreSQL")
    for side, database in (("source", source), ("target", target)):
        if any(one.heartbeat_at > now - ALIVE for one in database.read_now(members.every)):
            raise StoreError(f"an agent works on the {side}: stop it first")
    known: dict[str, Any] | None = target.read_now(lambda conn: rows.setting(conn, MARK))
    if known is None:
        if used := target.read_now(_used):
            raise StoreError(f"the target is in use: it has rows in {', '.join(used)}")
        known = {"source": name, "tables": {}, "done": False}
        target.write_now(lambda tx: rows.set_setting(tx.conn, MARK, known))
    if known["source"] != name or known["done"]:
        state = "holds a whole copy" if known["done"] else "holds the beginning of a copy"
        raise StoreError(f"the target {state} of {known['source']}")
    return known


def _used(conn: Connection) -> list[str]:
    return [table.name for table in TABLES if conn.execute(_all(table).limit(1)).first() is not None]


def _all(table: sa.Table) -> sa.Select[Any]:
    query = sa.select(*table.primary_key.columns)
    return query.where(settings.c.key.not_in(BEHIND)) if table is settings else query


def count(conn: Connection, table: sa.Table) -> int:
    """How many rows of the table are history."""
    return int(conn.execute(sa.select(sa.func.count()).select_from(_all(table).subquery())).scalar_one())


def _copy_table(
    source: Database, target: Database, table: sa.Table, mark: dict[str, Any], progress: Progress
) -> None:
    total = source.read_now(lambda conn: count(conn, table))
    done = target.read_now(lambda conn: count(conn, table))
    progress(table.name, done, total)
    for page in _pages(source, table, mark["tables"].get(table.name)):
        mark["tables"][table.name] = list(_key(table, page[-1]))
        target.write_now(lambda tx, page=page: _put(tx.conn, table, page, mark))  # type: ignore[misc]
        done += len(page)
        progress(table.name, done, total)


def _pages(database: Database, table: sa.Table, after: Sequence[Any] | None = None) -> Iterator[list[Row]]:
    """The table's rows in the order of its key, as both sides are to have them."""
    while True:
        page = database.read_now(lambda conn, after=after: _page(conn, table, after))  # type: ignore[misc]
        if not page:
            return
        yield page
        after = _key(table, page[-1])


def _page(conn: Connection, table: sa.Table, after: Sequence[Any] | None) -> list[Row]:
    keys = list(table.primary_key.columns)
    plain = [_plain(column) for column in table.columns]
    query = sa.select(*plain).order_by(*keys).limit(PAGE)
    if table is settings:
        query = query.where(settings.c.key.not_in(BEHIND))
    if after is not None:
        query = query.where(sa.tuple_(*keys) > sa.tuple_(*after))
    return [tuple(map(_same, row)) for row in conn.execute(query)]


def _plain(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """JSON as the text it is: nothing is read and written anew."""
    return sa.cast(column, sa.Text()).label(column.name) if isinstance(column.type, sa.JSON) else column


def _same(value: Any) -> Any:
    """A value as PostgreSQL has it, too: it knows no NUL in text."""
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value


def _key(table: sa.Table, row: Row) -> tuple[Any, ...]:
    names = [column.name for column in table.columns]
    return tuple(row[names.index(column.name)] for column in table.primary_key.columns)


def _put(conn: Connection, table: sa.Table, page: Sequence[Row], mark: dict[str, Any]) -> None:
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    driver: Any = conn.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as out:
        for row in page:
            out.write_row(row)
    rows.set_setting(conn, MARK, mark)


def _compare(source: Database, target: Database, table: sa.Table) -> Copied:
    ours, theirs = _sum(source, table), _sum(target, table)
    if ours != theirs:
        raise StoreError(
            f"{table.name} differs: {ours.rows} rows with checksum {ours.checksum} in the source, "
            f"{theirs.rows} with {theirs.checksum} in the target"
        )
    return ours


def _sum(database: Database, table: sa.Table) -> Copied:
    number, total = 0, 0
    for page in _pages(database, table):
        number += len(page)
        for row in page:
            digest = hashlib.blake2b(json.dumps(row, default=bytes.hex).encode(), digest_size=8).digest()
            total += int.from_bytes(digest, "big")
    return Copied(table.name, number, f"{total % 2**64:016x}")


def _finish(conn: Connection, mark: dict[str, Any]) -> None:
    for table in TABLES:
        (key, *more) = table.primary_key.columns
        if not more and key.autoincrement is True:
            conn.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', '{key.name}'), "
                f'GREATEST((SELECT max("{key.name}") FROM "{table.name}"), 1))'
            )
    rows.set_setting(conn, MARK, mark)
