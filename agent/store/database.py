"""The database behind one writer thread: group commit, full durability, and a few readers.

Units of work are functions of a `Tx`. Those that wait at the same time share one transaction and one
fsync. Where one of them raises, the batch is rolled back and each is done again by itself, so a unit must
be a function of the database alone; its hints are published only after its commit.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.compiler import compiles

from agent.store.backend import Reveal, open_backend
from agent.store.prepared import Prepared, Row
from probes.errors import MailcanaryError, StoreError

T = TypeVar("T")
BATCH = 500
"""Units of work that may share one transaction."""
WRITE_SECONDS = 15.0
READ_SECONDS = 30.0
"""Seconds that a server may take over one transaction."""
COMPANY_SECONDS = 0.1
"""Seconds between two transactions for units that may wait: those that come meanwhile share the next one."""
SHARED_PART = 0.3
"""The part of them on a server: 50 ms may pass from a message's arrival to the row that all agents see."""
COMPANY = 16
"""Units that need wait for no more."""
AWAY_SECONDS = 1.0
"""Seconds for which nobody tries to connect again after that failed."""
PAUSES = (0.02, 0.1, 0.3)
"""Seconds before work is done again that met another agent's."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A job: "look at this row". May be lost, repeated or late, and nothing breaks."""

    kind: str
    key: str = ""
    to: str = ""
    """The holder of the agent that is to look, or a queue that several read; "" for this agent."""


Carrier = Callable[[Connection, Sequence[Hint]], None]
"""Takes hints for other agents along in the transaction that they belong to."""


@dataclass(slots=True)
class Tx:
    """One unit of work's view of the transaction it shares."""

    conn: Connection
    hints: list[Hint] = field(default_factory=list)
    fences: set[object] = field(default_factory=set)
    """What was checked in this transaction, or is before it ends: nobody can take it over meanwhile."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What was read in this transaction and counts for all of its units: they happen at the same instant."""
    _later: dict[Prepared, list[Row]] = field(default_factory=dict)
    _about: set[str] = field(default_factory=set)
    _last: dict[str, tuple[Prepared, Row]] = field(default_factory=dict)
    _checks: list[Callable[[Connection], None]] = field(default_factory=list)

    def put(self, key: str, statement: Prepared, row: Row) -> None:
        """Runs a statement at the end of the transaction, with the row that was given last for that key."""
        self._last[key] = statement, row

    def check(self, check: Callable[[Connection], None]) -> None:
        """Runs a check at the end of the transaction, which what it raises rolls back."""
        self._checks.append(check)

    def finish(self) -> None:
        """Whatever was left for the end."""
        for check in self._checks:
            check(self.conn)
        for statement, row in self._last.values():
            statement.run(self.conn, [row])
        self.flush()

    def insert(self, statement: Prepared, row: Row, *about: str) -> None:
        """Inserts a row with its like, in one go at the end of the transaction (or at `flush`).

        about: what the row can be asked for by, see `flush`.
        """
        self._later.setdefault(statement, []).append(row)
        self._about.update(about)

    def flush(self, about: str | None = None) -> None:
        """Makes what was inserted so far visible to reads within the transaction; where what is to be read is
        named, only if any of it is about that: on a server each statement is a wait."""
        if about is not None and about not in self._about:
            return
        for statement, rows in self._later.items():
            statement.run(self.conn, rows)
        self._later.clear()
        self._about.clear()

    def defer(self, *hints: Hint) -> None:
        """Publishes hints with the transaction: after its commit, and never without it."""
        self.hints.extend(hints)


@dataclass(slots=True, eq=False)
class _Unit:
    work: Callable[[Tx], Any]
    future: asyncio.Future[Any] | Future[Any]
    durable: bool = True
    order: str = ""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return self.future.get_loop() if isinstance(self.future, asyncio.Future) else None


