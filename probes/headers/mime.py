"""The parts of a message, flat, for reading bounces: no tree, no recursion, every line looked at a few times
at most.

Knows what RFC 2046 needs and no more: nested multiparts are opened, base64 and quoted-printable undone, HTML
turned into its words. Never raises.
"""

from __future__ import annotations

import base64
import binascii
import html
import quopri
import re
from typing import NamedTuple

from probes.headers.scan import Field, scan, unfold

MAX_MESSAGE = 1024 * 1024
MAX_PARTS = 60
MAX_DEPTH = 5

_BOUNDARY = re.compile(rb"boundary\s*=\s*(?:\"([^\"]{1,200})\"|([^\s;\"]{1,200}))", re.IGNORECASE)
_DELIMITER = re.compile(rb"^--([^\r\n\s-][^\r\n]{0,200}?|-[^\r\n]{1,200}?)()\r?$", re.MULTILINE)
_CHARSET = re.compile(rb"charset\s*=\s*\"?([\w.:+-]{1,40})", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]{0,2000}>")
_INVISIBLE = re.compile(r"<(?:style|script|head)\b", re.IGNORECASE)
_BREAK = re.compile(r"<(?:br|/?p|/?div|/tr|/li|/h\d|/table)\b[^<>]{0,200}>", re.IGNORECASE)


class Part(NamedTuple):
    """One leaf: its media type in lower case, its header and its body, decoded from its transfer encoding."""

    type: str
    fields: list[Field]
    body: bytes
    charset: str

    @property
    def text(self) -> str:
        """The body as text with LF line ends; of HTML the words alone."""
        try:
            text = self.body.decode(self.charset, "replace")
        except (LookupError, ValueError):  # idna and undefined refuse what they are given
            text = self.body.decode("latin-1")
        text = text.replace("\r\n", "\n")
        return strip_html(text) if self.type == "text/html" else text


def parts(message: bytes) -> list[Part]:
    """All leaves in order; a message inside a message stays a leaf."""
    message = message[:MAX_MESSAGE]
    header = scan(message)
    found: list[Part] = []
    queue = [(header.fields, message[header.body :], 0)]
    while queue and len(found) < MAX_PARTS:
        fields, body, depth = queue.pop()
        kind, raw = _media_type(fields)
        boundary = None
        if kind.startswith("multipart/"):
            boundary = _BOUNDARY.search(raw) or _DELIMITER.search(body)
        if boundary is None or depth >= MAX_DEPTH:
            found.append(Part(kind, fields, _decode(fields, body), _charset(raw)))
            continue
        inner = []
        for piece in _split(body, boundary[1] or boundary[2]):
            head = scan(piece) if not piece.startswith((b"\n", b"\r\n")) else scan(b"")
            start = head.body if head.fields else 0
            inner.append(
                (head.fields, piece[start:].lstrip(b"\r\n") if not head.fields else piece[start:], depth + 1)
            )
        queue.extend(reversed(inner))
    return found


def _media_type(fields: list[Field]) -> tuple[str, bytes]:
    raw = next((item.raw for item in fields if item.name == "content-type"), b"")
    kind = unfold(raw[:200]).partition(";")[0].strip().lower()
    return (kind if "/" in kind else "text/plain"), raw[:4000]


def _charset(raw: bytes) -> str:
    found = _CHARSET.search(raw)
    name = found[1].decode("ascii") if found else "utf-8"
    return "utf-8" if name.lower() in ("us-ascii", "ascii", "unknown-8bit") else name


def _split(body: bytes, boundary: bytes) -> list[bytes]:
    """The bodies between the delimiter lines; what stands before the first and behind the closing one is no
    part, unless no delimiter is there at all."""
    mark = b"--" + boundary
    pieces = (b"\n" + body).split(b"\n" + mark, MAX_PARTS)
    if len(pieces) == 1:
        return [body]
    found = []
    for piece in pieces[1:]:
        if piece.startswith(b"--"):
            break
        line, _, rest = piece.partition(b"\n")
        if not line.strip():
            found.append(rest)
    return found


def _decode(fields: list[Field], body: bytes) -> bytes:
    how = next((item.text.lower() for item in fields if item.name == "content-transfer-encoding"), "")
    try:
        if how == "base64":
            return base64.b64decode(body + b"===")
        if how == "quoted-printable":
            return quopri.decodestring(body)
    except (binascii.Error, ValueError):
        pass
    return body


def strip_html(text: str) -> str:
    """The words of HTML, with line breaks where it breaks lines."""
    pieces = []
    for number, piece in enumerate(_INVISIBLE.split(text)):
        if number:
            end = piece.find("</")
            piece = piece[piece.find(">", end) + 1 :] if end >= 0 else ""
        pieces.append(piece)
    text = _BREAK.sub("\n", "".join(pieces).replace("\n", " "))
    return html.unescape(_TAG.sub("", text))
