"""The database behind one writer thread: group commit, full durability, and a few readers.

Units of work are functions of a `Tx`. Those that wait at the same time share one transaction and one
fsync. Where one of them raises, the batch is rolled back and each is done again by itself, so a unit must
be a function of the database alone; its hints are published only after its commit.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from agent.store.prepared import Prepared, Row
from probes.errors import MailcanaryError, StoreError

T = TypeVar("T")
BATCH = 500
"""Units of work that may share one transaction."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A job: "look at this row". May be lost, repeated or late, and nothing breaks."""

    kind: str
    key: str = ""


@dataclass(slots=True)
class Tx:
    """One unit of work's view of the transaction it shares."""

    conn: Connection
    hints: list[Hint] = field(default_factory=list)
    fences: set[object] = field(default_factory=set)
    """Leases that were checked in this transaction: nobody can take one over before it ends."""
    _later: dict[Prepared, list[Row]] = field(default_factory=dict)

    def insert(self, statement: Prepared, row: Row) -> None:
        """Inserts a row with its like, in one go at the end of the transaction (or at `flush`)."""
        self._later.setdefault(statement, []).append(row)

    def flush(self) -> None:
        """Makes what was inserted so far visible to reads within the transaction."""
        for statement, rows in self._later.items():
            statement.run(self.conn, rows)
        self._later.clear()

    def defer(self, *hints: Hint) -> None:
        """Publishes hints once the transaction is committed."""
        self.hints.extend(hints)


@dataclass(slots=True)
class _Unit:
    work: Callable[[Tx], Any]
    future: asyncio.Future[Any] | Future[Any]
    durable: bool = True

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return self.future.get_loop() if isinstance(self.future, asyncio.Future) else None


Answer = tuple[_Unit, Any, MailcanaryError | None]


def _answer(answers: Sequence[Answer]) -> None:
    for unit, result, error in answers:
        if unit.future.done():  # its waiter was cancelled; the work is done all the same
            continue
        if error is None:
            unit.future.set_result(result)
        else:
            unit.future.set_exception(error)


