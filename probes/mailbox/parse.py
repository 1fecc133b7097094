"""What the data of IMAP responses says: values, FETCH items, LIST entries, SEARCH numbers, response codes.

Pure, iterative, linear in the input; raises DataError and nothing else. An atom comes back as str, a
string (quoted or literal) as bytes, NIL as None and a parenthesised list as tuple, so that a message whose
text looks like protocol stays a string (RFC 3501 section 4).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final, TypeAlias

from probes.errors import DataError

Value: TypeAlias = "str | bytes | tuple[Value, ...] | None"

NESTING_CAP: Final = 50
_RUN: Final = re.compile(rb'[^ ()"\[]+')
_QUOTED: Final = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_CODE: Final = re.compile(rb"\[([^\]]*)\] ?")
_DATE: Final = re.compile(rb" ?(\d{1,2})-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\Z")
_MONTHS: Final = b"jan feb mar apr may jun jul aug sep oct nov dec".split()


def parse_values(parts: Sequence[bytes]) -> tuple[Value, ...]:
    """The values in a response that is cut as text, literal, text, ... (wire.ServerResponse)."""
    stack: list[list[Value]] = [[]]
    for index, part in enumerate(parts):
        if index % 2:
            stack[-1].append(part)
        else:
            _parse_text(part, stack)
    if len(stack) != 1:
        raise DataError("a list is not closed")
    return tuple(stack[0])


def _parse_text(text: bytes, stack: list[list[Value]]) -> None:
    position, end = 0, len(text)
    while position < end:
        byte = text[position]
        if byte == 0x20:
            position += 1
        elif byte == 0x28:
            if len(stack) > NESTING_CAP:
                raise DataError("lists nested too deep")
            stack.append([])
            position += 1
        elif byte == 0x29:
            if len(stack) == 1:
                raise DataError("a list is closed that was never opened")
            closed = tuple(stack.pop())
            stack[-1].append(closed)
            position += 1
        elif byte == 0x22:
            position = _take_quoted(text, position, stack[-1])
        else:
            position = _take_atom(text, position, stack[-1])


def _take_quoted(text: bytes, position: int, into: list[Value]) -> int:
    found = _QUOTED.match(text, position)
    if found is None:
        raise DataError("a quoted string is not closed")
    content = found.group(1)
    into.append(_ESCAPED.sub(rb"\1", content) if b"\\" in content else content)
    return found.end()


def _take_atom(text: bytes, position: int, into: list[Value]) -> int:
    """An atom; square brackets in it may hold anything: BODY[HEADER.FIELDS (SUBJECT)]<0>, [Gmail]/Spam."""
    start, end = position, len(text)
    while position < end:
        if text[position] == 0x5B:
            closing = text.find(b"]", position)
            position = closing + 1 if closing >= 0 else end
        else:
            run = _RUN.match(text, position)
            if run is None:
                break
            position = run.end()
    atom = text[start:position].decode("latin-1")
    into.append(None if atom.upper() == "NIL" else atom)
    return position


def fetch_items(parts: Sequence[bytes]) -> dict[str, Value] | None:
    """The items of one FETCH response, keys in upper case and without a <origin>; None for other responses.

    `parts` begins with "* 12 FETCH (". Both BODY[HEADER] and BODY[HEADER]<0> come back as "BODY[HEADER]".
    """
    values = parse_values(parts)
    if len(values) < 4 or not isinstance(values[2], str) or values[2].upper() != "FETCH":
        return None
    items = values[3]
    if not isinstance(items, tuple) or len(items) % 2:
        raise DataError("FETCH data is not a list of pairs")
    result: dict[str, Value] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str):
            raise DataError("a FETCH item has no name")
        result[key.upper().partition("]<")[0] + ("]" if "]<" in key else "")] = value
    return result


def number(value: Value) -> int | None:
    """An atom that is a number below 2**64, else None."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)
    return None


def numbers(lines: Iterable[bytes]) -> list[int]:
    """The numbers of all "* SEARCH 1 2 3" lines among `lines`."""
    found: list[int] = []
    for line in lines:
        if line[:8].upper() == b"* SEARCH":
            found.extend(int(word) for word in line[8:].split() if word.isdigit() and len(word) < 20)
    return found


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One LIST response. name: as the server writes it (modified UTF-7), one character a byte; flags:
    lower case."""

    name: str
    flags: frozenset[str]
    delimiter: str | None


def list_entry(parts: Sequence[bytes]) -> ListEntry | None:
    """The folder a LIST response tells of, or None for other responses (RFC 3501 section 7.2.2)."""
    values = parse_values(parts)
    if len(values) < 5 or not isinstance(values[1], str) or values[1].upper() != "LIST":
        return None
    flags, delimiter, name = values[2], values[3], values[4]
    if not isinstance(flags, tuple):
        raise DataError("LIST without flags")
    return ListEntry(
        name=as_text(name) or "NIL",
        flags=frozenset(flag.lower() for flag in flags if isinstance(flag, str)),
        delimiter=as_text(delimiter),
    )


def as_text(value: Value) -> str | None:
    """An atom or string as text, one character a byte; None for NIL and lists."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else None


def status_items(parts: Sequence[bytes]) -> dict[str, int] | None:
    """The numbers of a STATUS response, keys in upper case; None for other responses."""
    values = parse_values(parts)
    if len(values) < 4 or not isinstance(values[1], str) or values[1].upper() != "STATUS":
        return None
    items = values[-1]
    if not isinstance(items, tuple):
        raise DataError("STATUS without a list")
    pairs = zip(items[::2], items[1::2], strict=False)
    told = {key.upper(): number(value) for key, value in pairs if isinstance(key, str)}
    return {key: value for key, value in told.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Code:
    """A response code such as [UIDNEXT 44]: name in upper case, the rest as text, and the human text
    behind it."""

    name: str
    argument: str
    text: str


def response_code(text: bytes) -> Code:
    """The code at the head of a status response's text; name is empty where there is none (RFC 3501
    section 7.1)."""
    found = _CODE.match(text)
    if found is None:
        return Code("", "", printable(text))
    name, _, argument = found.group(1).decode("latin-1").partition(" ")
    return Code(name.upper(), argument, printable(text[found.end() :]))


def printable(text: bytes, cap: int = 300) -> str:
    """Server text fit for a log line or an alert: capped, control characters replaced."""
    shown = text[:cap].decode("utf-8", "replace")
    if shown.isprintable():
        return shown
    return "".join(char if char.isprintable() else "?" for char in shown)


def internal_date(value: Value) -> float | None:
    """INTERNALDATE as seconds since the epoch, None where it is not a date (RFC 3501 section 9,
    date-time)."""
    return _moment(value) if isinstance(value, bytes) and len(value) <= 27 else None


@lru_cache(maxsize=256)
def _moment(value: bytes) -> float | None:
    """Many messages come in the same second."""
    found = _DATE.match(value)
    if found is None:
        return None
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
    try:
        offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
        zone = timezone(-offset if sign == b"-" else offset)
        moment = datetime(
            int(year),
            _MONTHS.index(month.lower()) + 1,
            int(day),
            int(hour),
            int(minute),
            min(int(second), 59),  # a leap second
            tzinfo=zone,
        )
        return moment.timestamp()
    except (ValueError, OverflowError):
        return None


def search_day(wall: float) -> str:
    """Seconds since the epoch as the date that SEARCH SINCE takes, in UTC: 21-Nov-2026."""
    moment = datetime.fromtimestamp(wall, UTC)
    return f"{moment.day}-{_MONTHS[moment.month - 1].decode().title()}-{moment.year}"
