"""aioimaplib's client protocol, hardened: the only place that touches the library.

What is inherited: tags, the table of commands and states, command rendering with its refusal of CR, LF and
NUL. What is replaced, because measuring showed it broken (each has a regression test in
tests/contract/test_mailbox_adapter.py):

- responses are assembled by an iterative, literal-aware loop (wire.Assembler) instead of recursion a line, so
  message text never reads as protocol and long answers neither overflow the stack nor lose "* " inside data;
- a lost connection, a BYE or a broken response wakes whoever waits, IDLE too, with the reason;
- every command has a deadline; after a time-out or a cancel the transport is aborted, since the session is
out of step;
- continuations answer what the command still has to say: literals, SASL challenges, an XOAUTH2 error;
- EXAMINE changes the state; a BYE or PREAUTH greeting is understood;
- nothing that is sent or received is ever logged.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from aioimaplib.aioimaplib import (
    AUTH,
    CONTROL_CHARS,
    LOGOUT,
    NONAUTH,
    SELECTED,
    STARTED,
    Command,
    Commands,
    IMAP4ClientProtocol,
)

from probes.errors import MailboxUnavailable
from probes.mailbox.commands import Answer, CommandRefused, Pending, capability_set, refusal_reason
from probes.mailbox.parse import Code, printable, response_code
from probes.mailbox.wire import Assembler, ServerResponse
from probes.waiter import Waiter

if TYPE_CHECKING:
    from probes.mailbox.tls import Wire

RESPONSES_CAP: Final = 32 * 1024 * 1024
"""Bytes of untagged data kept for one command."""
CAPABILITIES_CAP: Final = 16_384
_COUNT: Final = re.compile(rb"\* (\d{1,10}) (EXISTS|EXPUNGE)\Z", re.IGNORECASE)
_STATES_AFTER: Final = {"LOGIN": AUTH, "AUTHENTICATE": AUTH, "SELECT": SELECTED, "EXAMINE": SELECTED}


class HardenedProtocol(IMAP4ClientProtocol):  # type: ignore[misc]
    """One IMAP connection, one command at a time.

    on_news is called when a message may have come or gone, or the connection was lost. All waiting ends with
    MailboxUnavailable, whose fact `reason` is a closed word.
    """

    transport: Wire | None

    def __init__(self, loop: asyncio.AbstractEventLoop, on_news: Callable[[], None]) -> None:
        # Not super().__init__: its queue, events and sets cost 4 KiB a session and nothing here uses them
        self.loop = loop
        self.transport = None
        self.state = STARTED
        self.tagnum = 0
        self.tagpre = "M"
        self.on_news = on_news
        self.greeting: asyncio.Future[Code] = loop.create_future()
        self.preauth = False
        self.exists = 0
        self.news = False
        self.fault: MailboxUnavailable | None = None
        self.capabilities: frozenset[str] = frozenset()
        self.alert = ""
        self.assembler = Assembler()
        self.sealed = False  # STARTTLS is agreed: not one more byte may come in plaintext
        self._pending: Pending | None = None
        self._ended: list[tuple[Pending, Answer]] = []  # told once all that came along was read
        self._bye = ""

    # what comes in

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.fault is not None:
            return
        try:
            for response in self.assembler.feed(data):
                self._take(response)
            if self.sealed and not self.assembler.empty:
                raise MailboxUnavailable("data injected behind STARTTLS", reason="tls-failed")
        except MailboxUnavailable as error:
            self.fail(error)
        ended, self._ended = self._ended, []
        for pending, answer in ended:
            pending.done.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        why = f"the server closed it: {self._bye}" if self._bye else str(exc or "closed by the server")
        self.fail(MailboxUnavailable(f"connection lost: {why}", reason="connection-lost"))

    def fail(self, error: MailboxUnavailable) -> None:
        """Ends the session: whoever waits gets `error`, later commands too."""
        if self.fault is None:
            self.fault = error
        if self.transport is not None:
            self.transport.abort()
        pending, self._pending = self._pending, None
        if pending is not None and pending.renew is not None:
            pending.renew.cancel()
        self.news = True
        self.on_news()
        if not self.greeting.done():
            self.greeting.set_exception(self.fault)
            self.greeting.exception()  # marked as seen: nobody may be waiting for this one
        for waiter in (pending.done, pending.accepted) if pending else ():
            if waiter is not None and not waiter.done():
                waiter.set_exception(self.fault)

    def _take(self, response: ServerResponse) -> None:
        line = response.line
        if self.sealed:
            raise MailboxUnavailable("data injected behind STARTTLS", reason="tls-failed")
        if line.startswith(b"* "):
            self._untagged(response)
        elif line.startswith(b"+"):
            self._continue(line[1:].strip())
        else:
            self._tagged(line)

    def _untagged(self, response: ServerResponse) -> None:
        line = response.line
        word, _, text = line[2:].partition(b" ")
        kind = word[:10].upper()
        if not self.greeting.done():
            self._greet(kind, text)
        elif kind == b"BYE":
            self._bye = response_code(text).text
            if self._pending is None or self._pending.command.name != "LOGOUT":
                reason = refusal_reason(response_code(text).name)
                reason = "connection-lost" if reason == "refused" else reason
                self.fail(MailboxUnavailable(f"the server said goodbye: {self._bye}", reason=reason))
        elif kind == b"CAPABILITY":
            self._capable(text)
        else:
            if kind in (b"OK", b"NO") and text[:7].upper() == b"[ALERT]":
                self.alert = printable(text[7:])
            self._count(line)
            self._keep(response)

    def _greet(self, kind: bytes, text: bytes) -> None:
        code = response_code(text)
        self._learn(code)
        if kind in (b"OK", b"PREAUTH"):
            self.preauth = kind == b"PREAUTH"
            self.state = AUTH if self.preauth else NONAUTH
            self.greeting.set_result(code)
        else:
            reason = "limited" if kind == b"BYE" and code.name == "LIMIT" else "unavailable"
            self.fail(
                MailboxUnavailable(f"the server greets with {printable(kind)} {code.text}", reason=reason)
            )

    def _count(self, line: bytes) -> None:
        found = _COUNT.match(line)
        if found is None:
            return
        if found.group(2).upper() == b"EXISTS":
            self.exists = int(found.group(1))
        else:
            self.exists = max(0, self.exists - 1)
        self.news = True
        if self._pending is None or self._pending.command.name == "IDLE":
            self.on_news()

    def _keep(self, response: ServerResponse) -> None:
        pending = self._pending
        if pending is None or pending.command.name == "IDLE":
            return
        pending.size += response.size + 64
        if pending.size > RESPONSES_CAP:
            raise MailboxUnavailable("an answer beyond all measure", reason="protocol-error")
        pending.responses.append(response)

    def _continue(self, text: bytes) -> None:
        pending = self._pending
        if pending is None or self.transport is None:
            raise MailboxUnavailable("a continuation nobody asked for", reason="protocol-error")
        if pending.accepted is not None:
            if pending.renew is not None:
                pending.renew.cancel()
                pending.renew = None
            if not pending.accepted.done():
                pending.accepted.set_result(None)
        elif pending.answers:
            pending.challenges.append(text)
            self.transport.write(pending.answers.pop(0))
        else:
            raise MailboxUnavailable("one continuation too many", reason="protocol-error")

    def _tagged(self, line: bytes) -> None:
        tag, _, rest = line.partition(b" ")
        status, _, text = rest.partition(b" ")
        pending = self._pending
        word = status.upper()
        if pending is None or tag != pending.command.tag.encode() or word not in (b"OK", b"NO", b"BAD"):
            raise MailboxUnavailable("a response that answers nothing", reason="protocol-error")
        code = response_code(text)
        if word == b"OK":
            self._learn(code)
            self.state = _STATES_AFTER.get(pending.command.name, self.state)
            self.sealed = pending.command.name == "STARTTLS"
        elif pending.command.name in ("SELECT", "EXAMINE") and self.state == SELECTED:
            self.state = AUTH  # RFC 3501 section 6.3.1: a failed SELECT leaves no folder selected
        self._pending = None
        if pending.renew is not None and word == b"OK" and not pending.done.done():
            self._again(pending)
            return
        if pending.accepted is not None and not pending.accepted.done():
            refused = CommandRefused("IDLE", word.decode(), code)
            pending.accepted.set_exception(refused)
        if not pending.done.done():
            self._ended.append((pending, Answer(word.decode(), code, tuple(pending.responses))))
        if pending.accepted is not None:
            self.on_news()

    def _learn(self, code: Code) -> None:
        if code.name == "CAPABILITY":
            self._capable(code.argument.encode("latin-1"))

    def _capable(self, text: bytes) -> None:
        self.capabilities = capability_set(text[:CAPABILITIES_CAP])

    # what goes out

    async def command(
        self,
        name: str,
        *args: str,
        timeout: float,
        uid: bool = False,
        answers: tuple[bytes, ...] = (),
    ) -> Answer:
        """Sends one command and waits for its tagged end, at most `timeout` seconds.

        args: as they go on the wire, already quoted. answers: lines (with CRLF) for the server's
        continuations. Raises CommandRefused on NO and BAD, MailboxUnavailable when the session is lost;
        then, and after a time-out or a cancel, the connection is aborted.
        """
        pending = self._begin(name, args, uid, list(answers))
        answer: Answer = await self._finish(pending, pending.done, timeout)
        if answer.status != "OK":
            raise CommandRefused(name, answer.status, answer.code)
        return answer

    async def challenged(
        self, name: str, *args: str, timeout: float, answers: tuple[bytes, ...]
    ) -> tuple[Answer, list[bytes]]:
        """As `command`, for AUTHENTICATE: gives back a NO instead of raising, with what the challenges
        said."""
        pending = self._begin(name, args, False, list(answers))
        return await self._finish(pending, pending.done, timeout), pending.challenges

    async def begin_idle(self, timeout: float) -> None:
        """Starts IDLE and waits until the server has accepted it (RFC 2177)."""
        pending = self._begin("IDLE", (), False, [], idle=True)
        assert pending.accepted is not None
        await self._finish(pending, pending.accepted, timeout)

    async def end_idle(self, timeout: float) -> None:
        """Ends IDLE; the tagged answer proves that the connection is alive."""
        pending = self._pending
        if self.fault is not None:
            raise self.fault
        if pending is None or self.transport is None:
            return  # the server has ended it by itself
        if pending.renew is not None and pending.accepted is not None:
            if pending.accepted.done():  # DONE is on its way already: let it end for good
                pending.renew.cancel()
                pending.renew = None
                await self._finish(pending, pending.done, timeout)
                return
            await self._finish(pending, pending.accepted, timeout)
        self.transport.write(b"DONE\r\n")
        await self._finish(pending, pending.done, timeout)

    def renew_idle(self, timeout: float, at_once: bool = False) -> None:
        """Ends IDLE and begins it anew without waiting: the proof of life of an idle session, kept this cheap
        because thousands of them do it all day. No answer within `timeout` seconds ends the session.

        at_once: the next IDLE goes in the same packet as DONE (RFC 3501 section 5.5 allows it), for
        servers known to take it: sending is most of the cost.
        """
        pending = self._pending
        if pending is None or pending.accepted is None or not pending.accepted.done():
            return
        if pending.renew is not None or self.transport is None:
            return
        why = f"IDLE: no answer in {timeout:g} s"
        pending.renew = self.loop.call_later(timeout, self.abort, why, "timeout")
        data = b"DONE\r\n"
        if at_once:
            data += self._following(pending)
        self.transport.write(data)

    def _following(self, pending: Pending) -> bytes:
        pending.following = self.new_tag()
        pending.accepted = Waiter(self.loop)
        return f"{pending.following} IDLE\r\n".encode("ascii")

    def _again(self, pending: Pending) -> None:
        """IDLE has ended as renew_idle asked: the next begins, and its continuation ends the deadline."""
        data = b"" if pending.following else self._following(pending)
        pending.command.tag, pending.following = pending.following, ""
        self._pending = pending
        if data and self.transport is not None:
            self.transport.write(data)

    @property
    def idling(self) -> bool:
        """True between begin_idle and the end of IDLE, whoever ended it."""
        return self._pending is not None and self._pending.command.name == "IDLE"

    def abort(self, why: str, reason: str) -> None:
        """Closes at once."""
        self.fail(MailboxUnavailable(why, reason=reason))

    def _begin(
        self, name: str, args: tuple[str, ...], uid: bool, answers: list[bytes], idle: bool = False
    ) -> Pending:
        if self.fault is not None:
            raise self.fault
        if self._pending is not None:
            raise MailboxUnavailable(f"{name} while another command runs", reason="protocol-error")
        if self.transport is None or self.state not in Commands[name].valid_states:
            raise MailboxUnavailable(f"{name} is not allowed now", reason="protocol-error")
        command = _Spoken(name, self.new_tag(), args, "UID" if uid else None)
        pending = Pending(command, Waiter(self.loop), answers)
        if idle:
            pending.accepted = Waiter(self.loop)
        self._pending = pending
        self.transport.write(f"{wire_form(command)}\r\n".encode("latin-1"))
        return pending

    async def _finish(self, pending: Pending, waiter: Waiter[Any], timeout: float) -> Any:
        timer = self.loop.call_later(timeout, waiter.expire)
        try:
            return await waiter
        except TimeoutError:
            self.abort(f"{pending.command.name}: no answer in {timeout:g} s", "timeout")
            assert self.fault is not None
            raise self.fault from None
        except asyncio.CancelledError:
            self.abort(f"{pending.command.name} was cancelled", "stopped")
            raise
        finally:
            timer.cancel()

    def closed(self) -> bool:
        """True once the session is over."""
        return self.fault is not None or self.state in (LOGOUT, STARTED)


class _Spoken(Command):  # type: ignore[misc]
    """The library's command without its event, timer and buffers: nothing here uses them, and they cost more
    than all else that is done for a NOOP."""

    def __init__(self, name: str, tag: str, args: tuple[str, ...], prefix: str | None) -> None:
        if any(map(CONTROL_CHARS.search, args)):
            raise ValueError(f"NUL, CR and LF are not allowed in {name} command arguments")
        self.name, self.tag, self.args, self.prefix = name, tag, args, prefix


def wire_form(command: Any) -> str:
    """The command as it is sent (the library's rendering leaves two spaces after an empty prefix)."""
    words = [command.tag, (command.prefix or "").strip(), command.name, *command.args]
    return " ".join(word for word in words if word)
