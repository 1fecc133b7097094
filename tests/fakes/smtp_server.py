"""A scripted SMTP server on loopback: each fault a canary can meet, and a record of every byte it was
sent."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hang:
    """Say nothing, until the client hangs up."""


@dataclass(frozen=True)
class Drop:
    """Hang up; with words first, or with a reset."""

    first: bytes = b""
    reset: bool = False


Act = bytes | Hang | Drop
HANG = Hang()
DROP = Drop()


@dataclass
class Script:
    """What the server does. replies: by `greeting`, verb (`EHLO`, `STARTTLS`, `AUTH`, `MAIL`, `RCPT`,
    `DATA`, `QUIT`), `LINE` (what follows a 334) and `DOT`; a list is used up one a connection or command,
    its last one stays."""

    replies: dict[str, Act | Sequence[Act]] = field(default_factory=dict)
    extensions: Sequence[str] = ("PIPELINING", "SIZE 10240000", "8BITMIME", "DSN", "ENHANCEDSTATUSCODES")
    auth: str = "AUTH PLAIN LOGIN"
    starttls: bool = True
    implicit_tls: bool = False
    tls: ssl.SSLContext | None = None
    tls_garbage: bytes = b""
    behind_starttls: bytes = b""


@dataclass
class FakeSmtp:
    """Use as `async with FakeSmtp(Script(...)) as server:`; then server.port, .messages, .commands,
    .clear."""

    script: Script
    host: str = "127.0.0.1"
    port: int = 0
    connections: int = 0
    messages: list[bytes] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    clear: bytearray = field(default_factory=bytearray)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _used: dict[str, int] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """Connections that nobody has closed yet."""
        return len(self._tasks)

    async def __aenter__(self) -> FakeSmtp:
        tls = self.script.tls if self.script.implicit_tls else None
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _act(self, name: str, default: bytes) -> Act:
        acts = self.script.replies.get(name, default)
        if isinstance(acts, bytes | Hang | Drop):
            return acts
        index = self._used.get(name, 0)
        self._used[name] = index + 1
        return acts[min(index, len(acts) - 1)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await _Dialogue(self, reader, writer).run()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, EOFError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(Exception):
                writer.transport.abort()


class _Dialogue:
    """One connection."""

    def __init__(self, server: FakeSmtp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.script = server.script
        self.reader = reader
        self.writer = writer
        self.encrypted = server.script.implicit_tls

    async def _do(self, name: str, default: bytes) -> bytes:
        act = self.server._act(name, default)
        if isinstance(act, Hang):
            while await self.reader.read(4096):
                pass
            raise EOFError
        if isinstance(act, Drop):
            if act.first:
                self.writer.write(act.first)
                await self.writer.drain()
            if act.reset:
                self.writer.transport.abort()
            else:
                self.writer.close()
            raise EOFError
        assert isinstance(act, bytes)
        self.writer.write(act)
        await self.writer.drain()
        return act

    async def _line(self) -> bytes:
        line = await self.reader.readuntil(b"\n")
        if not self.encrypted:
            self.server.clear += line
        return line

    def _ehlo(self) -> bytes:
        words = [b"mx.example.net", *(word.encode() for word in self.script.extensions)]
        if self.script.auth:
            words.append(self.script.auth.encode())
        if self.script.starttls and not self.encrypted:
            words.append(b"STARTTLS")
        return b"".join(b"250-" + word + b"\r\n" for word in words[:-1]) + b"250 " + words[-1] + b"\r\n"

    async def run(self) -> None:
        await self._do("greeting", b"220 mx.example.net ESMTP\r\n")
        while True:
            line = await self._line()
            verb = line.split(None, 1)[0].decode("latin-1").upper() if line.strip() else ""
            self.server.commands.append(line.decode("latin-1").rstrip())
            await self._one(verb)

    async def _one(self, verb: str) -> None:
        if verb == "EHLO":
            await self._do("EHLO", self._ehlo())
        elif verb == "STARTTLS":
            if (await self._do("STARTTLS", b"220 2.0.0 go\r\n" + self.script.behind_starttls)).startswith(
                b"2"
            ):
                await self._encrypt()
        elif verb == "DATA":
            if (await self._do("DATA", b"354 go ahead\r\n")).startswith(b"354"):
                await self._message()
        elif verb == "QUIT":
            await self._do("QUIT", b"221 2.0.0 bye\r\n")
            self.writer.close()
            raise EOFError
        elif verb in ("MAIL", "RCPT", "HELO", "AUTH"):
            default = b"235 2.7.0 welcome\r\n" if verb == "AUTH" else b"250 2.1.0 ok\r\n"
            await self._do(verb, default)
        else:
            await self._do("LINE", b"502 5.5.1 no such command\r\n")

    async def _encrypt(self) -> None:
        if self.script.tls_garbage:
            self.writer.write(self.script.tls_garbage)
            await self.writer.drain()
        assert self.script.tls is not None
        await self.writer.start_tls(self.script.tls)
        self.encrypted = True

    async def _message(self) -> None:
        lines = []
        while (line := await self._line()) != b".\r\n":
            lines.append(line[1:] if line.startswith(b".") else line)
        self.server.messages.append(b"".join(lines))
        await self._do("DOT", b"250 2.0.0 Ok: queued as 4AbCdEf12345\r\n")
