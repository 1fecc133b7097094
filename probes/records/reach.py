"""Talks to a mail exchanger on port 25 as far as STARTTLS, and keeps the certificate it shows.

Nothing is sent: greeting, EHLO, STARTTLS, QUIT. Each step has a deadline, and what is read has a cap.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

PORT = 25
SECONDS = 20.0
"""For one whole conversation."""

_REPLY_CAP = 100  # lines
_OF_THE_LEAF = frozenset({9, 10, 62})  # OpenSSL: not yet valid, expired, another name. The chain is good then


@dataclass(frozen=True, slots=True)
class Contact:
    """What one address of a mail exchanger did.

    state: answered, refused (by the other side), silent (time-out, no route: may be our side);
    extended: it took EHLO; starttls: offered; tls_fault: why the handshake failed; chain: certificates as
    DER, leaf first; trusted: the chain leads to a known authority, None where none was seen; detail: for
    people.
    """

    host: str
    address: str
    state: str
    detail: str = ""
    extended: bool = False
    starttls: bool = False
    tls_fault: str = ""
    chain: tuple[bytes, ...] = ()
    trusted: bool | None = None


Reach = Callable[[str, str], Awaitable[Contact]]
"""(host, address) -> what it did; never raises."""


@dataclass(frozen=True, slots=True)
class SmtpReach:
    """Contacts mail exchangers. context: the authorities to trust; helo: our name, in EHLO."""

    context: ssl.SSLContext
    helo: str = "mailcanary.invalid"
    port: int = PORT
    seconds: float = SECONDS

    async def __call__(self, host: str, address: str) -> Contact:
        """One conversation, and a second one where the certificate is not trusted, to see it all the same."""
        first = await self._converse(host, address, self.context)
        if first.trusted is None or first.chain:
            return first
        second = await self._converse(host, address, _accept_all())
        return replace(first, chain=second.chain)

    async def _converse(self, host: str, address: str, context: ssl.SSLContext) -> Contact:
        contact = Contact(host, address, "silent")
        writers: list[asyncio.StreamWriter] = []
        try:
            async with asyncio.timeout(self.seconds):
                return await self._steps(contact, context, writers)
        except TimeoutError:
            return replace(contact, detail=f"no answer within {self.seconds:g} s")
        except ConnectionRefusedError:
            return replace(contact, state="refused", detail="the connection is refused")
        except (OSError, EOFError, ValueError) as error:
            return replace(contact, detail=" ".join(str(error).split())[:200] or type(error).__name__)
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _steps(
        self, contact: Contact, context: ssl.SSLContext, writers: list[asyncio.StreamWriter]
    ) -> Contact:
        reader, writer = await asyncio.open_connection(contact.address, self.port, limit=4096)
        writers.append(writer)
        greeting = await _reply(reader)
        contact = replace(contact, state="answered", detail=greeting[-1][:200])
        if not greeting[0].startswith("220"):
            return contact
        offered = await _ask(reader, writer, f"EHLO {self.helo}")
        if not offered[0].startswith("250"):
            return contact
        words = {line[4:].strip().upper() for line in offered}
        contact = replace(contact, extended=True, starttls="STARTTLS" in words)
        if not contact.starttls:
            await _quit(writer)
            return contact
        if not (await _ask(reader, writer, "STARTTLS"))[0].startswith("220"):
            return replace(contact, starttls=False, detail="STARTTLS is offered and then refused")
        return await self._handshake(contact, writer, context)

    async def _handshake(
        self, contact: Contact, writer: asyncio.StreamWriter, context: ssl.SSLContext
    ) -> Contact:
        try:
            await writer.start_tls(context, server_hostname=contact.host)
        except ssl.SSLCertVerificationError as error:
            return replace(contact, trusted=error.verify_code in _OF_THE_LEAF, detail=error.verify_message)
        except (ssl.SSLError, ConnectionError, EOFError) as error:
            return replace(contact, tls_fault=" ".join(str(error).split())[:200] or type(error).__name__)
        found = _chain(writer.get_extra_info("ssl_object"))
        await _quit(writer)
        return replace(contact, chain=found, trusted=True)


def _accept_all() -> ssl.SSLContext:
    """For looking at a certificate that is known to be bad; nothing is sent over it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _chain(tls: Any) -> tuple[bytes, ...]:
    """The certificates as they were sent; the leaf alone where this Python shows no more."""
    inner: Any = getattr(tls, "_sslobj", None)
    if inner is not None and hasattr(inner, "get_unverified_chain"):
        return tuple(item.public_bytes(2) for item in inner.get_unverified_chain() or ())  # 2: DER
    leaf = tls.getpeercert(binary_form=True) if tls is not None else b""
    return (leaf,) if leaf else ()


async def _reply(reader: asyncio.StreamReader) -> list[str]:
    lines: list[str] = []
    while len(lines) < _REPLY_CAP:
        line = await reader.readline()
        if not line:
            raise EOFError("it hung up")
        lines.append(line.decode("latin-1").rstrip("\r\n"))
        if lines[-1][3:4] != "-":
            return lines
    raise ValueError("a reply without an end")


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str) -> list[str]:
    writer.write(command.encode("ascii") + b"\r\n")
    await writer.drain()
    return await _reply(reader)


async def _quit(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.write(b"QUIT\r\n")
        await writer.drain()
