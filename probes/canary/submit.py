"""Submits one canary over a new connection and says what became of it, three-valued and with every stage
timed."""

from __future__ import annotations

import asyncio
import random
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

from probes.canary.exchange import (
    LookupFailed,
    NoMail,
    Target,
    direct_targets,
    known_targets,
    relay_targets,
)
from probes.canary.login import login
from probes.canary.replies import Reply, queue_id
from probes.canary.session import Broken, Refused, Session
from probes.canary.submission import (
    Attempt,
    HeldBack,
    Progress,
    Reason,
    Record,
    Submission,
    SubmitResult,
)
from probes.canary.ways import Direct, Relay, Timeouts, Way, is_loopback
from probes.clock import Clock
from probes.dns import Resolver
from probes.errors import DataError, MailcanaryError

_BEFORE_MAIL = frozenset({"connect", "tls", "greeting", "ehlo"})
_TLS_FAILURES = frozenset({Reason.TLS_CERTIFICATE, Reason.TLS_FAILED, Reason.TLS_INJECTED})
_OWN_SIDE_STAGES = frozenset({"greeting", "ehlo", "tls", "auth"})
_OWN_SIDE_MEANINGS = frozenset({"auth_required", "auth_failed", "auth_temporary", "basic_auth_disabled"})
_ADDRESS = re.compile(r"[!-;=?-~]{1,64}@(?:[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:]{2,60}\])")
_XTEXT_UNSAFE = re.compile(r"[^!-*,-<>-~]")


