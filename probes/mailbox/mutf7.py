"""Modified UTF-7, the alphabet of IMAP folder names (RFC 3501 section 5.1.3)."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64

_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")
_NOT_ASCII = re.compile(r"[^\x20-\x7e]+")


def decode(name: str) -> str:
    """A folder's name as people read it; a name that is not valid modified UTF-7 comes back as it is.

    Servers with UTF8=ACCEPT habits send UTF-8 (here one character a byte): that is read too.
    """
    if not name.isascii():
        try:
            return name.encode("latin-1").decode("utf-8")
        except UnicodeError:
            return name
    try:
        return _SHIFTED.sub(_unshift, name)
    except (Error, UnicodeError):
        return name


def encode(name: str) -> str:
    """A folder's name as the protocol wants it."""
    return _NOT_ASCII.sub(_shift, name.replace("&", "&-"))


def _unshift(found: re.Match[str]) -> str:
    code = found.group(1)
    if not code:
        return "&"
    return a2b_base64(code.replace(",", "/") + "=" * (-len(code) % 4)).decode("utf-16-be")


def _shift(found: re.Match[str]) -> str:
    packed = b2a_base64(found.group().encode("utf-16-be"), newline=False).decode("ascii")
    return "&" + packed.rstrip("=").replace("/", ",") + "-"