_in_order = attrgetter("order")
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

    Raises StoreError for whatever the database refuses; what was not committed did not happen. Where a
    server is away, that is said in seconds; the next unit after it is back is taken. Where its connection is
    lost within the commit itself the unit may have happened all the same: the rows tell.
    """

    def __init__(
        self,
        url: str,
        *,
        password: Reveal | None = None,
        on_hints: Callable[[Sequence[Hint]], None] | None = None,
    ) -> None:
        self.url = make_url(url)
        self._backend = open_backend(url, password)
        self._on_hints = on_hints
        self._carry: Carrier | None = None
        self._queue: queue.SimpleQueue[list[_Unit] | None] = queue.SimpleQueue()
        self._handing = threading.Lock()
        self._handed = float("-inf")  # when the writer was last given something
        self._waiting: list[_Unit] = []  # those that may wait, until another one comes or their time is up
        self._closed = False
        self.failures = 0
        """Writes that the database itself did not take: disk full, read-only, no connection."""
        self.failure = ""
        """What it said to the last of them."""
        self._writing: Connection | None = None  # the writer thread's own
        self._away: tuple[float, Exception] | None = None  # until when nobody need ask again, and why
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="store-read")
        self._writer = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._writer.start()

    @property
    def engine(self) -> Engine:
        """The SQLAlchemy engine, for migrations."""
        return self._backend.engine

    @property
    def shared(self) -> bool:
        """Whether it is a server's, where agents on other machines may work too."""
        return not self._backend.one_file

    def connect_arguments(self) -> dict[str, Any]:
        """What the driver needs for one more connection, with the password as it is now."""
        return self._backend.connect_arguments()

    def subscribe(self, on_hints: Callable[[Sequence[Hint]], None]) -> None:
        """Sets who hears of committed hints; called in the writer thread."""
        self._on_hints = on_hints

    def carry(self, carrier: Carrier | None) -> None:
        """Sets who takes hints for other agents along; called in the writer thread."""
        self._carry = carrier

    async def write(
        self, work: Callable[[Tx], T], *, durable: bool = True, order: str = "", may_wait: bool = False
    ) -> T:
        """Runs `work` in a transaction and returns once it is committed.

        durable: on the disk, even if the power fails the next moment. Intents and the outbox need that. The
        rest survives a crash of the process in any case, and a power failure takes it back to a state from
        which the reader settles the canary again.
        order: of those that share a transaction the smaller goes first. Who locks rows that others lock too
        names them by it, so that all agents lock in one order and none waits for another in a circle.
        may_wait: nothing hangs on the next COMPANY_SECONDS. Where there is more to write, one transaction
        serves all that came meanwhile; units are taken in the order in which they came all the same.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put(_Unit(work, future, durable, order), loop if may_wait else None)
        return await future

    def write_now(self, work: Callable[[Tx], T]) -> T:
        """The same for a caller without an event loop."""
        future: Future[T] = Future()
        self._put(_Unit(work, future))
        return future.result()

    def _put(self, unit: _Unit, waits_on: asyncio.AbstractEventLoop | None = None) -> None:
        if self._closed:  # nobody would ever answer
            raise StoreError("it is closed")
        with self._handing:
            self._waiting.append(unit)
            first = self._waiting[0].loop is not waits_on or self._waiting[0] is unit
            many = len(self._waiting) >= COMPANY
        company = COMPANY_SECONDS * (SHARED_PART if self.shared else 1.0)
        pause = self._handed + company - time.monotonic()
        if waits_on is None or many or pause <= 0:
            self._hand_over()
        elif first:
            waits_on.call_later(pause, self._time_is_up, unit)

    def _time_is_up(self, unit: _Unit) -> None:
        if unit in self._waiting:  # nobody has taken it along
            self._hand_over()

    def _hand_over(self) -> None:
        """Gives the writer all that waits."""
        with self._handing:
            if self._waiting:
                self._queue.put(self._waiting)
                self._waiting = []
                self._handed = time.monotonic()

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` on a reader's connection, which sees the last commit."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self.read_now, work)

    def read_now(self, work: Callable[[Connection], T]) -> T:
        """The same for a caller without an event loop."""
        try:
            try:
                return self._read(work)
            except Exception as error:
                # The server may have closed what lay idle in the pool; a read may be done again.
                if not self._lost(error):
                    raise
                return self._read(work)
        except Exception as error:
            if isinstance(error, SQLAlchemyError) or self._backend.is_fault(error):
                raise _store_error(error) from error
            raise

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._connect() as conn, self._backend.limit(conn, READ_SECONDS):
            return work(conn)

    def _connect(self) -> Connection:
        """A connection; for a moment after one could not be had nobody waits for the next failure."""
        away = self._away
        if away is not None and time.monotonic() < away[0]:
            raise away[1].with_traceback(None)  # or it would grow with each who is told
        try:
            conn = self._backend.connect()
        except Exception as error:
            if self._backend.is_lost(error):
                self._away = (time.monotonic() + AWAY_SECONDS, error)
            raise
        self._away = None
        return conn

    def _lost(self, error: Exception) -> bool:
        """Whether a connection was lost that was there before; then all that lie in the pool go."""
        if self._away is not None or not self._backend.is_lost(error):
            return False
        self.engine.dispose()
        return True

    def close(self) -> None:
        """Commits what is queued and closes every connection."""
        self._closed = True
        self._hand_over()
        self._queue.put(None)
        self._writer.join(timeout=30)
        self._readers.shutdown(wait=True)
        self._backend.close()

    def _write_loop(self) -> None:
        ended = False
        while not ended and (first := self._queue.get()) is not None:
            batch, ended = self._gather(first)
            self._commit(batch)
        self._put_back()

    def _gather(self, first: list[_Unit]) -> tuple[list[_Unit], bool]:
        batch, ended = first, False
        while len(batch) < BATCH:
            try:
                units = self._queue.get_nowait()
            except queue.Empty:
                break
            if units is None:
                ended = True
                break
            batch += units
        return sorted(batch, key=_in_order), ended

    def _commit(self, batch: list[_Unit]) -> None:
        try:
            durable = any(unit.durable for unit in batch)
            works = [unit.work for unit in batch]
            alone = len(batch) == 1
            results = self._patiently(works, durable) if alone else self._transaction(works, durable)
        except Exception as error:
            lost = self._backend.is_lost(error)
            if len(batch) > 1 and not lost:
                for unit in batch:
                    self._commit([unit])
                return
            self._note(error)
            self._deliver([(unit, None, _store_error(error)) for unit in batch])
            return
        self._deliver([(unit, result, None) for unit, result in zip(batch, results, strict=True)])

    def _patiently(self, works: Sequence[Callable[[Tx], Any]], durable: bool) -> list[Any]:
        """What met another agent's work is done again, a few times."""
        for pause in PAUSES:
            try:
                return self._transaction(works, durable)
            except Exception as error:
                if not self._backend.may_repeat(error):
                    raise
            time.sleep(pause)
        return self._transaction(works, durable)

    def _note(self, error: Exception) -> None:
        if self._backend.is_fault(error):
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
        kept = self._writing is not None
        try:
            return self._once(works, durable)
        except _Uncommitted as error:
            if not kept:
                raise error.cause from None
        # The server had closed the kept connection, and nothing was committed on it.
        try:
            return self._once(works, durable)
        except _Uncommitted as error:
            raise error.cause from None

    def _once(self, works: Sequence[Callable[[Tx], Any]], durable: bool) -> list[Any]:
        done = False
        try:
            conn = self._writing or self._take_out()
            with self._backend.limit(conn, WRITE_SECONDS), self._backend.transaction(conn, durable):
                tx = Tx(conn)
                results = [work(tx) for work in works]
                tx.finish()
                own = self._send_along(conn, tx.hints)
                done = True
        except BaseException as error:
            self._put_back(error)  # the next transaction begins on a connection that is known to be good
            if not done and isinstance(error, Exception) and self._backend.is_lost(error):
                raise _Uncommitted(error) from error
            raise
        self._publish(own)
        return results

    def _send_along(self, conn: Connection, hints: Sequence[Hint]) -> list[Hint]:
        """Gives hints for others to the carrier; returns those that are for this agent."""
        others = [hint for hint in hints if hint.to]
        if not others:
            return list(hints)
        if self._carry is not None:
            self._carry(conn, list(dict.fromkeys(others)))
        return [hint for hint in hints if not hint.to]

    def _take_out(self) -> Connection:
        """The writer's connection is kept: to take one from the pool costs as much as a commit."""
        self._writing = self._connect()
        return self._writing

    def _put_back(self, error: BaseException | None = None) -> None:
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        with suppress(SQLAlchemyError):
            if error is not None and self._backend.is_lost(error):
                writing.invalidate()
                self.engine.dispose()
            writing.close()

    def _publish(self, hints: Sequence[Hint]) -> None:
        """After the commit: what fails here must not have the units done again."""
        if hints and self._on_hints:
            with suppress(RuntimeError):  # the loop closed meanwhile; a hint may be lost
                self._on_hints(hints)


