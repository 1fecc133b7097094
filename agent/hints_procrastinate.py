"""Hints of a fleet: those for other agents travel as procrastinate's jobs, in the transaction they belong to.

A job carries the hints of one commit for one queue, and is done as soon as they are handed to the in-process
queue: what happens to them there is the rows' business. Traps kept away from: no locks, no scheduled jobs, no
periodic tasks, no retries; jobs are deleted when done; a worker that ends is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import procrastinate
import psycopg
import structlog
from procrastinate.connector import Notify
from procrastinate.exceptions import ConnectorException
from procrastinate.jobs import DEFAULT_QUEUE, Job
from procrastinate.manager import JobManager
from procrastinate.types import JSONValue
from psycopg_pool import AsyncConnectionPool
from sqlalchemy.engine import Connection

from agent.hints import Handler, LocalHints
from agent.store.database import Database, Hint, Tx
from probes.errors import StoreError

log = structlog.get_logger("hints")

TASK = "look"
POLL = 20.0
"""Seconds after which jobs are looked for that no notification told of: it came while nobody listened."""
AGAIN = 2.0
"""Seconds before a worker that ended is started again."""
FORGOTTEN = 600.0
"""Seconds after which a job is nobody's: its agent is gone, and the sweep has derived the work long since."""
MOST_FORGOTTEN = 1000
CONNECT = 10.0
"""Seconds that a worker waits for a connection."""
GATHER = 0.1
"""Seconds for which hints are gathered that go with no transaction."""
STOP = 5.0
"""Seconds that a worker is given to say goodbye to a server that may be away."""


class ProcrastinateHints:
    """The port over PostgreSQL. Hints without `to` stay in the process, others go to the queue they name."""

    def __init__(self, database: Database, queues: Sequence[str]) -> None:
        """queues: what this agent reads, its own name first."""
        self._database = database
        self._queues = tuple(queues)
        self._local = LocalHints(database)
        self._jobs = JobManager(
            procrastinate.SyncPsycopgConnector()
        )  # only ever used on the writer's connection
        self._waiting: dict[Hint, None] = {}
        self._putting: asyncio.Task[None] | None = None
        database.carry(self._carry)

    def defer(self, tx: Tx, *hints: Hint) -> None:
        """See Hints."""
        tx.defer(*map(self._own, hints))

    def put(self, *hints: Hint) -> None:
        """Publishes hints that go with no transaction."""
        mine = [hint for hint in map(self._own, hints) if not hint.to]
        self._local.put(*mine)
        self._waiting.update(dict.fromkeys(hint for hint in map(self._own, hints) if hint.to))
        if self._waiting and self._putting is None:
            self._putting = asyncio.get_running_loop().create_task(self._put_others())

    async def _put_others(self) -> None:
        """A job costs its receiver three transactions: the hints of a moment go in one."""
        await asyncio.sleep(GATHER)
        hints, self._waiting, self._putting = [*self._waiting], {}, None
        with suppress(StoreError):  # a hint may be lost
            await self._database.write(lambda tx: tx.defer(*hints), durable=False)

    def _own(self, hint: Hint) -> Hint:
        return Hint(hint.kind, hint.key) if hint.to == self._queues[0] else hint

    def _carry(self, conn: Connection, hints: Sequence[Hint]) -> None:
        """In the writer's transaction: one job a queue."""
        by_queue: dict[str, list[JSONValue]] = {}
        for hint in hints:
            by_queue.setdefault(hint.to, []).append([hint.kind, hint.key])
        jobs = [
            Job(
                id=None,
                queue=queue,
                task_name=TASK,
                lock=None,
                queueing_lock=None,
                task_kwargs={"hints": told},
            )
            for queue, told in by_queue.items()
        ]
        try:
            self._jobs.batch_defer_jobs(jobs, connection=conn.connection.driver_connection)
        except ConnectorException as error:
            raise error.__cause__ or error from None  # the store sorts the driver's errors

    async def run(self, handlers: Mapping[str, Handler], stop: asyncio.Event) -> None:
        """See Hints."""
        worker = asyncio.create_task(self._work(stop), name="hints from other agents")
        try:
            await self._local.run(handlers, stop)
        finally:
            worker.cancel()
            await asyncio.wait({worker}, timeout=STOP)
            self._database.carry(None)

    async def _work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await self._listen()
            except Exception as error:  # whatever it is: the worker is started again, the sweep goes on
                log.warning("no hints from other agents for now", error=str(error.__cause__ or error))
            await asyncio.sleep(AGAIN)

    async def _listen(self) -> None:
        """One worker's life: it ends where the server was away for long."""
        app, pool = self._app(), self._pool()
        try:
            await pool.open(wait=True, timeout=CONNECT)
            await app.open_async(pool)
            await app.run_worker_async(
                queues=[*self._queues],
                name=self._queues[0],
                concurrency=1,
                fetch_job_polling_interval=POLL,
                abort_job_polling_interval=3600.0,
                shutdown_graceful_timeout=STOP,
                delete_jobs="always",
                install_signal_handlers=False,
                listen_notify=True,
            )
        finally:
            await pool.close(STOP)  # also where this was cancelled before it was open

    def _pool(self) -> AsyncConnectionPool:
        return AsyncConnectionPool(
            kwargs=self._connect_arguments,
            min_size=1,
            max_size=2,
            open=False,
            timeout=CONNECT,
            reconnect_timeout=2 * CONNECT,
            check=AsyncConnectionPool.check_connection,
        )

    def _app(self) -> procrastinate.App:
        app = procrastinate.App(connector=_Listening())

        @app.task(name=TASK, queue=DEFAULT_QUEUE)
        async def look(hints: list[list[str]]) -> None:
            self._local.put(*(Hint(kind, key) for kind, key in hints))

        return app

    async def _connect_arguments(self) -> dict[str, Any]:
        return self._database.connect_arguments()

    async def drop_forgotten(self) -> int:
        """Deletes jobs that nobody will ever do: those of agents that are gone, done or half done. Raises
        StoreError."""
        return await self._database.write(lambda tx: _drop(tx.conn), durable=False)


class _Listening(procrastinate.PsycopgConnector):
    """Listens again after whatever ended it: the worker does not notice when its listener has died."""

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        while True:
            with suppress(ConnectorException, psycopg.Error, OSError):
                await super().listen_notify(on_notification, channels)
            await asyncio.sleep(AGAIN)


_FORGOTTEN = """
DELETE FROM procrastinate_jobs WHERE id IN (
    SELECT job_id FROM procrastinate_events
    WHERE type = 'deferred' AND at < now() - make_interval(secs => %s) ORDER BY id LIMIT %s)
"""


def _drop(conn: Connection) -> int:
    return int(conn.exec_driver_sql(_FORGOTTEN, (FORGOTTEN, MOST_FORGOTTEN)).rowcount)


def open_hints(
    database: Database, holder: str, queues: Sequence[str] = ()
) -> LocalHints | ProcrastinateHints:
    """The hints that go with the store. queues: further ones that this agent reads."""
    return ProcrastinateHints(database, (holder, *queues)) if database.shared else LocalHints(database)