@cache
def _unverified() -> ssl.SSLContext:
    """Encryption without identity, as mail servers use it between each other (RFC 7435). One for the
    process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def xtext(value: str) -> str:
    """RFC 3461 section 4: what ENVID and ORCPT carry."""
    return _XTEXT_UNSAFE.sub(lambda found: f"+{ord(found[0]):02X}", value)


def _check(mail_from: str, rcpt_to: str, message: bytes) -> None:
    for address in filter(None, (mail_from, rcpt_to)):
        if not _ADDRESS.fullmatch(address):
            raise DataError(f"{address!r} is not an address that can be sent to as it is")
    if not rcpt_to:
        raise DataError("no recipient")
    if not message.endswith(b"\r\n"):
        raise DataError("the message does not end in CRLF")


async def submit(
    way: Way,
    *,
    mail_from: str,
    rcpt_to: str,
    message: bytes,
    envid: str,
    resolver: Resolver,
    ssl_context: ssl.SSLContext,
    clock: Clock,
    timeouts: Timeouts | None = None,
    provider: str = "",
    progress: Progress | None = None,
    rng: random.Random | None = None,
    may: Callable[[], bool] = lambda: True,
) -> Submission:
    """Sends one message to one recipient. Every failure is a Submission.

    mail_from: the return path, "" for the null one; message: CRLF line ends; envid: told to servers with DSN
    (RFC 3461), "" for none; ssl_context: one for all calls, verifying, with its authorities loaded;
    provider: the preset whose reply table counts (direct mode); progress: shows a caller who cancels whether
    the message may be out; may: asked just before MAIL FROM and before the message itself. Raises HeldBack
    where it said no, DataError on addresses or a message that cannot be sent, and lets a cancellation through
    after closing the connection.
    """
    _check(mail_from, rcpt_to, message)
    job = _Job(way, clock, timeouts or Timeouts(), progress or Progress(), ssl_context, provider, may)
    return await job.run(mail_from, rcpt_to, message, envid, resolver, rng or random.Random())


async def greet(
    way: Relay,
    *,
    resolver: Resolver,
    ssl_context: ssl.SSLContext,
    clock: Clock,
    timeouts: Timeouts | None = None,
) -> Submission:
    """Goes as far as the login and leaves again: can this relay be used? ACCEPTED means yes."""
    job = _Job(way, clock, timeouts or Timeouts(), Progress(), ssl_context, "", lambda: True)
    return await job.greet(resolver)


class _Job:
    """One submission under way."""

    def __init__(
        self,
        way: Way,
        clock: Clock,
        timeouts: Timeouts,
        progress: Progress,
        ssl_context: ssl.SSLContext,
        provider: str,
        may: Callable[[], bool],
    ) -> None:
        self.way = way
        self.clock = clock
        self.timeouts = timeouts
        self.progress = progress
        self.ssl_context = ssl_context
        self.provider = provider if isinstance(way, Direct) else ""
        self.may = may
        self.record = Record()
        self.started = clock.wall()
        self.size = 0
        self.deadline = asyncio.get_running_loop().time() + timeouts.total
        self.session: Session | None = None

    async def run(
        self,
        mail_from: str,
        rcpt_to: str,
        message: bytes,
        envid: str,
        resolver: Resolver,
        rng: random.Random,
    ) -> Submission:
        try:
            message = self._signed(message)
            self.size = len(message)
            targets = await self._targets(rcpt_to, resolver, rng)
            session = await self._open(targets)
            self._ask()
            await self._envelope(session, mail_from, rcpt_to, message, envid)
            self._ask()
            done = await self._dot(session, message)
            if done.reply is not None:  # a dialogue out of step is not said goodbye to
                session.quit()
        except Refused as error:
            return self._end(*self._refusal(error.reply), error.reply)
        except NoMail as error:
            return self._end(SubmitResult.REJECTED, Reason.DNS, error.reply.text, error.reply)
        except Broken as error:
            return self._end(self._breakage(error), error.reason, error.detail, stage=error.stage)
        finally:
            if self.session is not None:
                self.session.abort()
        return done

    async def greet(self, resolver: Resolver) -> Submission:
        try:
            session = await self._open(await self._targets("", resolver, random.Random(0)))
            session.quit()
        except Refused as error:
            return self._end(*self._refusal(error.reply), error.reply)
        except Broken as error:
            return self._end(self._breakage(error), error.reason, error.detail, stage=error.stage)
        finally:
            if self.session is not None:
                self.session.abort()
        return self._end(SubmitResult.ACCEPTED, Reason.ACCEPTED, "the login was taken")

    def _ask(self) -> None:
        if not self.may():
            raise HeldBack("nothing was sent")

    def _signed(self, message: bytes) -> bytes:
        if isinstance(self.way, Direct):
            for signer in self.way.signers:
                try:
                    message = signer(message)
                except MailcanaryError as error:
                    raise Broken("dns", Reason.SIGNING, str(error)) from error
        return message

    def _new_session(self, host: str) -> Session:
        self.record.begin(host)
        self.session = Session(self.clock, self.timeouts, self.deadline, self.record, self.provider)
        return self.session

    async def _targets(self, rcpt_to: str, resolver: Resolver, rng: random.Random) -> Sequence[Target]:
        found = known_targets(self.way.host) if isinstance(self.way, Relay) else []
        if found:
            self.record.stages["dns"] = 0.0
        else:
            found = await self._looked_up(rcpt_to, resolver, rng)
        if isinstance(self.way, Relay) and self.way.security == "none":
            found = [target for target in found if is_loopback(target.ip)]
            if not found:
                raise Broken("dns", Reason.CLEARTEXT, "security: none is for a relay on loopback only")
        return found

    async def _looked_up(self, rcpt_to: str, resolver: Resolver, rng: random.Random) -> list[Target]:
        session = self._new_session("")
        limit = self.timeouts.dns
        try:
            async with session.stage("dns", limit):
                if isinstance(self.way, Relay):
                    return await relay_targets(self.way.host, resolver, limit)
                domain, source = rcpt_to.rpartition("@")[2], self.way.source_ip
                return await direct_targets(domain, resolver, limit, rng, source_ip=source)
        except LookupFailed as error:
            raise Broken("dns", Reason.DNS, str(error)) from error

    async def _open(self, targets: Sequence[Target]) -> Session:
        """The first target that lets us in up to AUTH; the failures before it are attempts."""
        for target in targets[:-1]:
            begun = self.clock.monotonic()
            try:
                return await self._enter(target)
            except Refused as error:
                if error.reply.stage not in _BEFORE_MAIL:
                    raise
                self._attempt(target, error.reply.stage, Reason.REPLIED, str(error.reply), begun)
            except Broken as error:
                if error.stage not in _BEFORE_MAIL:
                    raise
                self._attempt(target, error.stage, error.reason, error.detail, begun)
        return await self._enter(targets[-1])

    def _attempt(self, target: Target, stage: str, reason: Reason, detail: str, begun: float) -> None:
        seconds = self.clock.monotonic() - begun
        self.record.attempts.append(Attempt(target.host, target.ip, stage, reason, detail, seconds))
        self.record.note("*", f"{target.host} [{target.ip}] {stage}: {reason}: {detail}")
        if self.session is not None:
            self.session.abort()

    async def _enter(self, target: Target) -> Session:
        if isinstance(self.way, Relay):
            return await self._enter_relay(target, self.way)
        return await self._enter_direct(target, self.way)

    async def _enter_relay(self, target: Target, relay: Relay) -> Session:
        session = self._new_session(target.host)
        implicit = self.ssl_context if relay.security == "tls" else None
        _accept(await session.connect(target, relay.port, "", implicit))
        await session.ehlo(relay.helo)
        if relay.security == "starttls":
            await self._upgrade(session, target, self.ssl_context, relay.helo)
        await login(session, relay)
        return session

    async def _upgrade(self, session: Session, target: Target, context: ssl.SSLContext, helo: str) -> None:
        if "starttls" not in session.extensions:
            raise Broken("tls", Reason.TLS_MISSING, "the server does not offer STARTTLS")
        await session.start_tls(context, target.host)
        await session.ehlo(helo)

    async def _enter_direct(self, target: Target, way: Direct) -> Session:
        """As mail servers do: verified TLS, else unverified, else plaintext; each on a new connection, as
        policy allows."""
        failure = ""
        context: ssl.SSLContext | None = self.ssl_context
        while True:
            begun = self.clock.monotonic()
            try:
                session = await self._enter_mx(target, way, context)
            except Broken as error:
                lower = self._lower(error, way, context)
                if lower is context:
                    raise
                failure = error.detail
                self._attempt(target, error.stage, error.reason, error.detail, begun)
                context = lower
                continue
            if failure and self.record.tls is not None:
                self.record.tls = replace(self.record.tls, detail=failure)
            return session

    def _lower(self, error: Broken, way: Direct, context: ssl.SSLContext | None) -> ssl.SSLContext | None:
        """What to try after a failure of TLS; the same context where nothing less is allowed."""
        if error.stage != "tls" or error.reason is Reason.TLS_MISSING or way.tls == "verify":
            return context
        if error.reason is Reason.TLS_CERTIFICATE and context is self.ssl_context:
            return _unverified()
        return None if way.tls == "may" else context

    async def _enter_mx(self, target: Target, way: Direct, context: ssl.SSLContext | None) -> Session:
        session = self._new_session(target.host)
        _accept(await session.connect(target, way.port, way.source_ip, None))
        await session.ehlo(way.helo)
        if context is None or (way.tls == "may" and "starttls" not in session.extensions):
            return session
        try:
            await self._upgrade(session, target, context, way.helo)
        except Refused as error:
            if way.tls != "may" or error.reply.stage != "tls" or error.reply.code == 421:
                raise
        return session

    async def _envelope(
        self, session: Session, mail_from: str, rcpt_to: str, message: bytes, envid: str
    ) -> None:
        offered = session.extensions
        mail = [f"MAIL FROM:<{mail_from}>"]
        rcpt = [f"RCPT TO:<{rcpt_to}>"]
        if "size" in offered:
            mail.append(f"SIZE={len(message)}")
        if "8bitmime" in offered and not message.isascii():
            mail.append("BODY=8BITMIME")
        if "dsn" in offered and envid:
            mail.append(f"RET=HDRS ENVID={xtext(envid)}")
            rcpt.append(f"NOTIFY=FAILURE,DELAY ORCPT=rfc822;{xtext(rcpt_to)}")
        _accept(await session.command("mail", " ".join(mail).encode("ascii")))
        _accept(await session.command("rcpt", " ".join(rcpt).encode("ascii")))
        reply = await session.command("data", b"DATA")
        if reply.code != 354:
            _accept(reply)
            raise Broken("data", Reason.PROTOCOL, f"{reply.code} in answer to DATA")
        session.ready_for_dot()

    async def _dot(self, session: Session, message: bytes) -> Submission:
        """From the first byte of the message on, whatever is not a clear reply leaves it unconfirmed."""
        self.progress.may_have_been_sent = True
        self.record.sent_at = self.clock.wall()
        try:
            reply = await session.send(message)
        except Broken as error:
            return self._end(SubmitResult.UNCONFIRMED, error.reason, error.detail, stage="data")
        except asyncio.CancelledError:
            self._end(SubmitResult.UNCONFIRMED, Reason.CANCELLED, "cancelled while waiting", stage="data")
            raise
        self.record.answered_at = self.clock.wall()
        if 200 <= reply.code < 300:
            return self._end(SubmitResult.ACCEPTED, Reason.ACCEPTED, str(reply), reply)
        if 400 <= reply.code < 600:
            return self._end(*self._refusal(reply), reply)
        return self._end(SubmitResult.UNCONFIRMED, Reason.PROTOCOL, f"reply code {reply.code}", stage="data")

    def _refusal(self, reply: Reply) -> tuple[SubmitResult, Reason, str]:
        """A relay that does not let us in is our own side; once it does, its 5yz is a rejection."""
        own = reply.stage in _OWN_SIDE_STAGES or reply.meaning.key in _OWN_SIDE_MEANINGS
        if reply.temporary:
            return SubmitResult.DEFERRED, Reason.REPLIED, str(reply)
        if isinstance(self.way, Relay) and own:
            reason = Reason.AUTH if reply.meaning.key in _OWN_SIDE_MEANINGS else Reason.REPLIED
            return SubmitResult.UNREACHABLE, reason, str(reply)
        return SubmitResult.REJECTED, Reason.REPLIED, str(reply)

    def _breakage(self, error: Broken) -> SubmitResult:
        """An MX that greeted us and then failed defers, as a mail server would; all else is our own side."""
        own = error.reason in _TLS_FAILURES or error.reason in (Reason.TLS_MISSING, Reason.SIGNING)
        if isinstance(self.way, Direct) and self.record.greeted and not own:
            return SubmitResult.DEFERRED
        return SubmitResult.UNREACHABLE

    def _end(
        self,
        result: SubmitResult,
        reason: Reason,
        detail: str,
        reply: Reply | None = None,
        *,
        stage: str = "",
    ) -> Submission:
        """Freezes the record. The first verdict stands: what happens after it is goodbye."""
        record = self.record
        submission = Submission(
            result,
            reason,
            f"{stage}: {detail}" if stage else detail,
            reply,
            dict(record.stages),
            self.started,
            record.sent_at,
            record.answered_at,
            self.size,
            record.mx,
            record.peer_ip,
            record.source_ip,
            record.tls,
            queue_id(reply.text) if result is SubmitResult.ACCEPTED and reply else "",
            tuple(record.attempts),
            record.transcript() if result is not SubmitResult.ACCEPTED else (),
        )
        self.progress.submission = submission
        return submission


def _accept(reply: Reply) -> None:
    """Raises unless the server said yes (2yz)."""
    if 400 <= reply.code < 600:
        raise Refused(reply)
    if not 200 <= reply.code < 300:
        raise Broken(reply.stage, Reason.PROTOCOL, f"reply code {reply.code}")
