"""How long whoever asks may take, and how many may ask: nobody holds a connection for ever by saying or
reading nothing, nor takes the sockets that the mailboxes need."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

from aiohttp import ClientConnectionResetError, web
from aiohttp.http_exceptions import HttpProcessingError

MOST = 200
"""Connections at the same time; the next one is hung up on."""
IDLE = 75.0
"""Seconds until a connection on which no whole request has come is closed: half-sent ones, and kept ones."""
SENDING = 10.0
"""Seconds that a body may take to come once its header is there."""
LINGERING = 2.0
"""Seconds for which the rest of a body is taken that nobody waits for any longer."""
READING = 30.0
"""Seconds that a piece of an answer may wait for its reader."""


def runner(app: web.Application) -> web.AppRunner:
    """The application, to be served with these limits; what is no HTTP gets its 400 and no traceback."""
    logging.getLogger("aiohttp.server").addFilter(_is_ours)
    return _Runner(
        app, access_log=None, handle_signals=False, keepalive_timeout=IDLE, lingering_time=LINGERING
    )


class _Runner(web.AppRunner):
    """Serves at most MOST connections."""

    @property
    def server(self) -> Any:
        """What makes the protocol of a new connection, once the runner is set up."""
        found = super().server
        return partial(_protocol, found) if found is not None else None


class _Full(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hangs up."""
        transport.close()


def _protocol(server: web.Server) -> asyncio.Protocol:
    return server() if len(server.connections) < MOST else _Full()


def _is_ours(record: logging.LogRecord) -> bool:
    """False for the mistakes of whoever asks, and where he hung up before a streamed answer (a scraper whose
    time is up): they would fill the log with tracebacks."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ClientConnectionResetError)


async def write(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """A piece of a streamed answer. Raises ClientConnectionResetError where nobody reads it, and hangs
    up."""
    try:
        async with asyncio.timeout(READING):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # a close would wait for the reader
        raise ClientConnectionResetError("nobody reads the answer") from None
