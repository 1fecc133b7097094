"""What the database behind the one writer does in its own way: connections, durability, errors, deadlines."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import OperationalError

from probes.errors import StoreError

Reveal = Callable[[], str]
"""Gives the password when a connection is made, so that a rotated one counts at once."""


class Backend(Protocol):
    """One kind of database."""

    engine: Engine
    one_file: bool
    """Whether nobody but this machine can have it open."""

    def connect(self) -> Connection:
        """A connection from the pool."""

    def transaction(self, conn: Connection, durable: bool) -> AbstractContextManager[object]:
        """A transaction that may write: committed at its end, rolled back at an error. durable: its commit
        is on the disk."""

    def limit(self, conn: Connection, seconds: float) -> AbstractContextManager[None]:
        """Within it the connection is cut where the database has not answered in so many seconds."""

    def is_lost(self, error: BaseException) -> bool:
        """Whether the connection is gone, or there was none to be had."""

    def may_repeat(self, error: BaseException) -> bool:
        """Whether the same work may well succeed when it is simply done again: it met somebody else's."""

    def is_fault(self, error: BaseException) -> bool:
        """Whether the database itself did not take the work: disk full, read-only, no connection."""

    def connect_arguments(self) -> dict[str, Any]:
        """What the driver needs for one more connection."""

    def close(self) -> None:
        """Closes every connection."""


def open_backend(url: str, password: Reveal | None = None) -> Backend:
    """The backend for `agent.store`. Raises StoreError."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return SqliteBackend(parsed)
    from agent.store.postgres import PostgresBackend  # its driver costs memory and time to load

    return PostgresBackend(parsed, password)


class SqliteBackend:
    """One file, one writer, no server: nothing to wait for but the disk."""

    one_file = True

    def __init__(self, url: URL) -> None:
        self.engine = _sqlite_engine(url)
        self._said: tuple[object, bool] | None = None  # the writer's connection, and what it was last told

    def connect(self) -> Connection:
        return self.engine.connect()

    def transaction(self, conn: Connection, durable: bool) -> AbstractContextManager[object]:
        raw: Any = conn.connection.driver_connection
        if self._said is None or self._said[0] is not raw or self._said[1] is not durable:
            raw.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self._said = raw, durable
        return Transaction(conn, lambda: raw.execute("BEGIN IMMEDIATE"))

    def limit(self, conn: Connection, seconds: float) -> AbstractContextManager[None]:
        return nullcontext()

    def is_lost(self, error: BaseException) -> bool:
        return False

    def may_repeat(self, error: BaseException) -> bool:
        return False

    def is_fault(self, error: BaseException) -> bool:
        return isinstance(error, OperationalError | sqlite3.OperationalError)

    def connect_arguments(self) -> dict[str, Any]:
        return {"database": self.engine.url.database}

    def close(self) -> None:
        self.engine.dispose()


class Transaction:
    """Said to the driver: SQLAlchemy's own way around it costs as much as the commit. What goes through
    SQLAlchemy within it joins it, and ends with it."""

    def __init__(self, conn: Connection, begin: Callable[[], object]) -> None:
        self._conn = conn
        self._begin = begin
        self._raw: Any = conn.connection.driver_connection

    def __enter__(self) -> None:
        self._begin()

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        joined = self._conn if self._conn.in_transaction() else self._raw
        if kind is None:
            joined.commit()
        else:
            joined.rollback()


def _sqlite_engine(url: URL) -> Engine:
    path = url.database
    if not path or path == ":memory:":
        raise StoreError("SQLite needs a file: an in-memory store would forget every intent")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not Path(path).exists():
        Path(path).touch(mode=0o600)
    engine = sa.create_engine(url, connect_args={"timeout": 15.0, "check_same_thread": False})

    @sa.event.listens_for(engine, "connect")
    def _pragmas(raw: Any, _record: object) -> None:
        raw.isolation_level = None  # BEGIN is ours to say, below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=15000", "foreign_keys=ON"):
            raw.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(conn: Connection) -> None:
        raw: Any = conn.connection.driver_connection
        if not raw.in_transaction:
            raw.execute("BEGIN")  # on the driver itself: SQLAlchemy's way costs more than the statement

    return engine
