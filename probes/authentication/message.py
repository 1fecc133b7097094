"""One pass over a message as received: header fields, body, and what canonicalization of them costs only
once.

Line ends are made CRLF first (RFC 6376 section 3.4 signs nothing else), so that a message kept with bare line
feeds verifies like the one that travelled.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1, sha256

from probes.authentication.canonical import body_relaxed, body_simple, header_relaxed

#: Bytes of header that are looked at; a message with more is read up to here.
HEADER_CAP = 2 * 1024 * 1024
#: Header fields that are looked at.
FIELD_CAP = 10_000

#: The separator of an mbox file is no header field, but `From : joe` is an obsolete one.
_MBOX = re.compile(rb"From [ \t]*[^ \t:]")
_FIELD_BREAK = re.compile(rb"\r\n(?![ \t])")


class Message:
    """A message split into header fields (without their final CRLF) and body. Never raises on hostile bytes.

    names: lower-case field names, top to bottom, empty where a line is no field; raws: the fields as they
    stand. What a header has beyond the caps is left out.
    """

    __slots__ = (
        "_bodies",
        "_hashes",
        "_plain",
        "_relaxed",
        "body",
        "names",
        "positions",
        "raws",
    )

    def __init__(self, raw: bytes) -> None:
        if raw.count(b"\n") != raw.count(b"\r\n"):
            raw = raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        head, self.body = _split(raw)
        fields = _FIELD_BREAK.split(head[:HEADER_CAP], maxsplit=FIELD_CAP) if head else []
        if len(fields) > FIELD_CAP:
            del fields[-1]
        if fields and _MBOX.match(fields[0]):
            del fields[0]
        self.raws = fields
        self.names = names = [_name(field) for field in fields]
        self.positions: dict[bytes, list[int]] = {}
        for index, name in enumerate(names):
            if name:
                self.positions.setdefault(name, []).append(index)
        # Only white space that bytes.split() and RFC 6376 both know may take the fast road.
        self._plain = b"\x0b" not in head and b"\x0c" not in head and head.count(b"\r") == head.count(b"\n")
        self._relaxed: dict[int, bytes] = {}
        self._bodies: dict[bool, bytes] = {}
        self._hashes: dict[tuple[bool, int | None, str], bytes] = {}

    def indexes(self, name: bytes) -> list[int]:
        """Where the fields of this lower-case name stand, top to bottom."""
        return self.positions.get(name, [])

    def value(self, index: int) -> bytes:
        """What follows the colon of a field, folded as it came."""
        return self.raws[index].partition(b":")[2]

    def header(self, index: int, relaxed: bool) -> bytes:
        """A field in canonical form (RFC 6376 sections 3.4.1, 3.4.2), without the final CRLF."""
        if not relaxed:
            return self.raws[index]
        found = self._relaxed.get(index)
        if found is None:
            raw = self.raws[index]
            _, colon, value = raw.partition(b":")
            if self._plain and colon:
                found = self.names[index] + b":" + b" ".join(value.split())
            else:
                found = header_relaxed(raw)
            self._relaxed[index] = found
        return found

    def canonical_body(self, relaxed: bool) -> bytes:
        """The body in canonical form (RFC 6376 sections 3.4.3, 3.4.4)."""
        found = self._bodies.get(relaxed)
        if found is None:
            found = self._bodies[relaxed] = body_relaxed(self.body) if relaxed else body_simple(self.body)
        return found

    def body_hash(self, relaxed: bool, length: int | None, algorithm: str = "sha256") -> bytes:
        """Digest of the canonical body, of its first `length` octets where a signature says so (l=)."""
        key = (relaxed, length, algorithm)
        found = self._hashes.get(key)
        if found is None:
            body = self.canonical_body(relaxed)
            data = memoryview(body)[:length] if length is not None else body
            digest = sha256(data) if algorithm == "sha256" else sha1(data, usedforsecurity=False)
            found = self._hashes[key] = digest.digest()
        return found

    def body_hash_text(self, relaxed: bool, length: int | None) -> str:
        """The SHA-256 body hash in base64, as bh= shows it."""
        return b64encode(self.body_hash(relaxed, length)).decode("ascii")


def _split(raw: bytes) -> tuple[bytes, bytes]:
    if raw.startswith(b"\r\n"):
        return b"", raw[2:]
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return raw.removesuffix(b"\r\n"), b""
    return raw[:end], raw[end + 4 :]


def _name(field: bytes) -> bytes:
    name, colon, _ = field.partition(b":")
    return name.rstrip(b" \t").lower() if colon else b""
