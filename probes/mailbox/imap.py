"""One IMAP session in the words of the reader: open, list, examine, search, fetch, wait. Passive by
construction: EXAMINE and BODY.PEEK only, except in `delete`, which touches what it is told and nothing else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, cast

from probes.errors import DataError, MailboxUnavailable
from probes.mailbox import parse
from probes.mailbox.access import MailboxAccess, Security
from probes.mailbox.commands import Answer, CommandRefused
from probes.mailbox.protocol import HardenedProtocol
from probes.mailbox.sasl import log_in, needs_literal, quoted
from probes.mailbox.tls import TlsPipe

T = TypeVar("T")

HEADER_CAP: Final = 64 * 1024
"""Bytes of a message's header that are read."""


class Dialer(Protocol):
    """Opens a TCP connection for an asyncio protocol: loop.create_connection, or a test's own."""

    async def __call__(
        self, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Raises OSError where nobody answers."""


async def dial(
    factory: Callable[[], asyncio.BaseProtocol], host: str, port: int
) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
    """The default Dialer: system names, both address families (RFC 8305)."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.BaseEventLoop):  # uvloop tries one family after the other
        return await loop.create_connection(factory, host, port)
    return await loop.create_connection(factory, host, port, happy_eyeballs_delay=0.25)


@dataclass(frozen=True, slots=True)
class FolderState:
    """What EXAMINE says. uidnext: None where the server does not tell."""

    uidvalidity: int
    uidnext: int | None
    exists: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """One message of a FETCH: its header, or the whole of it up to a cap, in `data`."""

    uid: int
    internaldate: float | None
    size: int
    data: bytes


class ImapSession:
    """An open, authenticated session. Not for two tasks at once. Every method raises MailboxUnavailable
    (and its subclasses, with the fact `reason`); after any of those but CommandRefused the session is
    over."""

    def __init__(self, access: MailboxAccess, on_news: Callable[[], None], dialer: Dialer = dial) -> None:
        self.access = access
        self._dial = dialer
        self._protocol = HardenedProtocol(asyncio.get_running_loop(), on_news)
        self._timeout = access.timeout
        self.selected: str | None = None

    # opening

    async def open(self) -> None:
        """Connects, secures the connection, logs in and learns what the server can do."""
        try:
            async with asyncio.timeout(self.access.connect_timeout):
                await self._connect()
        except TimeoutError:
            self.abort("no greeting in time", "timeout")
            raise MailboxUnavailable(
                f"no greeting in {self.access.connect_timeout:g} s", reason="timeout"
            ) from None
        except BaseException:
            self.abort("the connection was not made", "stopped")
            raise
        try:
            if not self._protocol.preauth:
                await self._log_in()
        except BaseException:
            self.abort("not logged in", "stopped")
            raise

    async def _connect(self) -> None:
        access = self.access
        try:
            if access.security is Security.TLS:
                await self._dial(self._pipe, access.host, access.port)
                await self._secured()
            else:
                await self._dial(lambda: self._protocol, access.host, access.port)
                if access.security is Security.NONE:
                    self._only_loopback()
            await asyncio.shield(self._protocol.greeting)
            if access.security is Security.STARTTLS:
                await self._start_tls()
        except ssl.SSLError as error:
            raise MailboxUnavailable(f"TLS: {tls_reason(error)}", reason="tls-failed") from None
        except OSError as error:
            why = error.strerror or error
            raise MailboxUnavailable(f"cannot connect: {why}", reason="connect-failed") from None

    def _pipe(self) -> TlsPipe:
        if self.access.tls is None:
            raise MailboxUnavailable("no TLS context was given", reason="tls-failed")
        pipe = TlsPipe(self._protocol, self.access.tls, self.access.host, asyncio.get_running_loop())
        self._protocol.connection_made(pipe)
        return pipe

    async def _secured(self) -> None:
        pipe = self._protocol.transport
        assert isinstance(pipe, TlsPipe)
        if pipe.ready is not None:
            await pipe.ready

    def _only_loopback(self) -> None:
        peer = self._protocol.transport.get_extra_info("peername") if self._protocol.transport else None
        if not peer or not ipaddress.ip_address(str(peer[0]).partition("%")[0]).is_loopback:
            raise MailboxUnavailable("plaintext is for loopback alone", reason="tls-failed")

    async def _start_tls(self) -> None:
        """RFC 3501 section 6.2.1. A session that is authenticated already, or bytes behind the OK, are an
        attack (RFC 9051 section 11.2): what came before TLS counts for nothing."""
        protocol = self._protocol
        if protocol.preauth:
            raise MailboxUnavailable("PREAUTH before TLS", reason="tls-failed")
        try:
            await protocol.command("STARTTLS", timeout=self._timeout)
        except CommandRefused as error:
            raise MailboxUnavailable(f"STARTTLS refused: {error.detail}", reason="tls-failed") from None
        if protocol.fault is not None:
            raise protocol.fault
        plain = cast(asyncio.Transport, protocol.transport)
        plain.pause_reading()
        protocol.capabilities = frozenset()
        protocol.sealed = False
        pipe = self._pipe()
        plain.set_protocol(pipe)
        pipe.connection_made(plain)
        plain.resume_reading()
        await self._secured()

    async def _log_in(self) -> None:
        protocol = self._protocol
        if not protocol.capabilities:
            await protocol.command("CAPABILITY", timeout=self._timeout)
        await log_in(protocol, self.access)
        # A server may tell other capabilities now (iCloud does): ask, whatever it said before
        await protocol.command("CAPABILITY", timeout=self._timeout)

    # facts

    def can(self, capability: str) -> bool:
        """Whether the server announced it after the login."""
        return capability.upper() in self._protocol.capabilities

    @property
    def exists(self) -> int:
        """Messages in the selected folder, as last told."""
        return self._protocol.exists

    @property
    def fault(self) -> MailboxUnavailable | None:
        """Why the session is over, None while it lives."""
        return self._protocol.fault

    @property
    def idling(self) -> bool:
        """Whether IDLE runs."""
        return self._protocol.idling

    @property
    def news(self) -> bool:
        """Whether messages came or went since take_news."""
        return self._protocol.news

    def take_news(self) -> bool:
        """Whether messages came or went since the last call."""
        news, self._protocol.news = self._protocol.news, False
        return news

    # commands

    async def list_folders(self) -> list[parse.ListEntry]:
        """All folders with their flags; SPECIAL-USE is asked for where it is announced, flags are read
        anyway."""
        try:
            if self.can("SPECIAL-USE") and self.can("LIST-EXTENDED"):
                answer = await self._run("LIST", '""', '"*"', "RETURN", "(SPECIAL-USE)")
            else:
                answer = await self._run("LIST", '""', '"*"')
        except CommandRefused:
            answer = await self._run("LIST", '""', '"*"')
        entries = (self._read(parse.list_entry, response.parts) for response in answer.responses)
        return [entry for entry in entries if entry is not None]

    async def examine(self, name: str) -> FolderState:
        """Opens a folder read-only and says where it stands."""
        return await self._open_folder("EXAMINE", name)

    async def _open_folder(self, verb: str, name: str) -> FolderState:
        self.selected = None
        answer = await self._run_named(verb, name)
        self.selected = name
        codes = {
            code.name: parse.number(code.argument)
            for response in answer.responses
            if response.line[:5].upper() == b"* OK "
            for code in [parse.response_code(response.line[5:])]
        }
        uidvalidity = codes.get("UIDVALIDITY")
        if uidvalidity is None:
            raise MailboxUnavailable(f"{verb} tells no UIDVALIDITY", reason="protocol-error")
        self.take_news()
        return FolderState(uidvalidity, codes.get("UIDNEXT"), self._protocol.exists)

    async def status(self, name: str) -> tuple[int | None, int | None]:
        """(UIDVALIDITY, UIDNEXT) of a folder that is not the selected one."""
        answer = await self._run_named("STATUS", name, "(UIDNEXT UIDVALIDITY)")
        for response in answer.responses:
            items = self._read(parse.status_items, response.parts)
            if items is not None:
                return items.get("UIDVALIDITY"), items.get("UIDNEXT")
        return None, None

    async def search(self, *criteria: str) -> list[int]:
        """UIDs in the selected folder that match. No charset is named: all criteria are ASCII."""
        answer = await self._run("SEARCH", *criteria, uid=True)
        return sorted(set(parse.numbers(response.line for response in answer.responses)))

    async def fetch(self, uids: str, item: str, cap: int) -> list[Fetched]:
        """Messages by UID set. item: HEADER, HEADER.FIELDS (...), or "" for all; at most `cap` bytes of
        it."""
        wanted = f"(UID INTERNALDATE RFC822.SIZE BODY.PEEK[{item}]<0.{cap}>)"
        answer = await self._run("FETCH", uids, wanted, uid=True)
        found: dict[int, Fetched] = {}
        for response in answer.responses:
            items = self._read(parse.fetch_items, response.parts)
            message = _message(items, cap) if items else None
            if message is not None:
                found[message.uid] = message
        return [found[uid] for uid in sorted(found)]

    async def noop(self) -> None:
        """Asks for news; the answer proves that the connection is alive."""
        await self._run("NOOP")

    async def idle(self) -> None:
        """Starts IDLE in the selected folder."""
        await self._protocol.begin_idle(self._timeout)

    def renew_idle(self, timeout: float, at_once: bool) -> None:
        """Proves, without waiting, that the idle connection is alive; the session is over where it is not."""
        self._protocol.renew_idle(timeout, at_once)

    async def done(self) -> None:
        """Ends IDLE."""
        await self._protocol.end_idle(self._timeout)

    async def delete(self, name: str, uidvalidity: int, uids: Sequence[int], trash: str | None) -> bool:
        """Removes messages for good, or moves them to `trash` where a plain expunge would only archive
        (Gmail).

        Says False, and does nothing, where the folder's UIDVALIDITY is another. Without UIDPLUS (RFC 4315)
        messages are marked \\Deleted only, since a bare EXPUNGE would take other people's along.
        """
        state = await self._open_folder("SELECT", name)
        try:
            if state.uidvalidity != uidvalidity:
                return False
            chosen = uid_set(uids)
            if trash is not None and trash != name and self.can("MOVE"):
                await self._run("MOVE", chosen, self._name(trash), uid=True)
                return True
            await self._run("STORE", chosen, "+FLAGS.SILENT", "(\\Deleted)", uid=True)
            if self.can("UIDPLUS"):
                await self._run("EXPUNGE", chosen, uid=True)
            return True
        finally:
            self.selected = None

    async def logout(self) -> None:
        """Says goodbye, and closes whatever the answer."""
        try:
            if self.idling:
                await self._protocol.end_idle(2.0)
            await self._protocol.command("LOGOUT", timeout=2.0)
        except MailboxUnavailable:
            pass
        finally:
            self.abort("logged out", "stopped")

    def abort(self, why: str, reason: str) -> None:
        """Closes at once."""
        self._protocol.abort(why, reason)

    # helpers

    async def _run(self, name: str, *args: str, uid: bool = False) -> Answer:
        return await self._protocol.command(name, *args, timeout=self._timeout, uid=uid)

    async def _run_named(self, verb: str, name: str, *rest: str) -> Answer:
        """A command whose first argument is a folder name: a literal where it cannot be quoted."""
        if not needs_literal(name):
            return await self._run(verb, quoted(name), *rest)
        raw = name.encode("latin-1")
        last = b" ".join([raw, *(word.encode("ascii") for word in rest)]) + b"\r\n"
        return await self._protocol.command(verb, f"{{{len(raw)}}}", timeout=self._timeout, answers=(last,))

    def _name(self, name: str) -> str:
        if needs_literal(name):
            raise MailboxUnavailable("a folder name that cannot be quoted", reason="protocol-error")
        return quoted(name)

    def _read(self, reader: Callable[[Sequence[bytes]], T], parts: Sequence[bytes]) -> T:
        """A response that cannot be read ends the session: what it said is not known."""
        try:
            return reader(parts)
        except DataError as error:
            self.abort(f"unreadable response: {error.detail}", "protocol-error")
            raise MailboxUnavailable(
                f"unreadable response: {error.detail}", reason="protocol-error"
            ) from None


def _message(items: dict[str, parse.Value], cap: int) -> Fetched | None:
    uid = parse.number(items.get("UID"))
    body = next((value for key, value in items.items() if key.startswith("BODY[")), None)
    if uid is None or not isinstance(body, bytes | str):
        return None  # an unasked FETCH (FLAGS (...)) that tells of another client's doing
    data = body if isinstance(body, bytes) else body.encode("latin-1")
    return Fetched(
        uid=uid,
        internaldate=parse.internal_date(items.get("INTERNALDATE")),
        size=parse.number(items.get("RFC822.SIZE")) or 0,
        data=data[:cap],
    )


def uid_set(uids: Sequence[int]) -> str:
    """A UID set in the shortest form: 1:3,7."""
    ranges: list[list[int]] = []
    for uid in sorted(set(uids)):
        if ranges and ranges[-1][1] == uid - 1:
            ranges[-1][1] = uid
        else:
            ranges.append([uid, uid])
    return ",".join(str(low) if low == high else f"{low}:{high}" for low, high in ranges)


def tls_reason(error: ssl.SSLError) -> str:
    """Why TLS failed, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "the certificate is not valid"
    return (error.reason or "handshake failed").replace("_", " ").lower()
