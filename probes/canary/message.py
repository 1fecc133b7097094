"""The canary as a message (RFC 5322): composed once a sender, then one join for each canary.

Token in the header `X-Mailcanary-Token`, in square brackets in the Subject, and in every text part.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from probes.canary import templating
from probes.canary.mime import (
    LINE_MAXIMUM,
    Address,
    Mould,
    filled_width,
    has_mark,
    header_line,
    mark,
    marks_intact,
    parse_address,
    quoted_printable,
)
from probes.canary.rawmail import read_raw_mail
from probes.errors import ConfigError, DataError

TOKEN_HEADER = "X-Mailcanary-Token"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,70}")
_NOT_CUSTOM = frozenset(
    "from to cc bcc date message-id mime-version content-type content-transfer-encoding return-path received "
    "dkim-signature arc-seal arc-message-signature arc-authentication-results authentication-results "
    "list-unsubscribe list-unsubscribe-post x-mailcanary-token".split()
)
_ADDRESS_FIELDS = frozenset({"reply-to", "sender"})
_UNSUBSCRIBE = re.compile(r"(?:https?://|mailto:)[!-;=?-~]+")
_TO = re.compile(r"[!-;=?-~]{1,64}@[A-Za-z0-9._\-\[\]:]{1,255}")
_TOKEN = re.compile(r"[A-Z0-9]{59}")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,240}>")


def message_date(at: float) -> str:
    """RFC 5322 date and time, UTC, always 31 characters. at: seconds since the epoch."""
    return _date(math.floor(at))


@lru_cache(maxsize=8)
def _date(second: int) -> str:
    """Many messages are made in the same second."""
    t = time.gmtime(second)
    return (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon - 1]} {t.tm_year:04} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000"
    )


def new_message_id(domain: str, random_bytes: bytes) -> str:
    """A Message-ID of the sender's domain. random_bytes: at least 12, never used before."""
    if len(random_bytes) < 12:
        raise ValueError("a Message-ID needs at least 12 random bytes")
    return f"<{random_bytes.hex()}@{domain}>"


def _custom(headers: Mapping[str, str]) -> Iterator[str]:
    """The sender's own header lines. `{{ token }}` and its like may stand in their values."""
    for name, value in headers.items():
        if not _FIELD_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is not a header name")
        lowered = name.lower()
        if lowered in _NOT_CUSTOM or lowered.startswith(("content-", "arc-")):
            raise ConfigError(f"header {name} is written by mailcanary itself and cannot be set")
        if lowered == "subject":
            continue
        shown = parse_address(value).header() if lowered in _ADDRESS_FIELDS else _marked(value)
        yield f"{name}: {shown}\r\n" if lowered in _ADDRESS_FIELDS else header_line(name, shown)


def _marked(value: str) -> str:
    return re.sub(r"\{\{ ?(token|to|message_id|date) ?\}\}", lambda found: mark(found[1]), value)


def _unsubscribe(targets: Sequence[str], one_click: bool) -> Iterator[str]:
    """RFC 2369 and, for one click, RFC 8058."""
    for target in targets:
        if not _UNSUBSCRIBE.fullmatch(_marked(target)):
            raise ConfigError(f"list_unsubscribe: {target!r} is neither an https: nor a mailto: address")
    if targets:
        yield header_line("List-Unsubscribe", ", ".join(f"<{_marked(target)}>" for target in targets))
    if one_click:
        if not any(target.startswith("https://") for target in targets):
            raise ConfigError("list_unsubscribe: one click needs an https: address (RFC 8058)")
        yield "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"


def _subject(text: str) -> str:
    """The Subject with the token in square brackets, at its end where the template does not place it."""
    if not has_mark(text, "token"):
        return f"{text or templating.DEFAULT_SUBJECT} [{mark('token')}]"
    bracketed = f"[{mark('token')}]"
    return text if bracketed in text else text.replace(mark("token"), bracketed)


