"""A mailbox provider: an MX that evaluates SPF, DKIM and DMARC for real, and files spam to junk."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from ipaddress import ip_address
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from agent.demo.mailbox import ImapServer
from probes.authentication.evaluate import Evaluation, evaluate
from probes.clock import Clock
from probes.dns import DnsStatus, Resolver

_MESSAGE_ID = re.compile(rb"(?im)^message-id:[ \t]*(<[^>\r\n]+>)")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is particular to one provider. seconds: from its 250 to the mailbox; preset: the agent's own."""

    name: str
    preset: str
    ip: str
    junk: str
    seconds: float

    @property
    def domain(self) -> str:
        """Its mail domain."""
        return f"{self.name}.example"

    @property
    def mx(self) -> str:
        """The name of its MX, which is its authserv-id as well."""
        return f"mx.{self.domain}"

    @property
    def seed(self) -> str:
        """The address of the seed mailbox there."""
        return f"seed@{self.domain}"


@dataclass(frozen=True, slots=True)
class Filed:
    """What the provider really did with a message: the truth that the agent's word is held against."""

    message_id: str
    mail_from: str
    folder: str
    spf: str
    dkim: str
    dmarc: str
    listed: bool


class Provider:
    """One provider: `filed` is its own record of everything it took, by Message-ID."""

    def __init__(
        self, plan: Plan, imap: ImapServer, zone: str, resolver: Callable[[], Resolver], clock: Clock
    ) -> None:
        self.plan = plan
        self.imap = imap
        self.filed: dict[str, Filed] = {}
        self._zone = zone
        self._resolver = resolver
        self._clock = clock
        self._filing: set[asyncio.Task[None]] = set()

    async def start(self, port: int, context: ssl.SSLContext) -> None:
        """Opens IMAP, and SMTP on this port. Raises OSError where the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname=self.plan.mx, ident="ESMTP", tls_context=context, loop=loop),
            self.plan.ip,
            port,
        )
        await self.imap.start()

    async def stop(self) -> None:
        """Closes both; what is on its way to a mailbox is dropped."""
        self._server.close()
        for task in self._filing:
            task.cancel()
        await asyncio.gather(*self._filing, return_exceptions=True)
        await self.imap.stop()

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Takes mail for its own mailboxes only."""
        if not self.imap.has(address.lower()):
            return "550 5.1.1 no such mailbox here"
        envelope.rcpt_tos.append(address.lower())
        return "250 2.1.5 OK"

    async def handle_DATA(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, session: Any, envelope: Envelope
    ) -> str:
        """Judges, accepts, and files a moment later."""
        content = envelope.content
        assert isinstance(content, bytes)
        ip, helo, mail_from = str(session.peer[0]), str(session.host_name), envelope.mail_from or ""
        found = await evaluate(
            content, ip=ip, helo=helo, mail_from=mail_from, resolver=self._resolver(), now=self._clock.wall()
        )
        listed = await self._listed(ip)
        message = await self._marked(content, session, ip, helo, mail_from, found)
        for name in envelope.rcpt_tos:
            task = asyncio.create_task(self._file(name, message, mail_from, found, listed))
            self._filing.add(task)
            task.add_done_callback(self._filing.discard)
        return "250 2.0.0 taken"

    async def _listed(self, ip: str) -> bool:
        name = f"{_reversed(ip)}.{self._zone}"
        return (await self._resolver().query(name, "A")).status is DnsStatus.OK

    async def _marked(
        self, content: bytes, session: Any, ip: str, helo: str, mail_from: str, found: Evaluation
    ) -> bytes:
        """The message with what the provider writes on top: its verdicts, then its Received."""
        back = await self._resolver().query(ip_address(ip).reverse_pointer, "PTR")
        known = back.records[0].rstrip(".") if back.records else "unknown"
        kind = "ESMTPS" if session.ssl else "ESMTP"
        results = f"Authentication-Results: {self.plan.mx};\r\n " + ";\r\n ".join(methods(found, mail_from))
        received = (
            f"Received: from {helo} ({known} [{ip}])\r\n"
            f" by {self.plan.mx} with {kind};\r\n {formatdate(self._clock.wall())}"
        )
        return f"Return-Path: <{mail_from}>\r\n{results}\r\n{received}\r\n".encode() + content

    async def _file(self, name: str, message: bytes, mail_from: str, found: Evaluation, listed: bool) -> None:
        await self._clock.sleep(self.plan.seconds)
        dmarc = found.dmarc
        unwanted = dmarc.result == "fail" and dmarc.disposition in ("quarantine", "reject")
        folder = self.plan.junk if unwanted or listed else "INBOX"
        match = _MESSAGE_ID.search(message)
        message_id = match[1].decode("latin-1") if match else ""
        words = (found.spf.result, _dkim(found), dmarc.result)
        self.filed[message_id] = Filed(message_id, mail_from, folder, *words, listed)
        await self.imap.deliver(name, message, folder)


def _reversed(ip: str) -> str:
    return ".".join(reversed(ip.split(".")))


def _dkim(found: Evaluation) -> str:
    results = [one.result for one in found.dkim]
    return "pass" if "pass" in results else results[0] if results else "none"


def methods(found: Evaluation, mail_from: str) -> list[str]:
    """The results as Authentication-Results has them (RFC 8601 section 2.2)."""
    signatures = [f"dkim={one.result} header.d={one.domain} header.s={one.selector}" for one in found.dkim]
    dmarc = found.dmarc
    return [
        f"spf={found.spf.result} smtp.mailfrom={mail_from}",
        *(signatures or ["dkim=none"]),
        f"dmarc={dmarc.result} (p={dmarc.policy}) header.from={dmarc.domain}",
    ]
