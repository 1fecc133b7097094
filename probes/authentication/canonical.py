"""Canonical forms of header fields and bodies (RFC 6376 section 3.4), each in linear time.

All take and give CRLF line ends. White space is SP and TAB only: a vertical tab or a bare CR is content.
"""

from __future__ import annotations

import re

_WSP_RUN = re.compile(rb"[ \t]+")


def header_relaxed(field: bytes) -> bytes:
    """Section 3.4.2: name in lower case, unfolded, runs of white space one space, none around the colon."""
    name, colon, value = field.partition(b":")
    if not colon:
        return field
    value = _WSP_RUN.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.rstrip(b" \t").lower() + b":" + value


def body_simple(body: bytes) -> bytes:
    """Section 3.4.3: empty lines at the end go; what is left ends in CRLF, even when it is nothing."""
    trimmed = _without_empty_tail(body)
    return trimmed if trimmed.endswith(b"\r\n") else trimmed + b"\r\n"


def body_relaxed(body: bytes) -> bytes:
    """Section 3.4.4: no white space at line ends, runs of it one space, no empty lines at the end."""
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    while b"  " in body:  # halves every run: the passes are few, and each is one copy
        body = body.replace(b"  ", b" ")
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    body = _without_empty_tail(body.removesuffix(b" "))
    return body if not body or body.endswith(b"\r\n") else body + b"\r\n"


def _without_empty_tail(body: bytes) -> bytes:
    """Cuts the CRLF pairs at the end down to the one that ends the last line (none where all is empty)."""
    if not body.endswith(b"\r\n\r\n") and body != b"\r\n":
        return body
    kept = len(body.rstrip(b"\r\n"))
    alone = body.rfind(b"\r\r", kept)  # a CR of its own is content; line feeds never stand alone here
    if alone >= 0:
        kept = alone + 1
    return body[: kept + 2] if kept else b""
