"""The text of a DMARC policy record (RFC 9989 sections 4.7 and 4.8, and RFC 7489 section 6.3 beside it)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

#: Characters of a record that are looked at.
RECORD_CAP = 8192

POLICIES = ("none", "quarantine", "reject")
_VERSION = re.compile(r"\s*v\s*=\s*DMARC1\s*(?:;|\Z)", re.IGNORECASE)
_URI = re.compile(r"[a-z][a-z0-9+.-]*:[^\s,!]+", re.IGNORECASE)
_WORDS = {
    "p": POLICIES,
    "sp": POLICIES,
    "np": POLICIES,
    "adkim": ("r", "s"),
    "aspf": ("r", "s"),
    "psd": ("y", "n", "u"),
    "t": ("y", "n"),
    "rf": ("afrf", "iodef"),
}
_NUMBERS = {"pct": 100, "ri": 2**32 - 1}
_FAILURE_OPTIONS = frozenset("01ds")


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """A record, with defaults for what it leaves out or gets wrong.

    policy, subdomain_policy, missing_policy: p=, sp=, np=, None where absent or not valid; strict_dkim,
    strict_spf: adkim=s, aspf=s; psd: y, n or u; testing: t=y; reports_to, failures_to: the URIs of rua=
    and ruf=; percent: pct=, which RFC 9989 took away; tags: all tags as written; faults: what is wrong,
    for people.
    """

    text: str
    policy: str | None
    subdomain_policy: str | None
    missing_policy: str | None
    strict_dkim: bool
    strict_spf: bool
    psd: str
    testing: bool
    percent: int
    reports_to: tuple[str, ...]
    failures_to: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]
    faults: tuple[str, ...]
    bad_policy: bool

    @property
    def applies(self) -> bool:
        """Whether it asks for anything: a wrong policy without an address for reports does not (RFC 9989
        4.10.1).
        """
        return not self.bad_policy or bool(self.reports_to)


@lru_cache(maxsize=2048)
def parse_dmarc(text: str) -> DmarcRecord | None:
    """Reads a record; None where it does not begin with exactly v=DMARC1 (case counts, section 4.7)."""
    if not _VERSION.match(text[:100]):
        return None
    tags, faults = _tags(text[:RECORD_CAP])
    if tags.get("v") != "DMARC1":
        return None
    values = {name: _word(tags, name, words, faults) for name, words in _WORDS.items()}
    percent = _numbers(tags, faults)
    bad_policy = any(name in tags and values[name] is None for name in ("p", "sp", "np"))
    if tags.get("fo") and not set(tags["fo"].lower().replace(" ", "").split(":")) <= _FAILURE_OPTIONS:
        faults.append(f"fo={tags['fo'][:40]} is not valid")
    return DmarcRecord(
        text=text,
        # A policy that is wrong makes the whole record one of p=none (section 4.10.1).
        policy="none" if bad_policy or "p" not in tags else values["p"],
        subdomain_policy=None if bad_policy else values["sp"],
        missing_policy=None if bad_policy else values["np"],
        strict_dkim=values["adkim"] == "s",
        strict_spf=values["aspf"] == "s",
        psd=values["psd"] or "u",
        testing=values["t"] == "y",
        percent=percent,
        reports_to=_uris(tags.get("rua", "")),
        failures_to=_uris(tags.get("ruf", "")),
        tags=tuple(tags.items()),
        faults=tuple(faults),
        bad_policy=bad_policy,
    )


def _tags(text: str) -> tuple[dict[str, str], list[str]]:
    tags: dict[str, str] = {}
    faults: list[str] = []
    for part in text.split(";"):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not equals or not name.isalpha():
            faults.append(f"not a tag: {part.strip()[:40]}")
        elif name in tags:
            faults.append(f"{name}= is there twice")
        else:
            tags[name] = value.strip()
    if "p" not in tags:
        faults.append("p= is missing")
    return tags, faults


def _word(tags: dict[str, str], name: str, words: Iterable[str], faults: list[str]) -> str | None:
    if name not in tags:
        return None
    value = tags[name].lower()
    if value in words:
        return value
    faults.append(f"{name}={tags[name][:40]} is not valid")
    return None


def _numbers(tags: dict[str, str], faults: list[str]) -> int:
    percent = 100
    for name, most in _NUMBERS.items():
        value = tags.get(name)
        if value is None:
            continue
        if not (value.isascii() and value.isdigit() and len(value) <= 10 and int(value) <= most):
            faults.append(f"{name}={value[:40]} is not valid")
        elif name == "pct":
            percent = int(value)
    return percent


def _uris(text: str) -> tuple[str, ...]:
    parts = (part.strip().split("!")[0] for part in text.split(","))
    return tuple(part for part in parts if _URI.fullmatch(part))
