"""The text of an SPF record (RFC 7208 sections 4.6, 5, 6, 12), read once and kept by its text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from probes.authentication.spf_macro import MacroError, MacroString, read_domain_spec, read_macro

#: Characters of a record; DNS itself allows 65,535.
RECORD_CAP = 16_384

_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)\Z", re.DOTALL)
_DIRECTIVE = re.compile(r"([+?~-]?)([A-Za-z][A-Za-z0-9-]*)([:/].*)?\Z", re.DOTALL)
_DUAL_CIDR = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?\Z")
_QUALIFIERS = {"": "pass", "+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}
_TAKES_DOMAIN = frozenset({"include", "exists", "a", "mx", "ptr"})
_NEEDS_DOMAIN = frozenset({"include", "exists"})


class SpfSyntaxError(ValueError):
    """The record breaks the grammar: permerror (section 4.6)."""


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One directive. result: what its qualifier says; domain: None for the current one; prefix4, prefix6:
    bits compared; network: of ip4 and ip6; text: as written.
    """

    name: str
    result: str
    text: str
    domain: MacroString | None = None
    prefix4: int = 32
    prefix6: int = 128
    network: IPv4Network | IPv6Network | None = None


@dataclass(frozen=True, slots=True)
class SpfRecord:
    """A record that is well formed. unknown: modifiers nobody knows, which are allowed."""

    text: str
    mechanisms: tuple[Mechanism, ...]
    redirect: MacroString | None = None
    explanation: MacroString | None = None
    unknown: tuple[str, ...] = ()


def is_spf(text: str) -> bool:
    """Whether a TXT record claims to be SPF version 1 (section 4.5)."""
    return text[:6].lower() == "v=spf1" and (len(text) == 6 or text[6] == " ")


@lru_cache(maxsize=2048)
def parse_record(text: str) -> SpfRecord:
    """Reads a record, else a SpfSyntaxError that names the term."""
    if len(text) > RECORD_CAP:
        raise SpfSyntaxError("the record is too long")
    if not text.isascii():
        raise SpfSyntaxError("the record is not ASCII")
    mechanisms: list[Mechanism] = []
    modifiers: dict[str, MacroString] = {}
    unknown: list[str] = []
    for term in text[6:].split(" "):
        if not term:
            continue
        try:
            modifier = _MODIFIER.match(term)
            if modifier:
                _read_modifier(modifier, modifiers, unknown)
            else:
                mechanisms.append(_read_mechanism(term))
        except MacroError as error:
            raise SpfSyntaxError(f"{term[:80]}: {error}") from None
    return SpfRecord(text, tuple(mechanisms), modifiers.get("redirect"), modifiers.get("exp"), tuple(unknown))


def _read_modifier(match: re.Match[str], known: dict[str, MacroString], unknown: list[str]) -> None:
    name = match.group(1).lower()
    if name not in ("redirect", "exp"):
        read_macro(match.group(2))
        unknown.append(match.group(0))
        return
    if name in known:
        raise SpfSyntaxError(f"{name}= is there twice")
    known[name] = read_domain_spec(match.group(2))


def _read_mechanism(term: str) -> Mechanism:
    match = _DIRECTIVE.match(term)
    if not match:
        raise SpfSyntaxError(f"not a mechanism: {term[:80]}")
    result, name, rest = _QUALIFIERS[match.group(1)], match.group(2).lower(), match.group(3) or ""
    if name == "all" and not rest:
        return Mechanism(name, result, term)
    if name in ("ip4", "ip6"):
        return Mechanism(name, result, term, network=_network(name, rest, term))
    if name in _TAKES_DOMAIN:
        return _with_domain(name, result, term, rest)
    raise SpfSyntaxError(f"unknown mechanism: {term[:80]}")


def _with_domain(name: str, result: str, term: str, rest: str) -> Mechanism:
    prefix4, prefix6 = 32, 128
    if name in ("a", "mx"):
        rest, prefix4, prefix6 = _cut_prefixes(rest, term)
    if not rest:
        if name in _NEEDS_DOMAIN:
            raise SpfSyntaxError(f"{term[:80]}: a domain is missing")
        return Mechanism(name, result, term, None, prefix4, prefix6)
    if not rest.startswith(":"):
        raise SpfSyntaxError(f"not a mechanism: {term[:80]}")
    return Mechanism(name, result, term, read_domain_spec(rest[1:]), prefix4, prefix6)


def _cut_prefixes(rest: str, term: str) -> tuple[str, int, int]:
    """Takes the dual CIDR length from the end; a slash inside a macro's braces belongs to the macro."""
    start = rest.find("/", rest.rfind("}") + 1)
    if start < 0:
        return rest, 32, 128
    # The domain may hold slashes itself: only what looks like a length at the very end is one.
    tail = re.search(r"/{0,2}[0-9]*(?://[0-9]*)?\Z", rest[start:])
    cut = start + tail.start() if tail else len(rest)
    match = _DUAL_CIDR.match(rest, cut)
    if not match:
        raise SpfSyntaxError(f"not a prefix length: {term[:80]}")
    prefix4 = int(match.group(1)) if match.group(1) else 32
    prefix6 = int(match.group(2)) if match.group(2) else 128
    if prefix4 > 32 or prefix6 > 128:
        raise SpfSyntaxError(f"prefix length out of range: {term[:80]}")
    return rest[:cut], prefix4, prefix6


def _network(name: str, rest: str, term: str) -> IPv4Network | IPv6Network:
    address, slash, prefix = rest[1:].partition("/")
    bits = 32 if name == "ip4" else 128
    if not rest.startswith(":") or (slash and not _is_prefix(prefix, bits)):
        raise SpfSyntaxError(f"not an address range: {term[:80]}")
    try:
        network = ip_network(f"{address}/{prefix or bits}", strict=False)
    except ValueError:
        raise SpfSyntaxError(f"not an address: {term[:80]}") from None
    if network.version != (4 if name == "ip4" else 6) or "%" in address:
        raise SpfSyntaxError(f"not an {name} address: {term[:80]}")
    return network


def _is_prefix(text: str, bits: int) -> bool:
    return text.isdigit() and len(text) <= 3 and (text == "0" or text[0] != "0") and int(text) <= bits
