"""Models of what sends and what receives: senders, seeds, bounces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.utils import formataddr
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from agent.config.base import Fault, Section, both, refuse
from agent.config.fields import (
    Address,
    Duration,
    FilePath,
    From,
    Host,
    HostPattern,
    Line,
    Name,
    Port,
    Url,
    parse_from,
)
from agent.config.ways import Direct, Dkim, OAuth2, Relay, Security, login_faults
from agent.secrets import Secret

__all__ = [
    "Bounces",
    "Direct",
    "Dkim",
    "Folders",
    "Imap",
    "ListUnsubscribe",
    "Mailbox",
    "OAuth2",
    "Relay",
    "Seed",
    "Sender",
]

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,76}")
_OWN_HEADERS = frozenset(
    {
        *("from", "to", "cc", "bcc", "date", "message-id", "sender", "return-path", "received"),
        *("mime-version", "content-type", "content-transfer-encoding", "dkim-signature"),
        *("list-unsubscribe", "list-unsubscribe-post", "x-mailcanary-token"),
    }
)


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise refuse("not a header name", "write it as in X-Campaign, without the colon")
    if value.lower() in _OWN_HEADERS:
        raise refuse("a header the canary writes itself", "leave it out, or write it in your own template")
    return value


def _ascii(value: str) -> str:
    if not value.isascii():
        raise refuse("text beyond ASCII", "encode it as RFC 2047 says")
    return value


def _mailto(value: str) -> str:
    if not value.startswith("mailto:") or any(ord(char) < 33 or char in "<>" for char in value):
        raise refuse("not a mailto: URL", "write it as in mailto:unsubscribe@acme.example")
    return value


class ListUnsubscribe(Section):
    """List-Unsubscribe (RFC 2369) and its one-click form (RFC 8058)."""

    url: Url | None = Field(default=None, description="https URL that unsubscribes.")
    mailto: Annotated[str, AfterValidator(_mailto)] | None = Field(default=None, description="mailto: URL.")
    one_click: bool = Field(default=False, description="Add List-Unsubscribe-Post; wants an https url.")

    @property
    def header(self) -> str:
        """The value of List-Unsubscribe."""
        return ", ".join(f"<{value}>" for value in (self.mailto, self.url) if value)

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        if "url" not in given and "mailto" not in given:
            yield Fault("", "`list_unsubscribe` has neither `url` nor `mailto`", "give one of them, or both")
        one_click = str(given.get("one_click", "")).lower() in ("true", "yes", "on")
        if one_click and not str(given.get("url", "")).startswith("https:"):
            yield Fault(
                "one_click", "one-click wants an https `url` (RFC 8058)", "give one, or leave `one_click` out"
            )


class Sender(Section):
    """A configured origin of canaries."""

    from_: From = Field(
        alias="from", description="The From header.", examples=['"Acme <noreply@acme.example>"']
    )
    return_path: Address | None = Field(
        default=None, description="Envelope sender, where bounces go. Left out: the From address."
    )
    relay: Relay | None = Field(default=None, description="Send through this submission server ...")
    direct: Direct | None = Field(default=None, description="... or straight to the recipient's MX.")
    dkim: Dkim | None = Field(default=None, description="Sign here; a relay usually signs by itself.")
    template: FilePath | None = Field(
        default=None,
        description="Your own message: a raw .eml, or a Jinja2 template. Left out: a built-in one.",
    )
    headers: dict[Annotated[str, AfterValidator(_header_name)], Annotated[Line, AfterValidator(_ascii)]] = (
        Field(
            default_factory=dict,
            description="Further headers of each canary; `Subject` replaces the template's.",
        )
    )
    list_unsubscribe: ListUnsubscribe | None = Field(default=None, description="List-Unsubscribe headers.")
    region: Name | None = Field(default=None, description="Only agents of this region send for it.")

    @property
    def address(self) -> str:
        """The author's address."""
        found = parse_from(self.from_)
        return found[1] if found else self.from_

    @property
    def name(self) -> str:
        """The author's display name, "" where there is none."""
        found = parse_from(self.from_)
        return found[0] if found else ""

    @property
    def from_header(self) -> str:
        """The From header, its name encoded as RFC 2047 says."""
        return formataddr((self.name, self.address))

    @property
    def domain(self) -> str:
        """The author domain, in lower case."""
        return self.address.rpartition("@")[2].lower()

    @property
    def envelope_from(self) -> str:
        """The address of MAIL FROM."""
        return self.return_path or self.address

    @property
    def kind(self) -> Literal["relay", "direct"]:
        """How the mail leaves."""
        return "relay" if self.relay else "direct"

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        yield from both(given, "relay", "direct")
        if "relay" not in given and "direct" not in given:
            yield Fault(
                "", "the sender has neither `relay` nor `direct`", "say how its mail leaves with one of them"
            )


