"""The user's own raw .eml as a canary: its parts stay as they are, its identity becomes the sender's, the
token goes in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email import message_from_bytes
from email.generator import BytesGenerator
from email.header import decode_header, make_header
from email.message import Message
from email.policy import compat32
from io import BytesIO
from pathlib import Path

from probes.canary.mime import LINE_MAXIMUM, SLOTS, mark, quoted_printable
from probes.canary.templating import page_with_token, text_with_token
from probes.errors import ConfigError, DataError

_SIZE_MAXIMUM = 10 * 1024 * 1024
_PLACEHOLDER = re.compile(rf"\{{\{{\s{{0,8}}({'|'.join(SLOTS)})\s{{0,8}}\}}\}}")
_OURS = frozenset(
    "from to cc bcc subject date message-id sender return-path received delivered-to x-original-to "
    "dkim-signature domainkey-signature authentication-results received-spf x-mailcanary-token "
    "mime-version content-type content-transfer-encoding content-disposition content-id "
    "resent-from resent-to resent-date resent-message-id".split()
)
_OURS_PREFIXES = ("arc-", "x-google-", "x-ms-exchange-", "x-received")


@dataclass(frozen=True, slots=True)
class RawMail:
    """A raw message made ready. subject: decoded as it stood; headers: kept ones, with marks, each ending in
    CRLF; content: from MIME-Version on, with the empty line and the body, marks in place."""

    subject: str
    headers: bytes
    names: frozenset[str]
    content: bytes


def _normalised(path: Path, raw: bytes) -> bytes:
    """CRLF line ends. Raises DataError, with the line, on a bare CR, a NUL or a line over 998 octets."""
    if len(raw) > _SIZE_MAXIMUM:
        raise DataError(f"{path}: larger than {_SIZE_MAXIMUM} bytes")
    lines = raw.replace(b"\r\n", b"\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        if b"\r" in line:
            raise DataError(f"{path}:{number}: a bare CR, which breaks signatures")
        if b"\0" in line:
            raise DataError(f"{path}:{number}: a NUL byte")
        if len(line) > LINE_MAXIMUM:
            raise DataError(f"{path}:{number}: {len(line)} octets in a line, at most {LINE_MAXIMUM} may be")
    return b"\r\n".join(lines).rstrip(b"\r\n") + b"\r\n"


def _with_marks(text: str) -> str:
    return _PLACEHOLDER.sub(lambda found: mark(found[1]), text)


def _text_parts(message: Message) -> list[Message]:
    return [
        part
        for part in message.walk()
        if part.get_content_type() in ("text/plain", "text/html")
        and part.get_content_disposition() != "attachment"
    ]


def _put_token(path: Path, part: Message) -> None:
    """Decodes a text part, puts the token in, and encodes it as quoted-printable UTF-8 with marks kept
    whole."""
    payload = part.get_payload(decode=True)
    charset = part.get_content_charset("utf-8")
    try:
        text = payload.decode(charset) if isinstance(payload, bytes) else ""
    except (LookupError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: a text part is not the {charset} it claims to be: {error}") from error
    is_html = part.get_content_type() == "text/html"
    text = _with_marks(text)
    text = page_with_token(text) if is_html else text_with_token(text)
    del part["Content-Transfer-Encoding"]
    part["Content-Transfer-Encoding"] = "quoted-printable"
    part.set_param("charset", "utf-8")
    part.set_payload(quoted_printable(text, is_html=is_html))


def _kept(message: Message) -> tuple[bytes, frozenset[str]]:
    """The headers that stay, unchanged but for placeholders."""
    out = b""
    names = set()
    for name, value in message.raw_items():
        lowered = name.lower()
        if lowered in _OURS or lowered.startswith(_OURS_PREFIXES):
            continue
        folded = re.sub(r"\r?\n(?=[ \t])", "\r\n", _with_marks(str(value)))
        out += f"{name}: {folded}\r\n".encode("utf-8", "surrogateescape")
        names.add(lowered)
    return out, frozenset(names)


def _content(message: Message) -> bytes:
    for name in {name for name, _ in message.raw_items()}:
        if not name.lower().startswith("content-"):
            del message[name]
    out = BytesIO()
    policy = compat32.clone(linesep="\r\n", max_line_length=None)
    BytesGenerator(out, mangle_from_=False, policy=policy).flatten(message)
    return b"MIME-Version: 1.0\r\n" + out.getvalue()


def _subject(message: Message) -> str:
    try:
        text = str(make_header(decode_header(str(message.get("Subject", "")))))
    except (LookupError, UnicodeDecodeError, ValueError):
        text = ""
    return " ".join(_with_marks(text).split())


def read_raw_mail(path: Path) -> RawMail:
    """Reads a template message. `{{ token }}`, `{{ to }}`, `{{ message_id }}` and `{{ date }}` are
    placeholders.

    Raises ConfigError where the file cannot be read, DataError with the line where it cannot be mail.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    message = message_from_bytes(_normalised(path, raw), policy=compat32)
    parts = _text_parts(message)
    if not message.keys():
        raise DataError(f"{path}:1: no header: a message starts with header lines and an empty line")
    if not parts:
        raise DataError(f"{path}: no text/plain or text/html part that could carry the token")
    for part in parts:
        _put_token(path, part)
    headers, names = _kept(message)
    return RawMail(_subject(message), headers, names, _content(message))
