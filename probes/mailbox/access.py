"""What is needed to open one mailbox. Values only: who they belong to and where they come from is not
known here."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class Security(StrEnum):
    """How a connection is protected. STARTTLS means required; NONE is for loopback alone."""

    TLS = "tls"
    STARTTLS = "starttls"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Password:
    """A password, kept out of repr()."""

    text: str = field(repr=False)


class TokenSource(Protocol):
    """Gives OAuth2 access tokens (oauth2.OAuthTokens is one)."""

    async def token(self) -> str:
        """A token that is valid now. Raises LoginRefused where the grant is gone, HttpUnavailable
        otherwise."""

    def invalidate(self) -> None:
        """The server refused the last token: the next one has to be new."""

    def reset(self) -> None:
        """Try again, even where the grant was refused."""


@dataclass(frozen=True, slots=True)
class MailboxAccess:
    """How to reach one mailbox.

    credential: a Password, or a TokenSource for XOAUTH2 and OAUTHBEARER. tls: one context shared by all
    mailboxes (each costs 23 ms to build); required unless security is NONE. timeout: seconds one command may
    take; connect_timeout: until the greeting, TLS included.
    """

    host: str
    port: int
    username: str
    credential: Password | TokenSource
    security: Security = Security.TLS
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    timeout: float = 15.0
    connect_timeout: float = 20.0
