"""PostgreSQL: connections that fail in time, its errors sorted, and a watch over a server that is silent."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.types.string import StrDumper
from sqlalchemy.engine import URL, Connection, Engine

from agent.store.backend import Reveal, Transaction

CONNECT = 5
"""Seconds for a connection to be made."""
IDLE_IN_TRANSACTION = 5
"""Seconds after which the server ends a transaction whose agent says nothing: one that is frozen must not
hold the lock on a lease for longer than a take-over may take."""
SESSION = {
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION}s",
    "timezone": "UTC",
}
KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}

LOST = ("08", "57P01", "57P02", "57P03", "53300", "25006")
"""SQLSTATE: connection exceptions, shut down, crash, starting up, too many connections, and read-only: what
was the primary is a standby now."""
MET = ("40001", "40P01", "55P03", "23505")
"""SQLSTATE: serialization failure, deadlock, lock not available, unique violation (two inserts at once)."""
NOT_TAKEN = ("25006", "53", "57", "58", "08", "XX")
"""SQLSTATE: read-only, no resources (disk full), operator, system error, connection, internal."""


class _Text(StrDumper):
    """Text as PostgreSQL can hold it: it knows no NUL, and mail and DNS bring what they like."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}") if "\0" in obj else obj)


class PostgresBackend:
    """A server that several agents share."""

    one_file = False

    def __init__(self, url: URL, password: Reveal | None = None) -> None:
        self.engine = _engine(url, password)
        self._password = password
        self._watch = Watch()

    def connect(self) -> Connection:
        """Without transactions of the driver's: for a read it would ask the server three times."""
        return self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")

    def transaction(self, conn: Connection, durable: bool) -> AbstractContextManager[object]:
        raw: Any = conn.connection.driver_connection
        begin = f"BEGIN; SET LOCAL synchronous_commit = {'on' if durable else 'off'}"
        return Transaction(conn, lambda: raw.execute(begin, prepare=False))

    @contextmanager
    def limit(self, conn: Connection, seconds: float) -> Iterator[None]:
        raw: Any = conn.connection.driver_connection
        key = self._watch.begin(raw, seconds)
        try:
            yield
        finally:
            self._watch.end(key)

    def is_lost(self, error: BaseException) -> bool:
        origin = _origin(error)
        if isinstance(origin, psycopg.InterfaceError):
            return True
        if not isinstance(origin, psycopg.OperationalError):
            return False
        return origin.sqlstate is None or origin.sqlstate.startswith(LOST)

    def may_repeat(self, error: BaseException) -> bool:
        origin = _origin(error)
        return isinstance(origin, psycopg.Error) and origin.sqlstate in MET

    def is_fault(self, error: BaseException) -> bool:
        origin = _origin(error)
        if self.is_lost(origin):
            return True
        return isinstance(origin, psycopg.Error) and bool(
            origin.sqlstate and origin.sqlstate.startswith(NOT_TAKEN)
        )

    def connect_arguments(self) -> dict[str, Any]:
        _, found = self.engine.dialect.create_connect_args(self.engine.url)
        password = {"password": self._password()} if self._password is not None else {}
        return {**_arguments(self.engine.url), **found, **password}

    def close(self) -> None:
        self._watch.close()
        self.engine.dispose()


def _origin(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error


def _arguments(url: URL) -> dict[str, Any]:
    """What we say to libpq, but for what the URL says itself."""
    settings = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
    ours = {
        "connect_timeout": CONNECT,
        "application_name": "mailcanary",
        "options": settings,
        "target_session_attrs": "read-write",  # of several hosts the primary
        **KEEPALIVE,
    }
    return {name: value for name, value in ours.items() if name not in url.query}


def _engine(url: URL, password: Reveal | None) -> Engine:
    url = url.set(drivername="postgresql+psycopg")
    sizes = {"pool_size": 4, "max_overflow": 4, "pool_timeout": 10.0}
    engine = sa.create_engine(url, connect_args=_arguments(url), **sizes)

    @sa.event.listens_for(engine, "do_connect")
    def _password(_dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> None:
        if password is not None:
            parameters["password"] = password()

    @sa.event.listens_for(engine, "connect")
    def _adapt(raw: Any, _record: object) -> None:
        raw.adapters.register_dumper(str, _Text)

    return engine


class Watch:
    """Cuts the connections whose answer is overdue: libpq itself waits for a frozen server for ever."""

    EVERY = 0.5

    def __init__(self) -> None:
        self._waits: dict[int, tuple[float, Any]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._last = 0

    def begin(self, raw: Any, seconds: float) -> int:
        """Starts a wait; returns its key."""
        with self._lock:
            self._last += 1
            self._waits[self._last] = (time.monotonic() + seconds, raw)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="store-watch", daemon=True)
                self._thread.start()
            return self._last

    def end(self, key: int) -> None:
        """The answer is here."""
        with self._lock:
            self._waits.pop(key, None)

    def close(self) -> None:
        """Ends the watch."""
        self._closed.set()

    def _run(self) -> None:
        while not self._closed.wait(self.EVERY):
            with self._lock:
                now = time.monotonic()
                for key in [key for key, (end, _) in self._waits.items() if end < now]:
                    _cut(self._waits.pop(key)[1])


def _cut(raw: Any) -> None:
    with suppress(OSError, psycopg.Error):
        handle = socket.socket(fileno=os.dup(raw.fileno()))
        try:
            handle.shutdown(socket.SHUT_RDWR)
        finally:
            handle.close()
