"""Pieces of a message: addresses, header text (RFC 2047), quoted-printable, and the places where values go
in later.

A message is composed once, with *marks* where token, recipient, Message-ID and date will stand. A mark
survives every encoding here as one piece, so that the finished bytes can be cut at the marks and a canary is
one join.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.header import Header

from probes.errors import ConfigError

LINE_MAXIMUM = 998
_QP_WIDTH = 75
_HEADER_WIDTH = 76

SLOTS = ("token", "to", "message_id", "date")
_WIDTHS = {"token": 59, "date": 31}
"""Fixed widths in a body line; the other values get lines of their own."""
_WIDEST = {"token": 59, "date": 31, "to": 320, "message_id": 256}

_MARK = re.compile(r"Zq7x(token|to|message_id|date)x([rth])x7qZ")
_MARK_BYTES = re.compile(_MARK.pattern.encode("ascii"))
_DAMAGED = re.compile(r"zq7x|x7qz", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ADDRESS = re.compile(
    r"(?P<local>[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64})@(?P<domain>[^\s@<>()\[\],;:\\\"]{1,255})"
)
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")


def mark(slot: str, form: str = "r") -> str:
    """The stand-in for a value. form: r as it is, t inside quoted-printable text, h inside quoted-printable
    HTML."""
    return f"Zq7x{slot}x{form}x7qZ"


def marks_intact(text: str) -> bool:
    """Whether every trace of a mark is a whole mark: a template's filter may have cut or changed one."""
    return len(_DAMAGED.findall(text)) == 2 * len(_MARK.findall(text))


def has_mark(text: str, slot: str) -> bool:
    """Whether the value of this slot will stand in this text."""
    return mark(slot) in text


