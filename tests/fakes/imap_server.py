"""IMAP servers for faults that a real one does not produce on demand.

`Scripted` plays a script line by line: any bytes at any time. `MiniImap` is a small true server in memory
(folders, UIDs, IDLE, search by UID, date and header) with switches for every fault of GUARANTEES G3.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

CAPABILITIES = b"IMAP4rev1 IDLE UIDPLUS SPECIAL-USE LIST-EXTENDED SASL-IR AUTH=PLAIN AUTH=XOAUTH2"


class Peer:
    """The server's side of one connection. `got` keeps every line the client sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.got: list[bytes] = []
        self.tag = b""

    async def line(self) -> bytes:
        """The next line without CRLF; ConnectionError at the end of the stream."""
        async with asyncio.timeout(10):
            line = await self.reader.readline()
        if not line:
            raise ConnectionResetError("client closed")
        self.got.append(line.rstrip(b"\r\n"))
        return self.got[-1]

    async def expect(self, word: bytes) -> bytes:
        """The next command, which must hold `word`; its tag is kept for `ok`."""
        line = await self.line()
        assert word in line.upper() or word in line, (word, line)
        self.tag = line.split(b" ")[0]
        return line

    async def send(self, *lines: bytes) -> None:
        """Lines, CRLF added."""
        self.writer.write(b"".join(line + b"\r\n" for line in lines))
        with suppress(ConnectionError):
            await self.writer.drain()

    async def raw(self, data: bytes, chunk: int = 0) -> None:
        """Bytes as they are, in pieces of `chunk` where given, each piece its own packet."""
        for start in range(0, len(data), chunk or len(data) or 1):
            self.writer.write(data[start : start + (chunk or len(data))])
            with suppress(ConnectionError):
                await self.writer.drain()
            if chunk:
                await asyncio.sleep(0)

    async def ok(self, *untagged: bytes, text: bytes = b"done") -> None:
        """Untagged lines and the tagged OK."""
        await self.send(*untagged, self.tag + b" OK " + text)

    async def log_in(self, capabilities: bytes = b"IMAP4rev1 IDLE") -> None:
        """Greets and lets the client log in, whatever the way (no SASL-IR)."""
        await self.send(b"* OK [CAPABILITY " + capabilities + b"] ready")
        await self.expect(b"LOGIN")
        await self.ok()
        await self.expect(b"CAPABILITY")
        await self.ok(b"* CAPABILITY " + capabilities)

    async def examine(self, uidvalidity: int = 1, uidnext: int = 2, exists: int = 1) -> None:
        await self.expect(b"EXAMINE")
        await self.ok(
            b"* %d EXISTS" % exists,
            b"* OK [UIDVALIDITY %d] ok" % uidvalidity,
            b"* OK [UIDNEXT %d] next" % uidnext,
        )


Script = Callable[[Peer], Awaitable[None]]


def _own_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task
    return task


