"""One SMTP connection, stage by stage, each with its deadline and its timing (aiosmtplib's protocol
underneath).

A session is used once. After any error it is aborted, never used again: after a cancelled command the
dialogue is out of step though the connection looks alive.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import cast

from aiosmtplib.errors import SMTPException, SMTPResponseException, SMTPServerDisconnected
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from probes.canary.exchange import Target
from probes.canary.replies import Reply, read_reply
from probes.canary.submission import Reason, Record, TlsInfo
from probes.canary.ways import Timeouts
from probes.clock import Clock
from probes.mailbox.tls import TlsPipe
from probes.waiter import Waiter

_STRAY_MAXIMUM = 1_024
_REPLY = re.compile(rb"(?:[2-5][0-9]{2}-[^\n]{0,500}+\n){0,60}+[2-5][0-9]{2} [^\n]{0,500}+\n")
_LEADING_DOT = re.compile(rb"(?m)^\.")


@lru_cache(maxsize=256)
def _whole_reply(data: bytes) -> SMTPResponse | None:
    """A reply that came in one piece, as nearly all do; servers say the same, canary after canary. None where
    it is no such thing, and is to be put together."""
    if not _REPLY.fullmatch(data):
        return None
    texts = [line[4:].strip(b" \t\r") for line in data[:-1].split(b"\n")]
    return SMTPResponse(int(data[:3]), b"\n".join(texts).lstrip(b"\n").decode("utf-8", "surrogateescape"))


@lru_cache(maxsize=64)
def _offered(message: str) -> tuple[Mapping[str, str], frozenset[str]]:
    """What EHLO tells: extensions with their parameters, and ways to log in."""
    extensions, methods = parse_esmtp_extensions(message)
    return extensions, frozenset(methods)


class Broken(Exception):
    """The session cannot go on; no reply of the server says why."""

    def __init__(self, stage: str, reason: Reason, detail: str) -> None:
        super().__init__(f"{stage}: {reason}: {detail}")
        self.stage = stage
        self.reason = reason
        self.detail = detail


class Refused(Exception):
    """The server said no: 4yz, 5yz, or 421 whatever was asked."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Wire(SMTPProtocol):
    """aiosmtplib's protocol, which also keeps what the server says out of turn: a 421 before it hangs up, or
    an attack."""

    _response_waiter: Waiter[SMTPResponse] | None  # type: ignore[assignment]

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._strays = bytearray()
        self._leaving: asyncio.TimerHandle | None = None
        self._parted = False  # the goodbye went out along with the message
        self._left = False  # and was answered along with it

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """From now on the greeting is waited for."""
        self.transport = transport
        self._response_waiter = Waiter(self._loop)
        self._response_pending = True

    def data_received(self, data: bytes) -> None:
        """Bytes that answer nothing are kept apart, capped."""
        waiter = self._response_waiter
        if self._leaving is not None:
            self.hang_up()
        elif not self._response_pending or waiter is None or waiter.done():
            self._strays += data[: _STRAY_MAXIMUM - len(self._strays)]
        elif self._buffer:
            super().data_received(data)
        else:
            if self._parted and data[3:4] == b" " and 0 < (end := data.find(b"\n") + 1) < len(data):
                self._left, data = True, data[:end]
            if (reply := _whole_reply(data)) is not None:
                waiter.set_result(reply)
            else:
                super().data_received(data)

    async def ask(self, line: bytes, limit: float) -> SMTPResponse:
        """Writes (nothing where the server speaks first), and waits for one reply until `limit`, in the
        loop's time. Raises TimeoutError."""
        waiter = self._response_waiter
        if waiter is None:
            raise SMTPServerDisconnected("Connection lost")
        self._response_pending = True
        if line:
            self.write(line)
        timer = self._loop.call_at(limit, waiter.expire)
        try:
            return await waiter
        finally:
            timer.cancel()
            self._response_pending = False
            self._response_waiter = None if self.transport is None else Waiter(self._loop)

    def parts(self) -> None:
        """The goodbye goes out along with what is written next."""
        self._parted = True

    def leave(self, seconds: float) -> None:
        """Says goodbye and closes at the answer to it, or after `seconds`; nobody has to wait for that."""
        if self._left:
            self.hang_up()
            return
        if not self._parted:
            self.write(b"QUIT\r\n")
        self._leaving = self._loop.call_later(seconds, self.hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end; there is nothing left to hang up."""
        if self._leaving is not None:
            self._leaving.cancel()
        self.transport = None
        if self._response_waiter is not None and not self._response_waiter.done():
            lost = SMTPServerDisconnected("Connection lost")
            lost.__cause__ = exc
            self._response_waiter.set_exception(lost)

    def hang_up(self) -> None:
        """Closes at once. Harmless when repeated."""
        if self.transport is not None:
            cast(asyncio.WriteTransport, self.transport).abort()

    @property
    def spoke(self) -> bool:
        """Whether anything came out of turn."""
        return bool(self._strays or self._buffer)

    def out_of_turn(self) -> bytes:
        """What came beyond the replies asked for."""
        return bytes(self._buffer[:_STRAY_MAXIMUM]) + bytes(self._strays)

    def adopt(self, transport: asyncio.BaseTransport) -> None:
        """Goes on over the encrypted transport."""
        self.transport = transport


def _reason_of(error: BaseException, stage: str) -> Reason:
    """The closed word for an error of the network or of TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Reason.TLS_CERTIFICATE
    if isinstance(error, ssl.SSLError):
        return Reason.TLS_FAILED
    if isinstance(error, TimeoutError):
        return Reason.TIMEOUT
    if isinstance(error, SMTPServerDisconnected):
        return Reason.DROPPED
    if isinstance(error, SMTPResponseException | SMTPException):
        return Reason.PROTOCOL
    return {"connect": Reason.CONNECT, "tls": Reason.TLS_FAILED}.get(stage, Reason.DROPPED)


def _detail_of(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


class Session:
    """One connection to one address. Methods raise Broken and Refused, nothing else but a cancellation."""

    def __init__(
        self, clock: Clock, timeouts: Timeouts, deadline: float, record: Record, provider: str
    ) -> None:
        """deadline: in the event loop's time, for everything together."""
        self.record = record
        self.extensions: Mapping[str, str] = {}
        self.auth_methods: frozenset[str] = frozenset()
        self.encrypted = False
        self._clock = clock
        self.timeouts = timeouts
        self._deadline = deadline
        self._provider = provider
        self._wire: Wire | None = None
        self._loop = asyncio.get_running_loop()

    @asynccontextmanager
    async def stage(self, name: str, limit: float) -> AsyncIterator[None]:
        """Times what is inside, under the stage's own and the overall deadline; errors come out as Broken."""
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout_at(self._until(limit)):
                yield
        except (OSError, SMTPException, ssl.CertificateError) as error:
            raise self._broken(name, error) from error
        finally:
            self._timed(name, begun)

    async def _answer(self, stage: str, limit: float, line: bytes) -> SMTPResponse:
        """Writes and reads one reply, timed and limited as in `stage`; this is the path that every canary
        pays for."""
        monotonic, stages = self._clock.monotonic, self.record.stages
        begun = monotonic()
        try:
            return await self._live.ask(line, min(self._loop.time() + limit, self._deadline))
        except (OSError, SMTPException) as error:
            raise self._broken(stage, error) from error
        finally:
            stages[stage] = stages.get(stage, 0.0) + monotonic() - begun

    async def _shaken(self, pipe: TlsPipe) -> None:
        """The TLS handshake, timed and limited as in `stage`."""
        begun, ready = self._clock.monotonic(), pipe.ready
        try:
            if ready is not None:
                timer = self._loop.call_at(self._until(self.timeouts.tls), ready.expire)
                try:
                    await ready
                finally:
                    timer.cancel()
        except (OSError, ssl.CertificateError) as error:
            raise self._broken("tls", error) from error
        finally:
            self._timed("tls", begun)

    def _until(self, limit: float) -> float:
        """When the time for a step is over, in the loop's time."""
        return min(self._loop.time() + limit, self._deadline)

    def _timed(self, stage: str, begun: float) -> None:
        stages = self.record.stages
        stages[stage] = stages.get(stage, 0.0) + self._clock.monotonic() - begun

    def _broken(self, stage: str, error: BaseException) -> Broken:
        return Broken(stage, _reason_of(error, stage), self.record.clean(_detail_of(error)))

    async def connect(self, target: Target, port: int, source_ip: str, tls: ssl.SSLContext | None) -> Reply:
        """Connects, over TLS from the first byte where a context is given, and reads the greeting."""
        wire = self._wire = Wire(self._loop)
        if tls is None:
            await self._dial(lambda: wire, target.ip, port, source_ip)
        else:
            pipe = TlsPipe(wire, tls, target.host, self._loop)
            wire.connection_made(cast(asyncio.BaseTransport, pipe))
            await self._dial(lambda: pipe, target.ip, port, source_ip)
            await self._shaken(pipe)
            self._encrypted(tls)
        reply = self._reply("greeting", await self._answer("greeting", self.timeouts.greeting, b""))
        self.record.greeted = True
        return reply

    async def _dial(
        self, factory: Callable[[], asyncio.BaseProtocol], ip: str, port: int, source_ip: str
    ) -> None:
        """The TCP connection, from the source address where one is given."""
        local = (source_ip, 0) if source_ip else None
        begun = self._clock.monotonic()
        try:
            async with asyncio.timeout_at(self._until(self.timeouts.connect)):
                transport, _ = await self._loop.create_connection(factory, ip, port, local_addr=local)
        except OSError as error:
            raise self._broken("connect", error) from error
        finally:
            self._timed("connect", begun)
        self.record.peer_ip = ip
        self.record.source_ip = str(transport.get_extra_info("sockname")[0])

    @property
    def _live(self) -> Wire:
        if self._wire is None:
            raise SMTPServerDisconnected("not connected")
        return self._wire

    def _encrypted(self, context: ssl.SSLContext) -> None:
        transport = self._live.transport
        inner = transport.get_extra_info("ssl_object") if transport is not None else None
        cipher = inner.cipher() if inner is not None else None
        verified = context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
        version = (inner.version() if inner is not None else None) or ""
        self.encrypted = True
        self.record.tls = TlsInfo(version, cipher[0] if cipher else "", verified)
        self.record.note("*", f"{version} {cipher[0] if cipher else ''} verified={verified}")

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """STARTTLS (RFC 3207); what was learnt before is forgotten. Plaintext behind its 220 is an attack:
        Broken."""
        reply = await self.command("tls", b"STARTTLS")
        if reply.code != 220:
            raise Refused(reply)
        if self._live.out_of_turn():
            raise Broken("tls", Reason.TLS_INJECTED, "plaintext after the reply to STARTTLS")
        plain = cast(asyncio.Transport, self._live.transport)
        if plain is None or plain.is_closing():
            raise Broken("tls", Reason.DROPPED, "connection lost before the TLS handshake")
        pipe = TlsPipe(self._live, context, host, self._loop)
        self._live.adopt(cast(asyncio.BaseTransport, pipe))
        plain.set_protocol(pipe)
        pipe.connection_made(plain)
        await self._shaken(pipe)
        self.extensions, self.auth_methods = {}, frozenset()
        self._encrypted(context)

    async def command(self, stage: str, line: bytes, *, shown: str | None = None) -> Reply:
        """One command and its reply. shown: what the transcript says instead of a line with a secret.

        Raises Refused on 421, Broken where there is no proper reply. Other 4yz and 5yz are returned.
        """
        return self._reply(stage, await self._exchange(stage, line, shown))

    async def _exchange(self, stage: str, line: bytes, shown: str | None = None) -> SMTPResponse:
        if b"\r" in line or b"\n" in line:
            raise ValueError("a line break in an SMTP command")
        if self._live.spoke:
            self._check_turn(stage)
        self.record.note("C", line.decode("ascii", "replace") if shown is None else shown)
        try:
            return await self._answer(stage, self.timeouts.command, line + b"\r\n")
        except Broken as error:
            if error.reason is Reason.DROPPED:
                self._check_turn(stage)
            raise

    def _check_turn(self, stage: str) -> None:
        """A server that spoke unasked: its 421 counts as the reply, all else puts the dialogue out of
        step."""
        unasked = self._live.out_of_turn()
        if not unasked:
            return
        text = unasked.decode("utf-8", "replace").strip()
        self.record.note("S", text)
        if text.startswith("421"):
            raise Refused(read_reply(self._provider, stage, 421, self.record.clean(text[4:])))
        raise Broken(stage, Reason.PROTOCOL, "the server spoke out of turn")

    def _reply(self, stage: str, response: SMTPResponse) -> Reply:
        self.record.note("S", f"{response.code} {response.message}")
        if not 200 <= response.code < 600:
            raise Broken(stage, Reason.PROTOCOL, f"reply code {response.code}")
        reply = read_reply(self._provider, stage, response.code, self.record.redact(response.message))
        if reply.code == 421:
            raise Refused(reply)
        return reply

    async def ehlo(self, name: str) -> None:
        """EHLO, or HELO where the server knows no EHLO. Raises Refused."""
        name = name or _literal(self.record.source_ip)
        response = await self._exchange("ehlo", b"EHLO " + name.encode("ascii"))
        reply = self._reply("ehlo", response)
        if reply.code // 100 == 2:
            self.extensions, self.auth_methods = _offered(response.message)
            return
        if reply.code in (500, 501, 502, 504) and not self.encrypted:
            reply = await self.command("ehlo", b"HELO " + name.encode("ascii"))
        if reply.code // 100 != 2:
            raise Refused(reply)

    def ready_for_dot(self) -> None:
        """Raises Broken or Refused while it is still certain that no part of the message was sent."""
        self._check_turn("data")
        transport = self._live.transport
        if transport is None or transport.is_closing():
            raise Broken("data", Reason.DROPPED, "connection lost before the message was sent")

    async def send(self, message: bytes) -> Reply:
        """The message with its final dot, and the reply to it. Any error from here on leaves it unconfirmed.

        message: CRLF line ends, ending in CRLF; dots are stuffed here (RFC 5321 section 4.5.2).
        """
        payload = _LEADING_DOT.sub(b"..", message) if b"\n." in message or message[:1] == b"." else message
        self.record.note("C", f"[{len(message)} octets of message] .")
        end = b".\r\n"
        if "pipelining" in self.extensions:  # RFC 2920: QUIT may come along, and changes no timing
            end += b"QUIT\r\n"
            self._live.parts()
        response = await self._answer("data", self.timeouts.dot, payload + end)
        self.record.note("S", f"{response.code} {response.message}")
        return read_reply(self._provider, "data", response.code, self.record.redact(response.message))

    def quit(self) -> None:
        """Says goodbye (RFC 5321 section 4.1.1.10) and is done: nothing that the server may still say changes
        what became of the message, so only the wire waits for it, and briefly."""
        if self._wire is not None and self._wire.transport is not None:
            with suppress(SMTPException):
                self._wire.leave(self.timeouts.quit)
        self._wire = None

    def abort(self) -> None:
        """Drops the connection at once. Harmless when repeated, and after `quit`."""
        if self._wire is not None:
            self._wire.hang_up()


def _literal(ip: str) -> str:
    """An address as an EHLO name (RFC 5321 section 4.1.3)."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"