class _Uncommitted(Exception):
    """The connection was lost before anything was committed: the work may be done again."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _store_error(error: Exception) -> MailcanaryError:
    if isinstance(error, MailcanaryError):
        return error
    origin = getattr(error, "orig", None)
    return StoreError(str(origin or error))


class insert_new(sa.Insert):  # noqa: N801  # a statement, like sa.insert
    """INSERT ... ON CONFLICT DO NOTHING: a row that is there already stays as it is."""

    inherit_cache = True


@compiles(insert_new)
def _insert_new(statement: Any, compiler: Any, **more: Any) -> str:
    return f"{compiler.visit_insert(statement, **more)} ON CONFLICT DO NOTHING"


def upsert(conn: Connection, table: sa.Table, keys: Sequence[str], row: Mapping[str, object]) -> None:
    """INSERT ... ON CONFLICT (keys) DO UPDATE, in the dialect of the connection."""
    conn.execute(_upsert(conn.dialect.name, table, tuple(keys), tuple(row)), row)


@lru_cache(maxsize=128)
def _upsert(dialect: str, table: sa.Table, keys: tuple[str, ...], names: tuple[str, ...]) -> sa.Insert:
    """Built once: that costs SQLAlchemy more than to run it."""
    from sqlalchemy.dialects import postgresql, sqlite

    make = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = make(table).values({name: sa.bindparam(name) for name in names})
    changes = {name: statement.excluded[name] for name in names if name not in keys}
    return statement.on_conflict_do_update(index_elements=list(keys), set_=changes)
