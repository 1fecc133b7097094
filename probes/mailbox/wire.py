"""From a stream of bytes to whole IMAP server responses, literals kept apart (RFC 3501 sections 2.2 and 4.3).

The line loop is iterative and linear: no response, however cut into packets, makes it recurse or look
twice at the same byte, and the content of a literal is never read as protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from probes.errors import MailboxUnavailable

LINE_CAP: Final = 1024 * 1024
"""Bytes in one line; a SEARCH answer of 100,000 UIDs fits."""
LITERAL_CAP: Final = 1024 * 1024
"""Bytes in one literal; requests are partial fetches below it, so that a bigger one is not an answer to
us."""
RESPONSE_CAP: Final = 4 * 1024 * 1024
"""Bytes in all parts of one response."""
PARTS_CAP: Final = 2_000
"""Literals in one response."""

_LITERAL: Final = re.compile(rb"~?\{(\d{1,19})\+?\}\Z")
_FREE_TEXT: Final = re.compile(rb"\* (?:OK|NO|BAD|BYE|PREAUTH)(?: |\Z)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """One response: text, literal, text, literal, ... text. The announcements ({12}) are cut off the
    texts."""

    parts: tuple[bytes, ...]

    @property
    def line(self) -> bytes:
        """The first text: all there is where no literal follows."""
        return self.parts[0]

    @property
    def size(self) -> int:
        """Bytes in all parts."""
        return sum(map(len, self.parts))


class Assembler:
    """Cuts what a server sends into responses; raises MailboxUnavailable where a cap is passed."""

    __slots__ = ("_buffer", "_parts", "_scanned", "_size", "_wanted", "line_cap", "literal_cap")

    def __init__(self, line_cap: int = LINE_CAP, literal_cap: int = LITERAL_CAP) -> None:
        self.line_cap = line_cap
        self.literal_cap = literal_cap
        self._buffer = bytearray()
        self._scanned = 0  # no CRLF starts before this offset
        self._parts: list[bytes] = []
        self._size = 0
        self._wanted = -1  # bytes of the literal being read, -1: reading a line

    @property
    def empty(self) -> bool:
        """True when not one byte waits: what STARTTLS must find before it begins."""
        return not self._buffer and not self._parts and self._wanted < 0

    def feed(self, data: bytes) -> list[ServerResponse]:
        """The responses that `data` completes, in order."""
        self._buffer += data
        done: list[ServerResponse] = []
        start = 0
        while True:
            end = self._literal_end(start) if self._wanted >= 0 else self._line_end(start)
            if end < 0:
                break
            if self._wanted >= 0:
                self._add(bytes(self._buffer[start:end]))
                self._wanted = -1
            else:
                self._take_line(bytes(self._buffer[start : end - 2]), done)
            start = self._scanned = end
        if start:
            del self._buffer[:start]
            self._scanned -= start
        return done

    def _literal_end(self, start: int) -> int:
        end = start + self._wanted
        return end if end <= len(self._buffer) else -1

    def _line_end(self, start: int) -> int:
        found = self._buffer.find(b"\r\n", max(start, self._scanned))
        if found < 0:
            self._scanned = max(start, len(self._buffer) - 1)  # a CR may be the last byte so far
        length = (found if found >= 0 else len(self._buffer)) - start
        if length > self.line_cap:
            raise MailboxUnavailable(f"a line of more than {self.line_cap} bytes", reason="protocol-error")
        return found + 2 if found >= 0 else -1

    def _take_line(self, line: bytes, done: list[ServerResponse]) -> None:
        announced = self._announced(line)
        if announced is None:
            self._add(line)
            done.append(ServerResponse(tuple(self._parts)))
            self._parts.clear()
            self._size = 0
            return
        size = int(announced.group(1))
        if size > self.literal_cap:
            raise MailboxUnavailable(
                f"a literal of {size} bytes, cap {self.literal_cap}", reason="protocol-error"
            )
        self._add(line[: announced.start()])
        self._wanted = size

    def _announced(self, line: bytes) -> re.Match[bytes] | None:
        """Free text of a status response may end in {5} and announces nothing (RFC 3501 section 7.1)."""
        if not line.endswith(b"}"):
            return None
        if not self._parts and (not line.startswith(b"* ") or _FREE_TEXT.match(line)):
            return None
        return _LITERAL.search(line, max(0, len(line) - 24))

    def _add(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)
        if self._size > RESPONSE_CAP or len(self._parts) > 2 * PARTS_CAP:
            raise MailboxUnavailable("a response beyond all measure", reason="protocol-error")
