"""A submission server: takes mail after a login over TLS, signs it, and sends it on from its own address."""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import aiosmtplib
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from probes.authentication.sign import DkimKeyPair, sign_all
from probes.clock import Clock

STEP = 15.0
"""Seconds for one reply of an MX."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who may submit. The password is of this run only."""

    username: str
    password: str


class Relay:
    """Forwards at once: what the MX says is what the client hears. `port` is known once it runs."""

    def __init__(
        self,
        name: str,
        ip: str,
        login: Login,
        key: Callable[[], DkimKeyPair],
        mx: Mapping[str, tuple[str, int]],
        clock: Clock,
        *,
        implicit: bool,
    ) -> None:
        """mx: by mail domain, where it is taken; implicit: TLS from the first byte, else STARTTLS."""
        self.name = name
        self.ip = ip
        self.login = login
        self.implicit = implicit
        self.port = 0
        self._key = key
        self._mx = mx
        self._clock = clock

    async def start(self, context: ssl.SSLContext) -> None:
        """Opens a free port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(
                self,
                hostname=self.name,
                ident="ESMTP",
                tls_context=None if self.implicit else context,
                require_starttls=not self.implicit,
                auth_require_tls=not self.implicit,  # aiosmtpd knows of no other TLS than STARTTLS
                auth_required=True,
                authenticator=self._authenticate,
                loop=loop,
            ),
            self.ip,
            0,
            ssl=context if self.implicit else None,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes the port."""
        self._server.close()

    def _authenticate(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: object
    ) -> AuthResult:
        wanted = (self.login.username.encode(), self.login.password.encode())
        good = isinstance(given, LoginPassword) and hmac.compare_digest(
            b"\0".join((given.login, given.password)), b"\0".join(wanted)
        )
        return AuthResult(success=good, handled=good)

    async def handle_DATA(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Signs and sends on."""
        content = envelope.content
        assert isinstance(content, bytes)
        signed = sign_all(content, [self._key()], self._clock.wall())
        try:
            for address in envelope.rcpt_tos:
                await self._forward(envelope.mail_from or "", address, signed)
        except aiosmtplib.SMTPResponseException as error:
            return f"{error.code} {error.message}".replace("\n", " ")
        except (aiosmtplib.SMTPException, OSError, KeyError):
            return "451 4.4.1 the next server cannot be reached"
        return "250 2.0.0 sent on"

    async def _forward(self, mail_from: str, address: str, message: bytes) -> None:
        host, port = self._mx[address.rpartition("@")[2].lower()]
        client = aiosmtplib.SMTP(
            hostname=host,
            port=port,
            source_address=(self.ip, 0),
            local_hostname=self.name,
            start_tls=False,
            timeout=STEP,
        )
        async with client:
            await client.sendmail(mail_from, [address], message)
