"""Models of what sends and what receives: senders, seeds, bounces."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from email.utils import formataddr
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from agent.config.base import Fault, Section, both, refuse
from agent.config.fields import (
    Address,
    Domain,
    Duration,
    FilePath,
    From,
    Host,
    Ip,
    Line,
    Name,
    Port,
    Url,
    is_hostname,
    is_ip,
    is_loopback,
    parse_from,
    resolve_path,
)
from agent.secrets import Secret, secret_schema

Security = Literal["tls", "starttls", "none"]

SMTP_PORTS = {"tls": 465, "starttls": 587, "none": 25}
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


def _helo(value: str) -> str:
    literal = value.startswith("[") and value.endswith("]") and is_ip(value[1:-1].removeprefix("IPv6:"))
    if not literal and (not is_hostname(value) or "." not in value or is_ip(value)):
        raise refuse("not a HELO name", "write the full name whose A or AAAA record is the source IP")
    return value


def _mailto(value: str) -> str:
    if not value.startswith("mailto:") or any(ord(char) < 33 or char in "<>" for char in value):
        raise refuse("not a mailto: URL", "write it as in mailto:unsubscribe@acme.example")
    return value


def _dkim_key(value: object, info: ValidationInfo) -> Secret:
    """A plain path is short for {file: PATH} and must exist, as any file the config names."""
    if not isinstance(value, str):
        return Secret.read(value, info.context or {})
    if "-----BEGIN" in value or "\n" in value:
        raise refuse("the private key itself stands here", "write the path of a file that holds it")
    path = resolve_path(value, info)
    if not path.is_file():
        raise refuse(
            "the key file does not exist", "write the path of a PEM file, relative to this file or absolute"
        )
    return Secret.read({"file": str(path)}, info.context or {})


_KEY_SCHEMA = secret_schema()
_KEY_SCHEMA["anyOf"][-1] = {
    "type": "string",
    "description": "path of a PEM file, relative to the config file",
}
DkimKey = Annotated[Secret, BeforeValidator(_dkim_key), WithJsonSchema(_KEY_SCHEMA)]


class OAuth2(Section):
    """How an access token is got: with a refresh token, or as the application itself (client credentials)."""

    client_id: str = Field(
        min_length=1, description="Id of the registered application.", examples=["1234.apps.example"]
    )
    client_secret: Secret | None = Field(
        default=None, description="The application's secret, where it has one."
    )
    refresh_token: Secret | None = Field(
        default=None,
        description="Refresh token; `mailcanary login SEED` writes it to the file named here. "
        "Left out: client credentials.",
    )
    token_url: Url | None = Field(
        default=None,
        description="Token endpoint. Left out: the one of the provider's preset (Google, Microsoft).",
    )
    tenant: Name | None = Field(default=None, description="Microsoft tenant. Left out: `common`.")
    scope: tuple[str, ...] = Field(
        default=(), description="Scopes to ask for. Left out: those of the preset."
    )

    @property
    def grant(self) -> Literal["refresh_token", "client_credentials"]:
        """The OAuth2 grant (RFC 6749 sections 6 and 4.4) that is used."""
        return "refresh_token" if self.refresh_token else "client_credentials"

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        if "refresh_token" not in given and "client_secret" not in given:
            yield Fault("", "`oauth2` has neither `refresh_token` nor `client_secret`", "give one of them")


def _login_faults(given: Mapping[str, Any]) -> Iterator[Fault]:
    yield from both(given, "password", "oauth2")


class Relay(Section):
    """An authenticated submission server (RFC 6409)."""

    host: Host = Field(
        description="Its name; the certificate must be for it.", examples=["smtp.acme.example"]
    )
    port: Port = Field(default=465, description="Left out: 465 for tls, 587 for starttls, 25 for none.")
    security: Security = Field(
        default="tls",
        description="tls: from the first byte; starttls: required, never optional; "
        "none: plain text, to this machine only.",
    )
    username: str | None = Field(default=None, min_length=1, description="Login name. Left out: no login.")
    password: Secret | None = Field(default=None, description="Its password.")
    oauth2: OAuth2 | None = Field(default=None, description="XOAUTH2 instead of a password.")
    ca_file: FilePath | None = Field(
        default=None, description="PEM file of a private CA, besides the system's."
    )
    timeout: Duration = Field(default=30.0, description="Longest wait for one reply of the server.")

    @model_validator(mode="before")
    @classmethod
    def _default_port(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("port") is None and isinstance(data.get("security"), str):
            return {**data, "port": SMTP_PORTS.get(data["security"], 465)}
        return data

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        yield from _login_faults(given)
        secret = "password" if "password" in given else "oauth2"
        if secret in given and "username" not in given:
            yield Fault("", f"`relay` has `{secret}` but no `username`", "add `username:`")
        if "username" in given and secret not in given:
            yield Fault(
                "username",
                "`relay` has `username` but no `password` or `oauth2`",
                "add `password: {env: NAME}`",
            )
        if given.get("security") == "none" and not is_loopback(str(given.get("host", "localhost"))):
            yield Fault("security", "plain text to another machine is refused", "write tls or starttls")


class Direct(Section):
    """Delivery to the recipient's own MX."""

    source_ip: Ip | None = Field(
        default=None, description="IP address to send from. Left out: the system's choice."
    )
    helo: Annotated[str, AfterValidator(_helo)] = Field(
        description="Name told in EHLO; it should resolve to the source IP and back.",
        examples=["mta1.acme.example"],
    )
    port: Port = Field(default=25, description="Port of the MX; other than 25 only in a lab.")
    timeout: Duration = Field(default=60.0, description="Longest wait for one reply of the server.")


class Dkim(Section):
    """The DKIM signature of the canaries (RFC 6376, RFC 8463); RSA or ed25519 by the key."""

    domain: Domain = Field(description="`d=`: the signing domain.", examples=["acme.example"])
    selector: Domain = Field(description="`s=`: the selector.", examples=["s1"])
    key: DkimKey = Field(
        description="Private key: the path of a PEM file, or a secret.", examples=["dkim-s1.pem"]
    )


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
    poll: Duration | None = Field(default=None, description="Look at least this often, IDLE or not.")
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
        yield from _login_faults(given)
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
