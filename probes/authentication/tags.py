"""The tag=value lists of DKIM, ARC and key records (RFC 6376 section 3.2)."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]*\Z")
_FWS = b" \t\r\n"
_DELETE_FWS = _FWS

#: Tags that are read in one list; a real one has a dozen.
TAG_CAP = 100


class TagError(ValueError):
    """The list breaks RFC 6376 section 3.2."""


def parse_tags(text: bytes) -> dict[bytes, bytes]:
    """Reads a tag list. Names and values keep their case; a repeated name, an empty or a nameless tag is a
    TagError.
    """
    parts = text.split(b";", TAG_CAP + 1)
    if len(parts) > TAG_CAP:
        raise TagError(f"more than {TAG_CAP} tags")
    if not parts[-1].strip(_FWS):
        parts.pop()
    tags: dict[bytes, bytes] = {}
    for part in parts:
        name, equals, value = part.partition(b"=")
        name = name.strip(_FWS)
        if not equals or not (name.isalpha() or _NAME.match(name)):
            raise TagError(f"not a tag: {_shown(part)}")
        if name in tags:
            raise TagError(f"tag {_shown(name)} is there twice")
        tags[name] = value.strip(_FWS)
    return tags


def without_value(raw: bytes, tag: bytes = b"b") -> bytes:
    """A field with the value of one tag, and the space around it, deleted (RFC 6376 section 3.5, b=)."""
    head, colon, value = raw.partition(b":")
    parts = value.split(b";")
    for index, part in enumerate(parts):
        name, equals, _ = part.partition(b"=")
        if equals and name.strip(_FWS) == tag:
            parts[index] = name + equals
    return head + colon + b";".join(parts)


def base64_value(text: bytes) -> bytes:
    """Decodes base64 with folding white space in it. Missing padding is forgiven, anything else is a
    TagError.
    """
    packed = text.translate(None, _DELETE_FWS)
    try:
        return a2b_base64(packed + b"=" * (-len(packed) % 4), strict_mode=True)
    except Base64Error as error:
        raise TagError(f"not base64: {error}") from None


def list_value(text: bytes) -> tuple[bytes, ...]:
    """A colon-separated list, each item without white space around it."""
    return tuple(item.strip(_FWS) for item in text.split(b":"))


def number_value(text: bytes, digits: int = 76) -> int:
    """An unsigned decimal number, else a TagError."""
    if not text.isdigit() or len(text) > digits:
        raise TagError(f"not a number: {_shown(text)}")
    return int(text)


def _shown(text: bytes) -> str:
    return text[:40].decode("ascii", "backslashreplace").strip()
