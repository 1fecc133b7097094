"""A mail world in this process, small and fast: an SMTP server that delivers into IMAP mailboxes in memory
and remembers what it accepted. Its word is the ground truth that an agent's store is compared with."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.imap_server import mini

TOKEN = re.compile(rb"^X-Mailcanary-Token: *([A-Za-z0-9-]+)", re.MULTILINE | re.IGNORECASE)

DELIVER = "deliver"
DISCARD = "discard"
HOLD = "hold"
TWICE = "twice"
DEFER = "defer"
REJECT = "reject"

Fate = Callable[[str, str], str]
"""(token, recipient) -> what the server does with the message, or the reply it refuses it with."""


@dataclass
class Sink:
    """The running world. accepted: how often each token got its 250; offers: every reply a token got."""

    port: int = 0
    boxes: dict[str, Any] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    offers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    delivered: set[str] = field(default_factory=set)
    held: list[tuple[str, bytes]] = field(default_factory=list)
    fate: Fate = lambda _token, _to: DELIVER
    on_stage: Callable[[str], None] = lambda _stage: None
    """Told of each stage: MAIL, RCPT, DATA, DOT (accepted, not answered yet), SAID (answered)."""
    delay: float = 0.0
    """Seconds between acceptance and its reply: the window in which a sender does not know."""
    eat: bool = False
    """Ends the connection instead of the final reply."""
    closed: int = 0

    def release(self) -> None:
        """Delivers what was held."""
        for to, data in self.held:
            self._put(to, data)
        self.held.clear()

    def _put(self, to: str, data: bytes) -> None:
        self.boxes[to].deliver(data)
        found = TOKEN.search(data)
        if found:
            self.delivered.add(found.group(1).decode())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One SMTP connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._dialogue(reader, writer)
        writer.close()

    async def _dialogue(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink.example.net ESMTP\r\n")
        to = ""
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(
                    b"250-sink.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
                )
            elif verb == b"DATA":
                self.on_stage("DATA")
                writer.write(b"354 go ahead\r\n")
                if not await self._message(reader, writer, to):
                    return
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                return
            else:
                self.on_stage(verb.decode("latin-1"))
                if verb == b"RCPT":
                    to = line.partition(b"<")[2].partition(b">")[0].decode()
                writer.write(b"250 2.1.0 ok\r\n")
            await writer.drain()

    async def _message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: str) -> bool:
        """False where the connection is to end."""
        data = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
        found = TOKEN.search(data)
        token = found.group(1).decode() if found else ""
        reply = self._take(token, to, data)
        self.offers[token].append(int(reply[:3]))
        self.on_stage("DOT")
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.eat:
            return False
        writer.write(reply)
        await writer.drain()
        self.on_stage("SAID")
        return True

    def _take(self, token: str, to: str, data: bytes) -> bytes:
        fate = self.fate(token, to)
        if fate == DEFER:
            return b"451 4.7.1 greylisted, come back\r\n"
        if fate == REJECT:
            return b"550 5.7.1 no\r\n"
        if fate[0].isdigit():
            return fate.encode() + b"\r\n"
        self.accepted[token] += 1
        if fate == HOLD:
            self.held.append((to, data))
        elif fate != DISCARD:
            for _ in range(2 if fate == TWICE else 1):
                self._put(to, data)
        return b"250 2.0.0 Ok: queued\r\n"

    def sent_again(self) -> list[str]:
        """Tokens that were offered again after they had been accepted or refused for good."""
        return [token for token, codes in self.offers.items() if any(code != 451 for code in codes[:-1])]


@asynccontextmanager
async def sink(*addresses: str) -> AsyncIterator[Sink]:
    """A running world with a mailbox for each address."""
    async with AsyncExitStack() as stack:
        world = Sink()
        for address in addresses:
            world.boxes[address] = await stack.enter_async_context(mini())
        server = await asyncio.start_server(world.serve, "127.0.0.1", 0, limit=2**20)
        world.port = server.sockets[0].getsockname()[1]
        try:
            yield world
        finally:
            server.close()
