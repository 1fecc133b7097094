"""The ways out: through a submission relay, or direct to the recipient's MX; and how long each step may
take."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, Protocol

from probes.errors import ConfigError

Security = Literal["tls", "starttls", "none"]
TlsPolicy = Literal["may", "encrypt", "verify"]
TokenSource = Callable[[], Awaitable[str]]
"""Gives a fresh OAuth2 access token; raises an `Unavailable` where there is none."""

_HELO = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}")
_HOST = re.compile(r"[A-Za-z0-9.:_-]{1,255}")


class Signer(Protocol):
    """Adds one signature: message in, the signed message out, header first, CRLF line ends kept."""

    def __call__(self, message: bytes, /) -> bytes:
        """The message with its DKIM-Signature on top. Raises MailcanaryError where it cannot sign."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each step, and for all of it. RFC 5321 section 4.5.3.2 allows minutes: a probe is told
    sooner, but waits long for the final reply, because without it the canary is unconfirmed."""

    dns: float = 10.0
    connect: float = 15.0
    tls: float = 15.0
    greeting: float = 60.0
    command: float = 60.0
    dot: float = 300.0
    quit: float = 2.0
    total: float = 600.0


def _check_name(what: str, pattern: re.Pattern[str], value: str) -> None:
    if not pattern.fullmatch(value):
        raise ConfigError(f"{what} {value!r} is not a host name or address")


def is_loopback(address: str) -> bool:
    """Whether a literal IP address is of this machine only."""
    return ipaddress.ip_address(address).is_loopback


@lru_cache(maxsize=1024)
def literal_address(host: str) -> str | None:
    """The IP address that `host` literally is, with or without brackets (RFC 5321 section 4.1.3), else
    None."""
    text = host.removeprefix("[").removesuffix("]")
    text = text[5:] if text.lower().startswith("ipv6:") else text
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Relay:
    """An authenticated submission server (RFC 6409, RFC 8314).

    security: `tls` from the first byte (465), `starttls` required (587), or `none`, on loopback only. A
    login is sent over an encrypted and verified connection, or over loopback, never else. helo: the EHLO
    name; "" says the address literal.
    """

    host: str
    port: int = 465
    security: Security = "tls"
    username: str = ""
    password: str = field(default="", repr=False)
    oauth2: TokenSource | None = field(default=None, repr=False)
    helo: str = ""

    def __post_init__(self) -> None:
        _check_name("relay host", _HOST, self.host)
        if self.helo:
            _check_name("helo", _HELO, self.helo)
        address = literal_address(self.host)
        if self.security == "none" and address is not None and not is_loopback(address):
            raise ConfigError("security: none is for a relay on loopback only; use tls or starttls")
        if self.password and self.oauth2:
            raise ConfigError("a relay has a password or oauth2, not both")
        if bool(self.password or self.oauth2) != bool(self.username):
            raise ConfigError("a relay login needs both: username, and password or oauth2")


@dataclass(frozen=True, slots=True)
class Direct:
    """Direct to the recipient's MX (RFC 5321 section 5), as a mail server does it.

    source_ip: the local address to send from, "" for the system's choice; helo: this host's public name;
    signers: applied in order, so that the last one's signature is on top; tls: `may` encrypts where it can
    and reports what it got, `encrypt` insists on encryption, `verify` on a certificate for the MX's name as
    well; port: 25 but in a lab.
    """

    helo: str
    source_ip: str = ""
    signers: tuple[Signer, ...] = ()
    tls: TlsPolicy = "may"
    port: int = 25

    def __post_init__(self) -> None:
        _check_name("helo", _HELO, self.helo)
        if self.source_ip and literal_address(self.source_ip) is None:
            raise ConfigError(f"source_ip {self.source_ip!r} is not an IP address")


Way = Relay | Direct