def filled_width(line: str) -> int:
    """How long a line can become when its marks are filled; in quoted-printable long values are broken up."""
    widths = [_WIDEST[slot] if form == "r" else 76 for slot, form in _MARK.findall(line)]
    return len(_MARK.sub("", line)) + sum(widths)


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox of RFC 5322. name: as people read it; address: ASCII, an international domain in its A-label
    form."""

    address: str
    name: str = ""

    @property
    def domain(self) -> str:
        """The part behind the @."""
        return self.address.rpartition("@")[2]

    def header(self) -> str:
        """As it stands in a header: atoms, a quoted string, or encoded words."""
        if not self.name:
            return self.address
        if not self.name.isascii() or "=?" in self.name:
            return f"{_encoded(self.name)} <{self.address}>"
        if _ATOMS.fullmatch(self.name):
            return f"{self.name} <{self.address}>"
        quoted = self.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" <{self.address}>'


def parse_address(text: str) -> Address:
    """`Name <local@domain>` or `local@domain`. Raises ConfigError: control characters, no address, two of
    them."""
    if _CONTROL.search(text):
        raise ConfigError(f"{text!r} has a control character where an address belongs")
    name, bracket, rest = text.strip().rpartition("<")
    address = rest.removesuffix(">").strip() if bracket else text.strip()
    found = _ADDRESS.fullmatch(address)
    if not found or (bracket and not rest.endswith(">")) or ".." in address:
        raise ConfigError(f"{text!r} is not an address like Name <local@domain.example>")
    try:
        domain = found["domain"].encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise ConfigError(f"{text!r}: {error}") from error
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return Address(f"{found['local']}@{domain}", name)


def _encoded(text: str) -> str:
    """RFC 2047 encoded words, folded."""
    return Header(text, "utf-8", maxlinelen=_HEADER_WIDTH, header_name="X-Long-Name-To-Fold").encode(
        linesep="\r\n"
    )


def _needs_encoding(word: str) -> bool:
    return not word.isascii() or "=?" in word


def _words(text: str) -> Iterator[str]:
    """Words for a header line: marks stand alone, runs of words that need encoding are encoded together."""
    pending: list[str] = []
    for word in _MARK.sub(lambda found: f" {found[0]} " if _beside_encoded(text) else found[0], text).split():
        if _needs_encoding(word):
            pending.append(word)
            continue
        if pending:
            yield _encoded(" ".join(pending))
            pending = []
        yield word
    if pending:
        yield _encoded(" ".join(pending))


def _beside_encoded(text: str) -> bool:
    """A mark within a word that needs encoding has to stand apart from it."""
    return any(_MARK.search(word) and _needs_encoding(word) for word in text.split())


def header_line(name: str, text: str) -> str:
    """One header field with folding (RFC 5322 section 2.2.3) and encoded words, ending in CRLF.

    Raises ConfigError on control characters, so that no header can be smuggled in, and on a line over 998
    octets.
    """
    if _CONTROL.search(text):
        raise ConfigError(f"header {name}: a control character or line break in its value")
    lines = [f"{name}:"]
    for word in _words(text):
        width = len(_MARK.sub(lambda found: "x" * _WIDTHS.get(found[1], 76), word))
        if len(lines[-1]) + 1 + width > _HEADER_WIDTH and lines[-1] != f"{name}:":
            lines.append("")
        lines[-1] += f" {word}"
    if any(len(line) > LINE_MAXIMUM for line in lines):
        raise ConfigError(f"header {name}: a word longer than {LINE_MAXIMUM} characters")
    return "\r\n".join(lines) + "\r\n"


def _qp_character(character: str) -> str:
    if character != "=" and ("!" <= character <= "~" or character in " \t"):
        return character
    return "".join(f"={byte:02X}" for byte in character.encode("utf-8"))


def _qp_units(line: str, form: str) -> Iterator[tuple[str, int]]:
    """What must not be torn apart, with its width; 0 for a value that gets lines of its own."""
    position = 0
    for found in _MARK.finditer(line):
        yield from ((_qp_character(c), len(_qp_character(c))) for c in line[position : found.start()])
        yield mark(found[1], form), _WIDTHS.get(found[1], 0)
        position = found.end()
    yield from ((_qp_character(c), len(_qp_character(c))) for c in line[position:])


def _qp_line(line: str, form: str) -> str:
    out: list[str] = []
    room = _QP_WIDTH
    for unit, width in _qp_units(line, form):
        if width == 0 or width > room:
            out.append("=\r\n")
            room = _QP_WIDTH
        out.append(unit)
        room = 0 if width == 0 else room - width
    if out and out[-1] in (" ", "\t"):
        out[-1] = f"={ord(out[-1]):02X}"
    return "".join(out)


def quoted_printable(text: str, *, is_html: bool) -> str:
    """RFC 2045 section 6.7 with CRLF line ends, marks kept whole and told what they stand in."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\r\n".join(_qp_line(line, "h" if is_html else "t") for line in lines)


def _qp_value(value: str) -> bytes:
    """A value within a quoted-printable body, on lines of its own where it is long."""
    coded = "".join(_qp_character(character) for character in value)
    if len(coded) <= _QP_WIDTH - 2:
        return coded.encode("ascii")
    units = [_qp_character(character) for character in value]
    lines = ["".join(units[start : start + 24]) for start in range(0, len(units), 24)]
    return "=\r\n".join(lines).encode("ascii")


def fill(slot: str, form: str, value: str) -> bytes:
    """The bytes of a value in the form of its mark. Tokens and dates have no character that any form
    changes."""
    if form == "r" or slot in _WIDTHS:
        return value.encode("ascii")
    return _qp_value(html.escape(value) if form == "h" else value)


class Mould:
    """A finished message cut at its marks: to fill it is one join."""

    __slots__ = ("_keys", "_literals", "_order")

    def __init__(self, message: bytes) -> None:
        pieces = _MARK_BYTES.split(message)
        self._literals = pieces[0::3]
        self._order = [
            (slot.decode("ascii"), form.decode("ascii"))
            for slot, form in zip(pieces[1::3], pieces[2::3], strict=True)
        ]
        self._keys = tuple(dict.fromkeys(self._order))

    def fill(self, values: Mapping[str, str]) -> bytes:
        """The message with these values, by slot."""
        coded = {key: fill(*key, values[key[0]]) for key in self._keys}
        out = [self._literals[0]]
        for key, literal in zip(self._order, self._literals[1:], strict=True):
            out.append(coded[key])
            out.append(literal)
        return b"".join(out)
