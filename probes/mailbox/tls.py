"""TLS over an asyncio transport with next to no memory while idle.

asyncio's own sslproto keeps a 256 KiB read buffer a connection; thousands of sessions wait for mail most
of their life. Here all connections of a thread share one read buffer, and OpenSSL gives its own back
between records. The same layer serves implicit TLS and STARTTLS.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any, Final, Protocol, cast

from probes.waiter import Waiter

_READ: Final = 64 * 1024
_RECORD: Final = 16 * 1024
_thread = threading.local()


def _shared_buffers() -> tuple[memoryview, memoryview]:
    """Two a thread, for what comes in and for what it says: a loop fills and empties them within one
    callback, so connections never overlap."""
    buffers: tuple[memoryview, memoryview] | None = getattr(_thread, "buffers", None)
    if buffers is None:
        buffers = _thread.buffers = (memoryview(bytearray(_READ)), memoryview(bytearray(_RECORD)))
    return buffers


class Wire(Protocol):
    """What the IMAP protocol needs of its connection: a plain transport has it, and so does TlsPipe."""

    def write(self, data: bytes, /) -> None:
        """Sends, buffering what the peer does not take yet."""

    def abort(self) -> None:
        """Closes at once; connection_lost follows."""

    def is_closing(self) -> bool:
        """True once closed or closing."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's transports: "peername", "ssl_object", ..."""


class TlsPipe(asyncio.BufferedProtocol):
    """The TLS layer between a TCP transport and a protocol of plaintext.

    As asyncio protocol it faces the TCP transport, as Wire the plaintext protocol `app`.
    `await ready` ends with the handshake, or raises ssl.SSLError or ConnectionError.
    """

    __slots__ = ("_app", "_buffer", "_incoming", "_object", "_outgoing", "_plain", "_transport", "ready")

    def __init__(
        self, app: asyncio.Protocol, context: ssl.SSLContext, hostname: str, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._app = app
        self._buffer, self._plain = _shared_buffers()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        self._transport: asyncio.Transport | None = None
        self.ready: Waiter[None] | None = Waiter(loop)

    # towards the TCP transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        self._shake()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._incoming.write(self._buffer[:nbytes])
        if self.ready is not None:
            self._shake()
        if self.ready is None:
            self._read()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.ready is not None and not self.ready.done():
            self.ready.set_exception(ConnectionResetError("connection lost during the TLS handshake"))
        self._app.connection_lost(exc)

    def _shake(self) -> None:
        if self.ready is None or self.ready.done():
            return
        ready = self.ready
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._flush()  # the alert that says why
            self.abort()
            ready.set_exception(error)
        else:
            self._flush()
            self.ready = None
            ready.set_result(None)

    def _read(self) -> None:
        """All that can be decrypted, in one piece: whoever hears the first part acts on it at once. Asked for
        again only while there is something: to be told that there is nothing costs an exception, which is
        more than the record did."""
        incoming, inner, plain = self._incoming, self._object, self._plain
        whole = b""
        broken = False
        try:
            while incoming.pending or inner.pending():
                if not (size := cast(int, inner.read(_RECORD, plain))):
                    broken = True
                    break
                whole += plain[:size]
        except ssl.SSLWantReadError:
            pass  # part of a record, or one that was no data
        except ssl.SSLError:
            broken = True  # a broken record: the connection cannot be trusted any more
        if whole:
            self._app.data_received(whole)
        if broken:
            self.abort()
        elif self._outgoing.pending:
            self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # towards the plaintext protocol

    def write(self, data: bytes) -> None:
        """Encrypts and sends."""
        try:
            self._object.write(data)
        except ssl.SSLError:
            self.abort()
        else:
            self._flush()

    def abort(self) -> None:
        """Closes at once, without the closing alert: used when the session is of no more use."""
        if self._transport is not None:
            self._transport.abort()

    def is_closing(self) -> bool:
        """True once closed or closing."""
        return self._transport is None or self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As asyncio's transports; "ssl_object" is the TLS object."""
        if name == "ssl_object":
            return self._object
        return default if self._transport is None else self._transport.get_extra_info(name, default)