def _alternative(content: templating.Content) -> bytes:
    """Content headers, empty line and body of multipart/alternative (RFC 2046 section 5.1.4)."""
    parts = [
        ("text/plain", quoted_printable(content.text, is_html=False)),
        ("text/html", quoted_printable(content.html, is_html=True)),
    ]
    digest = hashlib.sha256("".join(body for _, body in parts).encode("ascii")).hexdigest()
    boundary = f"=_canary_{digest[:32]}"
    out = ["MIME-Version: 1.0\r\n", f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n']
    for kind, body in parts:
        out.append(
            f"--{boundary}\r\nContent-Type: {kind}; charset=utf-8\r\n"
            f"Content-Transfer-Encoding: quoted-printable\r\n\r\n{body.rstrip()}\r\n"
        )
    out.append(f"--{boundary}--\r\n")
    return "".join(out).encode("ascii")


class MessageTemplate:
    """One sender's message, composed once. `build` gives the canaries."""

    __slots__ = ("_mould", "from_address")

    def __init__(self, mould: Mould, from_address: Address) -> None:
        self._mould = mould
        self.from_address = from_address

    @classmethod
    def compile(
        cls,
        *,
        from_address: str | Address,
        sender: str,
        template: Path | None = None,
        headers: Mapping[str, str] | None = None,
        list_unsubscribe: Sequence[str] = (),
        one_click: bool = False,
        variables: Mapping[str, object] | None = None,
    ) -> MessageTemplate:
        """Composes a sender's message.

        from_address: `Name <local@domain>`; sender: the sender's id; template: a .eml or a Jinja2 file, None
        for the built-in one; headers: more of them (`Subject` replaces the template's); variables: for the
        Jinja2 file. Raises ConfigError or DataError, naming file and line where there is one.
        """
        origin = parse_address(from_address) if isinstance(from_address, str) else from_address
        headers = headers or {}
        given = next((value for name, value in headers.items() if name.lower() == "subject"), "")
        extra = [*_custom(headers), *_unsubscribe(list_unsubscribe, one_click)]
        if template is not None and template.suffix.lower() == ".eml":
            raw = read_raw_mail(template)
            subject, content = raw.subject, _kept_unless(raw.headers, extra) + raw.content
        else:
            known = {"sender": sender, "from_address": origin.address, "from_name": origin.name or sender}
            values = {**(variables or {}), **known}
            parts = templating.from_file(template, values) if template else templating.builtin(values)
            subject, content = parts.subject, _alternative(parts)
        top = (
            f"From: {origin.header()}\r\nTo: {mark('to')}\r\n"
            + header_line("Subject", _subject(_marked(given) or subject))
            + f"Date: {mark('date')}\r\nMessage-ID: {mark('message_id')}\r\n"
            + f"{TOKEN_HEADER}: {mark('token')}\r\n"
        )
        message = (top + "".join(extra)).encode("ascii") + content
        _check(template, message)
        return cls(Mould(message), origin)

    def build(self, token: str, to: str, message_id: str, at: float) -> bytes:
        """One canary, CRLF line ends, lines of at most 998 octets. Raises DataError on values that cannot
        stand in a header.

        token: canonical; to: the recipient's address; message_id: with its angle brackets; at: seconds since
        the epoch.
        """
        if not _TOKEN.fullmatch(token):
            raise DataError("not a token in canonical form")
        if not _TO.fullmatch(to):
            raise DataError(f"{to!r} is not an address that can be sent to as it is")
        if not _MESSAGE_ID.fullmatch(message_id):
            raise DataError(f"{message_id!r} is not a Message-ID")
        return self._mould.fill(
            {"token": token, "to": to, "message_id": message_id, "date": message_date(at)}
        )


def _kept_unless(headers: bytes, extra: Sequence[str]) -> bytes:
    """A raw message's own headers without those that the sender sets."""
    names = tuple(line.partition(":")[0].lower().encode() + b":" for line in extra)
    fields = re.split(rb"\r\n(?![ \t])", headers)
    kept = [field for field in fields if field and not (names and field.lower().startswith(names))]
    return b"".join(field + b"\r\n" for field in kept)


def _check(template: Path | None, message: bytes) -> None:
    """What must hold of every canary holds of its mould: line ends, line lengths, whole marks."""
    where = str(template or "the built-in template")
    if not marks_intact(message.decode("latin-1")):
        raise ConfigError(f"{where}: token, to, message_id and date cannot be cut or changed")
    bare = message.replace(b"\r\n", b"")
    if b"\r" in bare or b"\n" in bare or b"\0" in bare:
        raise DataError(f"{where}: a bare CR, LF or NUL")
    for number, line in enumerate(message.decode("latin-1").split("\r\n"), 1):
        if filled_width(line) > LINE_MAXIMUM:
            raise DataError(f"{where}: line {number} of the message may have {filled_width(line)} octets")
