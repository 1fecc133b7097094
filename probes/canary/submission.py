"""What became of one submission, and what was gathered on the way."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from probes.canary.replies import Reply, clean_text
from probes.errors import MailcanaryError

STAGES = ("dns", "connect", "tls", "greeting", "ehlo", "auth", "mail", "rcpt", "data")
"""In order of time; each a closed word, fit for a metric label. `data` ends with the reply to the final
dot."""

_LINES_MAXIMUM = 200
_LINE_MAXIMUM = 2_000


class HeldBack(MailcanaryError):
    """A submission was given up before the message went out."""


class SubmitResult(StrEnum):
    """How a submission ended.

    accepted: the server took responsibility; deferred: refused for now (4yz), may be tried again with the
    same token; rejected: refused for good (5yz); unconfirmed: the message may have reached the server but
    its reply is lost, never sent again under this token; unreachable: our own side or the relay: nothing is
    known of the recipient's provider.
    """

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REJECTED = "rejected"
    UNCONFIRMED = "unconfirmed"
    UNREACHABLE = "unreachable"


class Reason(StrEnum):
    """Why, as a closed word."""

    ACCEPTED = "accepted"
    REPLIED = "replied"
    DNS = "dns"
    CONNECT = "connect"
    TIMEOUT = "timeout"
    DROPPED = "dropped"
    PROTOCOL = "protocol"
    TLS_MISSING = "tls_missing"
    TLS_CERTIFICATE = "tls_certificate"
    TLS_FAILED = "tls_failed"
    TLS_INJECTED = "tls_injected"
    AUTH = "auth"
    CLEARTEXT = "cleartext_forbidden"
    SIGNING = "signing"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The encryption of the connection that carried the canary. verified: by chain and name; detail: why it
    was not."""

    version: str
    cipher: str
    verified: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One host that was tried in vain before the one that counts. seconds: how long it took."""

    host: str
    ip: str
    stage: str
    reason: str
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Submission:
    """The record of one submission.

    stages: seconds by stage, of the connection that counts; started_at, sent_at, answered_at: seconds since
    the epoch when we began, when the final dot was written, when its reply was there (None where it did not
    come so far); size: octets as sent, signatures included; transcript: the dialogue without secrets and
    without the message, where it was not accepted.
    """

    result: SubmitResult
    reason: Reason
    detail: str
    reply: Reply | None
    stages: Mapping[str, float]
    started_at: float
    sent_at: float | None
    answered_at: float | None
    size: int
    mx: str = ""
    peer_ip: str = ""
    source_ip: str = ""
    tls: TlsInfo | None = None
    queue_id: str = ""
    attempts: tuple[Attempt, ...] = ()
    transcript: tuple[str, ...] = ()


@dataclass(slots=True)
class Progress:
    """Where a submission stands, for the caller of a cancelled one.

    may_have_been_sent: the final dot was, or may have been, written; submission: set as soon as the verdict
    is known, so also when the call is cancelled in the dot phase (unconfirmed) or while it says goodbye.
    """

    may_have_been_sent: bool = False
    submission: Submission | None = None


@dataclass(slots=True)
class Record:
    """What a submission has gathered so far: the mutable side of `Submission`."""

    stages: dict[str, float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    mx: str = ""
    peer_ip: str = ""
    source_ip: str = ""
    tls: TlsInfo | None = None
    sent_at: float | None = None
    answered_at: float | None = None
    greeted: bool = False
    _secrets: list[str] = field(default_factory=list)

    def hide(self, secret: str) -> None:
        """Never let this, nor its base64, into the transcript, whoever says it."""
        coded = base64.b64encode(secret.encode()).decode("ascii")
        self._secrets += [text for text in (secret, coded, coded.rstrip("=")) if text]
        self._secrets.sort(key=len, reverse=True)

    def redact(self, text: str) -> str:
        """Text without secrets."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, "[secret]")
        return text

    def clean(self, text: str) -> str:
        """Text without secrets and without control characters, capped."""
        return clean_text(self.redact(text))

    def note(self, who: str, text: str) -> None:
        """One line of the dialogue, or several: who is C, S or *."""
        if len(text) > _LINE_MAXIMUM:
            text = self.redact(text)  # before the cut, which could leave half a secret unknown
        if len(self.lines) < _LINES_MAXIMUM:
            self.lines.append(f"{who}: {text[:_LINE_MAXIMUM]}")

    def transcript(self) -> tuple[str, ...]:
        """The dialogue without secrets, a line each, without control characters."""
        text = self.redact("\n".join(self.lines))
        return tuple(clean_text(text, maximum=_LINES_MAXIMUM * _LINE_MAXIMUM).split("\n"))

    def begin(self, host: str) -> None:
        """A new connection: what is timed and told is that of the last one, the others are attempts."""
        dns = self.stages.get("dns")
        self.stages = {} if dns is None else {"dns": dns}
        self.mx, self.peer_ip, self.source_ip, self.greeted = host, "", "", False
        self.tls = None
