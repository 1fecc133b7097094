"""The zone catalogue: every blocklist we know, what its return codes mean, and whether to trust it at all.

The shipped file is data (catalogue.yaml); the user's own file is laid over it, zone by zone; pydnsbl's
providers lie below both, switched off, since nothing but a name is known of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import cast

import yaml

from probes.errors import ConfigError
from probes.outcome import Severity


class Kind(StrEnum):
    """What can be asked of a zone."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"
    DOMAIN = "domain"


class Meaning(StrEnum):
    """What a return code says."""

    LISTED = "listed"
    NEUTRAL = "neutral"  # known to the list, and not held against anybody
    ALLOW = "allow"
    ERROR = "error"  # the list refuses to answer


class Status(StrEnum):
    """What is known of a zone's life."""

    ALIVE = "alive"
    DEAD = "dead"
    LISTS_THE_WORLD = "lists-the-world"
    UNVERIFIED = "unverified"


Octets = tuple[int, int, int, int]
Pattern = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Code:
    """One row of a zone's return-code table: an address pattern, or a bit of the last octet within one."""

    pattern: Pattern
    says: Meaning
    text: str
    category: str = ""
    severity: Severity = Severity.ERROR
    bit: int = 0

    def matches(self, octets: Octets) -> bool:
        """True where the row speaks of this address."""
        if self.bit and not octets[3] & self.bit:
            return False
        return all(low <= octet <= high for octet, (low, high) in zip(octets, self.pattern, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Zone:
    """A DNSBL zone. `name` is for people and metrics; `origin` is asked, and may hold a key: a secret."""

    name: str
    origin: str = field(repr=False)
    kinds: frozenset[Kind]
    title: str = ""
    codes: tuple[Code, ...] = ()
    errors: tuple[Code, ...] = ()
    other: Meaning | None = Meaning.LISTED  # what a code inside 127/8 that no row knows says; None: unknown
    span: Pattern = ((127, 127), (0, 255), (0, 255), (0, 255))  # where `other` applies
    loopback_lists: bool = False  # 127.0.0.1 is an ordinary code here
    allow: bool = False
    severity: Severity = Severity.ERROR
    delist: str = ""
    registration: str = "none"
    remedy: str = ""
    terms: str = ""
    status: Status = Status.UNVERIFIED
    enabled: bool = False
    registered_names: bool = False  # the list holds registrable domains, not host names
    listed_points: tuple[str, ...] = ()  # further names that must be listed, beside RFC 5782's
    rate: float | None = None  # questions a second the operator bears
    source: tuple[str, ...] = ()
    checked: str = ""
    catalogued: bool = True
    key: str = field(default="", repr=False)  # what stands in `origin` and must not be shown

    @property
    def needs_key(self) -> bool:
        """True where the zone is asked under a customer's key and none was given."""
        return "{key}" in self.origin

    def keyed(self, key: str) -> Zone:
        """The zone as a customer asks it. Raises ConfigError for a key that is no DNS label."""
        if not key.isascii() or not key.replace("-", "").isalnum() or len(key) > 63:
            raise ConfigError(f"the key of {self.name} is not a DNS label")
        return replace(self, origin=self.origin.replace("{key}", key), key=key)

    def without_key(self, text: str) -> str:
        """A text fit to be shown: a server or a library may have put the question's name into it."""
        return re.sub(re.escape(self.key), "KEY", text, flags=re.IGNORECASE) if self.key else text


_ANY = "127.*.*.*"
_MASK = "127.0.0.*"  # where a bit mask stands that says nothing else (RFC 5782 section 2.3)
_SETTINGS = (
    *("zone", "origin", "title", "kinds", "list", "codes", "errors", "other", "span", "loopback_lists"),
    *("severity", "delist", "registration", "remedy", "terms", "status", "enabled", "registered_names"),
    *("listed_points", "rate", "source", "checked"),
)


def parse_pattern(text: str) -> Pattern:
    """Reads "127.0.0.2", "127.0.2.2-24" or "127.0.*.3". Raises ValueError."""
    parts = text.split(".")
    if len(parts) != 4:
        raise ValueError(f"{text!r} is no return code: four octets, each N, N-M or *")
    spans: list[tuple[int, int]] = []
    for part in parts:
        low, _, high = ("0", "-", "255") if part == "*" else part.partition("-")
        span = (int(low), int(high or low))
        if not 0 <= span[0] <= span[1] <= 255:
            raise ValueError(f"{text!r} is no return code: an octet is 0 to 255")
        spans.append(span)
    return tuple(spans)


def _code(row: Mapping[str, object], default: Meaning, severity: Severity) -> Code:
    bit = int(str(row.get("bit", 0)))
    return Code(
        pattern=parse_pattern(str(row.get("code", _MASK if bit else _ANY))),
        says=Meaning(str(row.get("says", default))),
        text=str(row["text"]),
        category=str(row.get("category", "")),
        severity=Severity(str(row.get("severity", severity))),
        bit=bit,
    )


def _rows(entry: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    rows = entry.get(name) or []
    if not isinstance(rows, list) or not all(isinstance(r, dict) for r in rows):
        raise ValueError(f"{name} must be a list of mappings")
    return cast("list[Mapping[str, object]]", rows)


def _strings(entry: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = entry.get(name) or ()
    return (value,) if isinstance(value, str) else tuple(str(v) for v in cast("Iterable[object]", value))


def _other(entry: Mapping[str, object], codes: tuple[Code, ...], kind: str) -> Meaning | None:
    word = entry.get("other")
    if word is not None:
        return None if word == "unknown" else Meaning(str(word))
    plain = kind == "block" and not any(c.bit for c in codes)
    return Meaning.LISTED if plain else None


def parse_zone(entry: Mapping[str, object]) -> Zone:
    """Reads one zone of the file. Raises ValueError or KeyError, saying what is wrong."""
    strange = set(entry).difference(_SETTINGS)
    if strange:
        raise ValueError(f"unknown setting {sorted(strange)[0]!r}")
    name = str(entry["zone"]).lower().rstrip(".")
    kind = str(entry.get("list", "block"))
    if kind not in ("block", "allow", "mixed"):
        raise ValueError("list is block, allow or mixed")
    default = Meaning.ALLOW if kind == "allow" else Meaning.LISTED
    severity = Severity(str(entry.get("severity", "error")))
    codes = tuple(_code(r, default, severity) for r in _rows(entry, "codes"))
    rate = entry.get("rate")
    return Zone(
        name=name,
        origin=str(entry.get("origin", name)).lower().rstrip("."),
        kinds=frozenset(Kind(k) for k in _strings(entry, "kinds")) or frozenset(Kind),
        title=str(entry.get("title", name)),
        codes=codes,
        errors=tuple(_code(r, Meaning.ERROR, Severity.INFO) for r in _rows(entry, "errors")),
        other=_other(entry, codes, kind),
        span=parse_pattern(str(entry.get("span", _ANY))),
        loopback_lists=bool(entry.get("loopback_lists", False)),
        allow=kind == "allow",
        severity=severity,
        delist=str(entry.get("delist", "")),
        registration=str(entry.get("registration", "none")),
        remedy=str(entry.get("remedy", "")),
        terms=str(entry.get("terms", "")),
        status=Status(str(entry.get("status", "unverified"))),
        enabled=bool(entry.get("enabled", False)),
        registered_names=bool(entry.get("registered_names", False)),
        listed_points=_strings(entry, "listed_points"),
        rate=float(str(rate)) if rate is not None else None,
        source=_strings(entry, "source"),
        checked=str(entry.get("checked", "")),
    )


class Catalogue:
    """Zones by name. Immutable; `over` lays another one on top."""

    def __init__(self, zones: Iterable[Zone]) -> None:
        self._zones = {zone.name: zone for zone in zones}

    def __iter__(self) -> Iterator[Zone]:
        return iter(self._zones.values())

    def __len__(self) -> int:
        return len(self._zones)

    def find(self, name: str) -> Zone:
        """The zone of that name; one that nobody catalogued is judged by RFC 5782 alone.

        A name with a customer's key in it, as the list's own manual writes it, is the keyed zone: the key is
        a secret from here on.
        """
        plain = name.strip().lower().rstrip(".")
        key, _, rest = plain.partition(".")
        keyed = self._zones.get(rest)
        if plain not in self._zones and keyed is not None and keyed.origin == f"{{key}}.{rest}":
            return keyed.keyed(key)
        return self._zones.get(plain) or unlisted_zone(plain)

    def enabled(self) -> list[Zone]:
        """What is asked when nobody names a zone."""
        return [zone for zone in self if zone.enabled]

    def over(self, zones: Iterable[Zone]) -> Catalogue:
        """This catalogue with `zones` replacing those of the same name."""
        return Catalogue([*self, *zones])


def unlisted_zone(name: str) -> Zone:
    """A zone that is in no catalogue: any subject may be asked, any code but 127.0.0.1 is a listing.

    Raises ConfigError where the name cannot be a DNS zone.
    """
    labels = name.split(".")
    fits = all(
        0 < len(label) < 64 and label.replace("-", "a").replace("_", "a").isalnum() for label in labels
    )
    if not name.isascii() or not fits or len(name) > 200:
        raise ConfigError(f"{name!r} is no DNS zone")
    return Zone(name=name, origin=name, kinds=frozenset(Kind), title=name, catalogued=False)


def parse_catalogue(text: str, where: str) -> list[Zone]:
    """Reads a catalogue file: a mapping with `zones`. Raises ConfigError naming the file and the zone."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {error}") from None
    entries = document.get("zones") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise ConfigError(f"{where}: a catalogue is a mapping with a list named zones")
    zones = []
    for entry in entries:
        label = entry.get("zone", "?") if isinstance(entry, dict) else "?"
        try:
            zones.append(parse_zone(entry))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{where}: zone {label}: {error}") from None
    return zones


@cache
def shipped() -> Catalogue:
    """Our own catalogue over pydnsbl's providers."""
    from probes.blocklists.providers import pydnsbl_zones

    text = resources.files("probes.blocklists").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return Catalogue(pydnsbl_zones()).over(parse_catalogue(text, "catalogue.yaml"))
