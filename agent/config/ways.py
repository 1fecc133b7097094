"""Models of how mail leaves and how one logs in: relay, direct, DKIM signature, OAuth2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, model_validator

from agent.config.base import Fault, Section, both, refuse
from agent.config.fields import (
    Domain,
    Duration,
    FilePath,
    Host,
    Ip,
    Name,
    Port,
    Url,
    is_hostname,
    is_ip,
    is_loopback,
    resolve_path,
)
from agent.secrets import Secret, secret_schema

Security = Literal["tls", "starttls", "none"]

SMTP_PORTS = {"tls": 465, "starttls": 587, "none": 25}


def _helo(value: str) -> str:
    literal = value.startswith("[") and value.endswith("]") and is_ip(value[1:-1].removeprefix("IPv6:"))
    if not literal and (not is_hostname(value) or "." not in value or is_ip(value)):
        raise refuse("not a HELO name", "write the full name whose A or AAAA record is the source IP")
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


def login_faults(given: Mapping[str, Any]) -> Iterator[Fault]:
    """A password and OAuth2 exclude each other."""
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
        yield from login_faults(given)
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