class Database:
    """SQLite (the default) or PostgreSQL, with one writer.

    Raises StoreError for whatever the database refuses; what was not committed did not happen.
    """

    def __init__(self, url: str, *, on_hints: Callable[[Sequence[Hint]], None] | None = None) -> None:
        self.url = make_url(url)
        self._engine = _create_engine(self.url)
        self._on_hints = on_hints
        self._queue: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._closed = False
        self._sqlite = self.url.get_backend_name() == "sqlite"
        self.failures = 0
        """Writes that the database itself did not take: disk full, read-only, no connection."""
        self.failure = ""
        """What it said to the last of them."""
        self._writing: Connection | None = None  # the writer thread's own
        self._durable: bool | None = None  # what that connection was last told
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="store-read")
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._writer.start()

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for migrations."""
        return self._engine

    def subscribe(self, on_hints: Callable[[Sequence[Hint]], None]) -> None:
        """Sets who hears of committed hints; called in the writer thread."""
        self._on_hints = on_hints

    async def write(self, work: Callable[[Tx], T], *, durable: bool = True) -> T:
        """Runs `work` in a transaction and returns once it is committed.

        durable: on the disk, even if the power fails the next moment. Intents and the outbox need that. The
        rest survives a crash of the process in any case, and a power failure takes it back to a state from
        which the reader settles the canary again.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._put(_Unit(work, future, durable))
        return await future

    def write_now(self, work: Callable[[Tx], T]) -> T:
        """The same for a caller without an event loop."""
        future: Future[T] = Future()
        self._put(_Unit(work, future))
        return future.result()

    def _put(self, unit: _Unit) -> None:
        if self._closed:  # nobody would ever answer
            raise StoreError("it is closed")
        self._queue.put(unit)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on a reader's connection, which sees the last commit."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, work)

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """The same for a caller without an event loop."""
        try:
            with self._engine.connect() as conn:
                return work(conn)
        except SQLAlchemyError as error:
            raise _store_error(error) from error

    def close(self) -> None:
        """Commits what is queued and closes every connection."""
        self._closed = True
        self._queue.put(None)
        self._writer.join(timeout=30)
        self._readers.shutdown(wait=True)
        self._engine.dispose()

    def _write_loop(self) -> None:
        ended = False
        while not ended and (first := self._queue.get()) is not None:
            batch, ended = self._gather(first)
            self._commit(batch)
        self._put_back()

    def _gather(self, first: _Unit) -> tuple[list[_Unit], bool]:
        batch = [first]
        while len(batch) < BATCH:
            try:
                unit = self._queue.get_nowait()
            except queue.Empty:
                break
            if unit is None:
                return batch, True
            batch.append(unit)
        return batch, False

    def _commit(self, batch: list[_Unit]) -> None:
        try:
            durable = any(unit.durable for unit in batch)
            results = self._transaction([unit.work for unit in batch], durable)
        except Exception as error:
            if len(batch) > 1:
                for unit in batch:
                    self._commit([unit])
                return
            self._note(error)
            self._deliver([(batch[0], None, _store_error(error))])
            return
        self._deliver([(unit, result, None) for unit, result in zip(batch, results, strict=True)])

    def _note(self, error: Exception) -> None:
        if isinstance(error, OperationalError | sqlite3.OperationalError):
            self.failure = str(getattr(error, "orig", None) or error)
            self.failures += 1

    @staticmethod
    def _deliver(answers: Sequence[Answer]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop | None, list[Answer]] = {}
        for answer in answers:
            by_loop.setdefault(answer[0].loop, []).append(answer)
        for loop, group in by_loop.items():
            if loop is None:
                _answer(group)
            else:
                with suppress(RuntimeError):  # the loop closed: nobody waits there any more
                    loop.call_soon_threadsafe(_answer, group)

    def _transaction(self, works: Sequence[Callable[[Tx], Any]], durable: bool = True) -> list[Any]:
        try:
            conn = self._writing or self._take_out()
            self._say_durability(conn, durable)
            with conn.begin():
                if not (durable or self._sqlite):
                    conn.exec_driver_sql("SET LOCAL synchronous_commit = off")
                tx = Tx(conn)
                results = [work(tx) for work in works]
                tx.flush()
        except BaseException:
            self._put_back()  # the next transaction begins on a connection that is known to be good
            raise
        if not self._sqlite:  # a server may close it while it is idle: the pool tries it before each use
            self._put_back()
        self._publish(tx.hints)
        return results

    def _take_out(self) -> Connection:
        """The writer's connection. A file's is kept: to take one from the pool costs as much as a commit."""
        self._writing = self._engine.connect().execution_options(mailcanary_write=True)
        self._durable = None
        return self._writing

    def _put_back(self) -> None:
        if self._writing is not None:
            self._writing.close()
            self._writing = None

    def _say_durability(self, conn: Connection, durable: bool) -> None:
        if self._sqlite and durable is not self._durable:
            wanted = "FULL" if durable else "NORMAL"
            conn.connection.driver_connection.execute(f"PRAGMA synchronous={wanted}")  # type: ignore[union-attr]
            self._durable = durable

    def _publish(self, hints: Sequence[Hint]) -> None:
        """After the commit: what fails here must not have the units done again."""
        if hints and self._on_hints:
            with suppress(RuntimeError):  # the loop closed meanwhile; a hint may be lost
                self._on_hints(hints)


def _store_error(error: Exception) -> MailcanaryError:
    if isinstance(error, MailcanaryError):
        return error
    origin = getattr(error, "orig", None)
    return StoreError(str(origin or error))


def _create_engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    return sa.create_engine(url, pool_pre_ping=True)


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
        immediate = conn.get_execution_options().get("mailcanary_write")
        # On the driver itself: SQLAlchemy's way costs more than the statement.
        conn.connection.driver_connection.execute("BEGIN IMMEDIATE" if immediate else "BEGIN")  # type: ignore[union-attr]

    return engine


def upsert(conn: Connection, table: sa.Table, keys: Sequence[str], row: Mapping[str, object]) -> None:
    """INSERT ... ON CONFLICT (keys) DO UPDATE, in the dialect of the connection."""
    from sqlalchemy.dialects import postgresql, sqlite

    make = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = make(table).values(**row)
    changes = {name: statement.excluded[name] for name in row if name not in keys}
    conn.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changes))
