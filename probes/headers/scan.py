"""The header of a message as a list of fields, in linear time and whatever the bytes are.

RFC 5322 section 2.2 describes what is expected. What arrives is worse: bare CR and NUL, lines without a
colon, white space before it, a leading mbox "From " line, megabytes. Nothing raises, and nothing is looked
at twice.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
from typing import NamedTuple

MAX_HEADER_BYTES = 256 * 1024
"""What lies beyond is not read: real headers stay below 100 KiB, and what a provider writes is on top."""
MAX_FIELDS = 2_000
MAX_FIELD_BYTES = 64 * 1024

_LINE_END = re.compile(rb"\n(?![ \t])")  # of a line and all its folds
_FIELD_NAME = re.compile(rb"([!-9;-~]{1,200}+)[ \t]*+")
_END = re.compile(rb"\n\r?\n")
_NOT_BLANK = re.compile(rb"[^\r\n]|\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?\s]{0,4000})\?=")
_BETWEEN_ENCODED = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")


class Field(NamedTuple):
    """One header field: its name in lower case and its value as it came, folds and all."""

    name: str
    raw: bytes

    @property
    def text(self) -> str:
        """The value unfolded, every run of white space one blank (RFC 5322 section 2.2.3)."""
        return unfold(self.raw)


class Header(NamedTuple):
    """The fields from the top down; `body` is the offset at which the body starts, `cut` that a cap was
    reached. Lines that are neither a field nor a continuation are left out."""

    fields: list[Field]
    body: int
    cut: bool


def scan(raw: bytes) -> Header:
    """Splits the header off `raw` (a message or a header alone) into fields. Linear time, never raises."""
    start = _start(raw)
    end, body = _extent(raw, start)
    cut = end - start > MAX_HEADER_BYTES
    if cut:
        end = start + MAX_HEADER_BYTES
    lines = _LINE_END.split(raw[start:end], MAX_FIELDS)
    if len(lines) > MAX_FIELDS:
        cut = cut or any(lines[MAX_FIELDS:])
        del lines[MAX_FIELDS:]
    new, names = _new, _NAMES
    fields = [
        new(Field, (name, value))
        for octets, colon, value in [line.partition(b":") for line in lines]
        if (name := names[octets]) and colon
    ]
    if end - start > MAX_FIELD_BYTES:
        cut = cut or any(len(value) > MAX_FIELD_BYTES for _, value in fields)
        fields = [Field(name, value[:MAX_FIELD_BYTES]) for name, value in fields]
    return Header(fields, body, cut)


_new = tuple.__new__  # what NamedTuple's constructor does, at half its cost


class _Names(dict[bytes, str]):
    """Field names in lower case as they come, "" for what is none (RFC 5322 section 2.2: printable ASCII).
    Kept, as far as they are short and few, for a header holds hardly one that was never seen."""

    def __missing__(self, octets: bytes) -> str:
        found = _FIELD_NAME.fullmatch(octets)
        name = found[1].lower().decode("ascii") if found is not None else ""
        if len(octets) <= 80:
            if len(self) >= 2048:
                self.clear()
            self[octets] = name
        return name


_NAMES = _Names()


def _start(raw: bytes) -> int:
    """The offset of the first field: a byte order mark, blank lines and the "From " line of an mbox are
    stepped over."""
    start = 3 if raw[:3] == b"\xef\xbb\xbf" else 0
    if raw[start : start + 1] in (b"\r", b"\n"):
        start = _NOT_BLANK.search(raw, start).start()  # type: ignore[union-attr]  # it matches the end as well
    if raw.startswith((b"From ", b">From "), start):
        return raw.find(b"\n", start) + 1 or len(raw)
    return start


def _extent(raw: bytes, start: int) -> tuple[int, int]:
    """Where the header ends and where the body starts. An empty line ends it; one of blanks alone does not
    continue a field either, except in the eyes of obsolete folding, which no provider writes."""
    found = _END.search(raw, start)
    return (found.start() + 1, found.end()) if found is not None else (len(raw), len(raw))


def unfold(raw: bytes) -> str:
    """Text of a field's value: one blank for every run of white space."""
    return " ".join(decode(raw).split())


def decode(raw: bytes) -> str:
    """Text of a field's value, folds and all: UTF-8 where it is, else Latin-1."""
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return raw.decode("latin-1")


def printable(text: str) -> str:
    """Text without control characters, fit to be shown."""
    return _CONTROL.sub("", text)


def decode_words(text: str) -> str:
    """Decodes RFC 2047 encoded words wherever they stand; one that cannot be decoded stays as it is."""
    if "=?" not in text:
        return text
    return _ENCODED_WORD.sub(_decode_word, _BETWEEN_ENCODED.sub(r"\1", text))


def _decode_word(match: re.Match[str]) -> str:
    charset, how, data = match.groups()
    try:
        if how in "bB":
            octets = base64.b64decode(data + "=" * (-len(data) % 4))
        else:
            octets = quopri.decodestring(data.replace("_", " ").encode("ascii"))
        return octets.decode(charset.partition("*")[0])
    except (LookupError, ValueError, binascii.Error):
        return match.group()