async def _finish(writer: asyncio.StreamWriter) -> None:
    """Sends what is left, then closes for good."""
    writer.close()
    with suppress(OSError, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
    writer.transport.abort()


async def _gone(tasks: set[asyncio.Task[Any]]) -> None:
    """Ends what still serves."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Scripted:
    """A running scripted server. faults: what went wrong in scripts (assertion errors)."""

    port: int
    peers: list[Peer] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)


@asynccontextmanager
async def scripted(script: Script, tls: ssl.SSLContext | None = None) -> Any:
    """Serves the script on 127.0.0.1 to every connection; raises what a script raised, at the end."""
    running = Scripted(0)
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(_own_task())
        peer = Peer(reader, writer)
        running.peers.append(peer)
        try:
            await script(peer)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass
        except BaseException as error:
            running.faults.append(error)
        finally:
            await _finish(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls, limit=2**20)
    running.port = server.sockets[0].getsockname()[1]
    try:
        yield running
    finally:
        server.close()
        await _gone(tasks)
    if running.faults:
        raise running.faults[0]


@dataclass
class MiniMessage:
    uid: int
    data: bytes
    internaldate: float


@dataclass
class MiniFolder:
    """One folder. flags: as in LIST."""

    name: str
    flags: str = ""
    uidvalidity: int = 1000
    uidnext: int = 1
    messages: list[MiniMessage] = field(default_factory=list)

    def add(self, data: bytes, internaldate: float | None = None) -> int:
        uid, self.uidnext = self.uidnext, self.uidnext + 1
        self.messages.append(MiniMessage(uid, data, internaldate or time.time()))
        return uid


@dataclass
class MiniImap:
    """The state and the switches of the server."""

    port: int = 0
    capabilities: bytes = CAPABILITIES
    folders: dict[str, MiniFolder] = field(default_factory=dict)
    refuse_login: bytes = b""  # e.g. b"NO [AUTHENTICATIONFAILED] no"
    refuse: dict[bytes, bytes] = field(default_factory=dict)  # verb -> status line
    refuse_folder: dict[str, bytes] = field(default_factory=dict)
    greeting: bytes = b""
    frozen: bool = False
    slow: float = 0.0
    logins: int = 0
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    noops: int = 0
    commands: list[bytes] = field(default_factory=list)
    on_command: Callable[[bytes], None] | None = None
    sessions: list[MiniSession] = field(default_factory=list)
    categories: dict[int, str] = field(default_factory=dict)

    def deliver(self, data: bytes, folder: str = "INBOX", internaldate: float | None = None) -> int:
        uid = self.folders[folder].add(data, internaldate)
        for session in self.sessions:
            session.announce()
        return uid

    def move(self, uid: int, source: str, target: str) -> int:
        found = next(one for one in self.folders[source].messages if one.uid == uid)
        self.folders[source].messages.remove(found)
        return self.folders[target].add(found.data, found.internaldate)

    def kill(self, how: str) -> None:
        """fin, rst, bye: ends all sessions so."""
        for session in list(self.sessions):
            session.end(how)


class MiniSession:
    def __init__(self, server: MiniImap, peer: Peer) -> None:
        self.server = server
        self.peer = peer
        self.folder: MiniFolder | None = None
        self.told = 0
        self.idle_tag = b""

    def announce(self) -> None:
        if self.idle_tag and not self.server.frozen:
            self._exists()

    def _exists(self) -> None:
        if self.folder is not None and len(self.folder.messages) != self.told:
            self.told = len(self.folder.messages)
            self.peer.writer.write(b"* %d EXISTS\r\n" % self.told)

    def end(self, how: str) -> None:
        if how == "bye":
            self.peer.writer.write(b"* BYE going down\r\n")
        if how == "rst":
            self.peer.writer.transport.abort()
        else:
            self.peer.writer.close()

    async def serve(self) -> None:
        server = self.server
        if server.greeting:
            await self.peer.send(server.greeting)
            return
        await self.peer.send(b"* OK [CAPABILITY " + server.capabilities + b"] mini")
        while True:
            async with asyncio.timeout(3600):
                line = (await self.peer.reader.readline()).rstrip(b"\r\n")
            if not line:
                return
            while server.frozen:
                await asyncio.sleep(0.01)
            server.commands.append(line)
            if server.on_command is not None:
                server.on_command(line)
            if server.slow:
                await asyncio.sleep(server.slow)
            if line.upper() == b"DONE":
                tag, self.idle_tag = self.idle_tag, b""
                await self.peer.send(tag + b" OK idle over")
                continue
            tag, _, rest = line.partition(b" ")
            if await self._command(tag, rest):
                return

    async def _command(self, tag: bytes, rest: bytes) -> bool:
        verb, _, args = rest.partition(b" ")
        verb = verb.upper()
        if verb == b"UID":
            verb, _, args = args.partition(b" ")
            verb = b"UID " + verb.upper()
        refusal = self.server.refuse.get(verb)
        if refusal:
            await self.peer.send(tag + b" " + refusal)
            return False
        handler = getattr(self, "do_" + verb.decode().lower().replace(" ", "_"), None)
        if handler is None:
            await self.peer.send(tag + b" BAD unknown")
            return False
        return bool(await handler(tag, args))

    async def _ok(self, tag: bytes, *untagged: bytes) -> None:
        self.peer.writer.write(b"".join(line + b"\r\n" for line in untagged))
        self._exists()
        await self.peer.send(tag + b" OK done")

    async def do_capability(self, tag: bytes, args: bytes) -> None:
        await self._ok(tag, b"* CAPABILITY " + self.server.capabilities)

    async def do_authenticate(self, tag: bytes, args: bytes) -> None:
        await self._login(tag)

    async def do_login(self, tag: bytes, args: bytes) -> None:
        await self._login(tag)

    async def _login(self, tag: bytes) -> None:
        self.server.logins += 1
        if self.server.refuse_login:
            await self.peer.send(tag + b" " + self.server.refuse_login)
        else:
            await self._ok(tag)

    async def do_list(self, tag: bytes, args: bytes) -> None:
        lines = [
            b'* LIST (%s) "/" "%s"' % (folder.flags.encode(), folder.name.encode("latin-1"))
            for folder in self.server.folders.values()
        ]
        await self._ok(tag, *lines)

    def _named(self, args: bytes) -> tuple[str, bytes]:
        found = re.match(rb'"((?:[^"\\]|\\.)*)" ?(.*)', args)
        assert found, args
        return re.sub(rb"\\(.)", rb"\1", found.group(1)).decode("latin-1"), found.group(2)

    async def do_examine(self, tag: bytes, args: bytes) -> None:
        name, _ = self._named(args)
        refusal = self.server.refuse_folder.get(name)
        folder = self.server.folders.get(name)
        self.folder = None
        if refusal or folder is None:
            await self.peer.send(tag + b" " + (refusal or b"NO [NONEXISTENT] no such folder"))
            return
        self.folder, self.told = folder, len(folder.messages)
        await self._ok(
            tag,
            b"* %d EXISTS" % self.told,
            b"* OK [UIDVALIDITY %d] ok" % folder.uidvalidity,
            b"* OK [UIDNEXT %d] next" % folder.uidnext,
        )

    do_select = do_examine

    async def do_status(self, tag: bytes, args: bytes) -> None:
        name, _ = self._named(args)
        folder = self.server.folders.get(name)
        refusal = self.server.refuse_folder.get(name)
        if refusal or folder is None:
            await self.peer.send(tag + b" " + (refusal or b"NO [NONEXISTENT] no such folder"))
            return
        told = b"(UIDNEXT %d UIDVALIDITY %d)" % (folder.uidnext, folder.uidvalidity)
        await self._ok(tag, b'* STATUS "%s" %s' % (name.encode("latin-1"), told))

    def _set(self, text: bytes) -> list[MiniMessage]:
        messages = self.folder.messages if self.folder else []
        highest = max((one.uid for one in messages), default=0)
        chosen: set[int] = set()
        for part in text.split(b","):
            low, _, high = part.partition(b":")
            ends = [highest if end == b"*" else int(end) for end in (low, high or low)]
            chosen.update(one.uid for one in messages if min(ends) <= one.uid <= max(ends))
        return [one for one in messages if one.uid in chosen]

    async def do_uid_search(self, tag: bytes, args: bytes) -> None:
        words = args.split(b" ")
        found = list(self.folder.messages if self.folder else [])
        while words:
            word = words.pop(0).upper()
            if word == b"UID":
                chosen = self._set(words.pop(0))
                found = [one for one in found if one in chosen]
            elif word == b"SINCE":
                day = time.strptime(words.pop(0).decode(), "%d-%b-%Y")
                limit = time.mktime(day) - time.timezone
                found = [one for one in found if one.internaldate >= limit]
            elif word == b"HEADER":
                name = words.pop(0).lower()
                words.pop(0)
                found = [one for one in found if name + b":" in one.data.lower()]
            elif word == b"X-GM-RAW":
                wanted = words.pop(0).strip(b'"').removeprefix(b"category:").decode()
                found = [one for one in found if self.server.categories.get(one.uid, "primary") == wanted]
            else:
                await self.peer.send(tag + b" BAD search")
                return
        await self._ok(tag, b"* SEARCH" + b"".join(b" %d" % one.uid for one in found))

    async def do_uid_fetch(self, tag: bytes, args: bytes) -> None:
        chosen, _, items = args.partition(b" ")
        item = re.search(rb"BODY\.PEEK\[([^\]]*)\]<0\.(\d+)>", items)
        assert item, args
        assert self.folder
        for one in self._set(chosen):
            data = _part(one.data, item.group(1))[: int(item.group(2))]
            date = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(one.internaldate)).encode()
            self.peer.writer.write(
                b'* %d FETCH (UID %d INTERNALDATE "%s" RFC822.SIZE %d BODY[%s]<0> {%d}\r\n%s)\r\n'
                % (
                    self.folder.messages.index(one) + 1,
                    one.uid,
                    date,
                    len(one.data),
                    item.group(1),
                    len(data),
                    data,
                )
            )
        await self._ok(tag)

    async def do_uid_store(self, tag: bytes, args: bytes) -> None:
        chosen = self._set(args.partition(b" ")[0])
        assert self.folder
        self.folder.messages = [one for one in self.folder.messages if one not in chosen]
        await self._ok(tag)

    async def do_uid_expunge(self, tag: bytes, args: bytes) -> None:
        await self._ok(tag)

    async def do_noop(self, tag: bytes, args: bytes) -> None:
        self.server.noops += 1
        await self._ok(tag)

    async def do_idle(self, tag: bytes, args: bytes) -> None:
        self.idle_tag = tag
        await self.peer.send(b"+ idling")
        self._exists()

    async def do_logout(self, tag: bytes, args: bytes) -> bool:
        await self.peer.send(b"* BYE bye", tag + b" OK bye")
        return True


def _part(data: bytes, item: bytes) -> bytes:
    if not item:
        return data
    header, _, _ = data.partition(b"\r\n\r\n")
    if item.startswith(b"HEADER.FIELDS"):
        wanted = item[item.index(b"(") + 1 : item.index(b")")].lower().split()
        lines = [line for line in header.split(b"\r\n") if line.partition(b":")[0].lower() in wanted]
        return b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return header + b"\r\n\r\n"


@asynccontextmanager
async def mini(tls: ssl.SSLContext | None = None, **switches: Any) -> Any:
    """A running MiniImap with INBOX, Junk (flagged) and Archive."""
    state = MiniImap(**switches)
    if not state.folders:
        for folder in (MiniFolder("INBOX"), MiniFolder("Junk", "\\Junk"), MiniFolder("Archive")):
            state.folders[folder.name] = folder
    faults: list[BaseException] = []
    tasks: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(_own_task())
        session = MiniSession(state, Peer(reader, writer))
        state.sessions.append(session)
        state.connections += 1
        state.open_now += 1
        state.most_open = max(state.most_open, state.open_now)
        try:
            await session.serve()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass
        except BaseException as error:
            faults.append(error)
        finally:
            state.open_now -= 1
            state.sessions.remove(session)
            await _finish(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        await _gone(tasks)
    if faults:
        raise faults[0]