class Folders(Section):
    """Folders of a mailbox, where flags and well-known names do not tell; as people see them (UTF-8)."""

    inbox: Line | None = Field(default=None, description="The inbox. Left out: INBOX.")
    junk: tuple[Line, ...] = Field(default=(), description="Junk folders. Left out: by flag, then by name.")
    tabs: dict[Name, Line] = Field(
        default_factory=dict, description="Folders that count as a tab: category -> folder."
    )
    others: tuple[Line, ...] = Field(default=(), description="Further folders to look into.")


class Imap(Section):
    """How a mailbox is read. What is left out comes from the provider's preset."""

    host: Host | None = Field(default=None, description="IMAP server. Left out: the preset's.")
    port: Port | None = Field(
        default=None, description="Left out: the preset's, or 993 for tls and 143 for others."
    )
    security: Security | None = Field(
        default=None,
        description="tls, starttls (required) or none (this machine only). Left out: the preset's.",
    )
    ca_file: FilePath | None = Field(
        default=None, description="PEM file of a private CA, besides the system's."
    )
    folders: Folders = Field(default_factory=Folders, description="Folders by name.")
    authserv_ids: tuple[str, ...] | None = Field(
        default=None,
        description="Whom to believe: authserv-ids of the provider's own Authentication-Results; "
        '"" where it writes none, `*.example.com` for any below.',
    )
    border: tuple[str, ...] | None = Field(
        default=None,
        description="Host in the `by` of the provider's border Received, `*.example.com` for any below. "
        "Left out: the preset's.",
    )
    below_border: Annotated[int, Field(ge=0, le=20)] | None = Field(
        default=None,
        description="Fields right below that Received which are the provider's too; 1 for most milters.",
    )
    internal: tuple[HostPattern, ...] | None = Field(
        default=None,
        description="Hosts that hand the message on behind the border, `*.example.com` for any below, and "
        "their networks. Left out: the preset's, or the border's own domain.",
    )
    poll: Duration | None = Field(default=None, description="Look at least this often, IDLE or not.")
    idle: bool | None = Field(default=None, description="Use IDLE where it is announced.")
    bursts: bool | None = Field(
        default=None, description="Ask with NOOP, capped, in the seconds in which a canary is expected."
    )
    junk_required: bool | None = Field(
        default=None, description="A mailbox without a junk folder is not readable: it may hide it from IMAP."
    )
    timeout: Duration = Field(default=30.0, description="Longest wait for one answer of the server.")


class Mailbox(Section):
    """A mailbox and how to log in to it."""

    provider: Name = Field(description="A preset: gmail, outlook, ..., generic.", examples=["gmail"])
    address: Address = Field(description="The mailbox's address.", examples=["acme.seed1@gmail.com"])
    username: str | None = Field(
        default=None, min_length=1, description="Login name. Left out: the preset's form of the address."
    )
    password: Secret | None = Field(default=None, description="Password, often an app password.")
    oauth2: OAuth2 | None = Field(default=None, description="XOAUTH2 instead of a password.")
    imap: Imap = Field(default_factory=Imap, description="Only what differs from the preset.")

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        yield from login_faults(given)
        if "password" not in given and "oauth2" not in given:
            yield Fault("", "the mailbox has neither `password` nor `oauth2`", "add `password: {env: NAME}`")


class Seed(Mailbox):
    """A monitored recipient mailbox."""

    region: Name | None = Field(default=None, description="Only agents of this region read it.")
    daily_limit: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Most canaries a day. Left out: the preset's, at most limits.per_seed_per_day.",
    )


class Bounces(Mailbox):
    """The mailbox where bounces (DSNs, RFC 3464) to the senders' return paths arrive."""

    provider: Name = Field(default="generic", description="A preset: gmail, outlook, ..., generic.")
