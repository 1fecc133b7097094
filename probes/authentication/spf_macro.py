"""Macro strings of SPF (RFC 7208 section 7): read once, expanded per message."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

_EXPANSION = re.compile(r"%(?:\{([a-zA-Z])([0-9]*)([rR]?)([-.+,/_=]*)\}|([%_-]))")
_LITERALS = {"%": "%", "_": " ", "-": "%20"}
_TOP_LABEL = re.compile(r"(?=[a-z0-9-]*[a-z-])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z", re.IGNORECASE)
_LETTERS = frozenset("slodiphv")
_EXPLANATION_LETTERS = _LETTERS | frozenset("crt")

#: Octets of a domain name (RFC 7208 section 7.3).
NAME_CAP = 253


class MacroError(ValueError):
    """The macro string breaks the grammar."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """One %{...}: which value, how many labels from the right (0: all), reversed, split at, URL-escaped."""

    letter: str
    labels: int
    reverse: bool
    delimiters: str
    escape: bool


@dataclass(frozen=True, slots=True)
class MacroString:
    """Literal texts and expansions in order. plain: the text itself where there is nothing to expand."""

    parts: tuple[str | Expansion, ...]
    plain: str | None
    wants_host: bool

    def expand(self, values: dict[str, str]) -> str:
        """The string with `values` (macro letter -> text) put in."""
        if self.plain is not None:
            return self.plain
        return "".join(part if isinstance(part, str) else _expand(part, values) for part in self.parts)

    def expand_name(self, values: dict[str, str]) -> str:
        """The same as a domain name: cut from the left to 253 octets, without a final dot."""
        name = self.expand(values).rstrip(".")
        if len(name) <= NAME_CAP:
            return name
        dot = name.find(".", len(name) - NAME_CAP - 1)
        return name[dot + 1 :]


def _expand(part: Expansion, values: dict[str, str]) -> str:
    text = values[part.letter]
    if part.delimiters != "." or part.reverse or part.labels:
        pieces = _split(text, part.delimiters)
        if part.reverse:
            pieces.reverse()
        text = ".".join(pieces[-part.labels :])
    return quote(text, safe="-._~") if part.escape else text


def _split(value: str, delimiters: str) -> list[str]:
    """Splits at any of the delimiters; a dot that is none of them stays inside its piece."""
    first = delimiters[0]
    for other in set(delimiters[1:]):
        value = value.replace(other, first)
    return value.split(first)


def read_macro(text: str, *, explanation: bool = False) -> MacroString:
    """Reads a macro-string, or an explain-string, else a MacroError. Text must be printable ASCII."""
    if not text.isascii() or not text.isprintable():
        raise MacroError("not printable ASCII")
    if " " in text and not explanation:
        raise MacroError("a space")
    parts: list[str | Expansion] = []
    end = 0
    for match in _EXPANSION.finditer(text):
        parts += _literal(text[end : match.start()])
        parts.append(_part(match, explanation))
        end = match.end()
    parts += _literal(text[end:])
    expansions = [part for part in parts if isinstance(part, Expansion)]
    plain = None if expansions else "".join(part for part in parts if isinstance(part, str))
    return MacroString(tuple(parts), plain, any(part.letter == "p" for part in expansions))


def _literal(text: str) -> list[str]:
    if "%" in text:
        raise MacroError("a percent sign that begins no macro")
    return [text] if text else []


def _part(match: re.Match[str], explanation: bool) -> str | Expansion:
    letter, digits, reverse, delimiters, escape = match.groups()
    if escape:
        return _LITERALS[escape]
    known = _EXPLANATION_LETTERS if explanation else _LETTERS
    if letter.lower() not in known:
        raise MacroError(f"macro letter {letter} is not known here")
    if digits and int(digits[:9]) == 0:
        raise MacroError("zero labels")
    labels = min(int(digits[:9]), 128) if digits else 0
    return Expansion(letter.lower(), labels, bool(reverse), delimiters or ".", letter.isupper())


def read_domain_spec(text: str) -> MacroString:
    """A macro-string that ends in a top label or an expansion (domain-spec), else a MacroError."""
    macro = read_macro(text)
    if not macro.parts:
        raise MacroError("an empty domain")
    if isinstance(macro.parts[-1], Expansion):
        return macro
    if not text.endswith(("%%", "%_", "%-")):
        label = text.removesuffix(".").rpartition(".")
        if label[1] and _TOP_LABEL.match(label[2]):
            return macro
    raise MacroError(f"not a domain: {text[:80]}")
