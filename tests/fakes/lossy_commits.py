"""A way to PostgreSQL on which some commits happen and their answers are lost: connections end instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

COMMIT = b"COMMIT\0"
"""As a simple query of libpq ends."""


@dataclass
class LossyCommits:
    """Every so many-th commit is passed on and its answer is not. every: 0 for none; lost: how often."""

    target: int
    every: int = 0
    port: int = 0
    commits: int = 0
    lost: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        answers, server = await asyncio.open_connection("127.0.0.1", self.target)
        swallow = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                back = group.create_task(self._back(answers, writer, swallow))
                await self._forth(reader, server, swallow)
                back.cancel()
        except (ConnectionError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            self._tasks.discard(task)
            for one in (server, writer):
                with suppress(Exception):
                    one.transport.abort()

    async def _forth(
        self, reader: asyncio.StreamReader, server: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        while data := await reader.read(65536):
            if COMMIT in data:
                self.commits += 1
                if self.every and self.commits % self.every == 0:
                    swallow.set()
            server.write(data)
            await server.drain()

    async def _back(
        self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter, swallow: asyncio.Event
    ) -> None:
        while data := await answers.read(65536):
            if swallow.is_set():  # it has happened
                self.lost += 1
                raise ConnectionResetError
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError  # the server has ended it

    async def end(self) -> None:
        """Ends every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def lossy_commits(target: int) -> AsyncIterator[LossyCommits]:
    """It, listening, before the server at that port."""
    found = LossyCommits(target)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        await found.end()
        await server.wait_closed()
