"""Hints behind a port of two methods. A hint says "look at this row"; it may be lost, repeated or late.

Here is the in-process queue that goes with SQLite; all work is derived from rows by the sweep, so that a
lost hint costs time and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import structlog

from agent.store.database import Database, Hint, Tx

Handler = Callable[[str], Awaitable[None]]
log = structlog.get_logger("hints")


class Hints(Protocol):
    """The port."""

    def defer(self, tx: Tx, *hints: Hint) -> None:
        """Publishes hints with the transaction: after its commit, never before."""

    async def run(self, handlers: Mapping[str, Handler], stop: asyncio.Event) -> None:
        """Gives each hint to its handler until `stop`."""


class LocalHints:
    """The in-process queue. Of one kind and key at most one is at work and one waits: the sweep may repeat
    itself as often as it likes while a handler is held up."""

    def __init__(self, database: Database) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Hint | None] = asyncio.Queue()  # None: see whether to stop
        self._waiting: set[Hint] = set()
        self._running: set[Hint] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        database.subscribe(self._from_writer)

    def defer(self, tx: Tx, *hints: Hint) -> None:
        tx.defer(*hints)

    def put(self, *hints: Hint) -> None:
        """Publishes hints that go with no transaction."""
        for hint in hints:
            if hint not in self._waiting:
                self._waiting.add(hint)
                if hint not in self._running:
                    self._queue.put_nowait(hint)

    async def drop_forgotten(self) -> int:
        """Hints that nobody fetches any more. Here there are none."""
        return 0

    def _from_writer(self, hints: Sequence[Hint]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.put, *(hint for hint in hints if not hint.to))

    async def run(self, handlers: Mapping[str, Handler], stop: asyncio.Event) -> None:
        stopping = asyncio.ensure_future(stop.wait())
        stopping.add_done_callback(lambda _: self._queue.put_nowait(None))
        try:
            while not stop.is_set():
                hint = await self._queue.get()
                if hint is None:
                    continue
                self._waiting.discard(hint)
                self._start(handlers[hint.kind], hint)
        finally:
            stopping.cancel()
            # What is under way may end; who cannot wait for it cancels this, and so them.
            await self._finish()

    async def _finish(self) -> None:
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        except asyncio.CancelledError:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise

    def _start(self, handler: Handler, hint: Hint) -> None:
        self._running.add(hint)
        task = asyncio.ensure_future(self._guarded(handler, hint))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, hint))

    def _ended(self, task: asyncio.Task[None], hint: Hint) -> None:
        self._tasks.discard(task)
        self._running.discard(hint)
        if hint in self._waiting:
            self._queue.put_nowait(hint)

    @staticmethod
    async def _guarded(handler: Handler, hint: Hint) -> None:
        try:
            await handler(hint.key)
        except Exception:
            # The row still says what is to be done: the next sweep derives the work again.
            log.exception("hint failed", kind=hint.kind, key=hint.key)
