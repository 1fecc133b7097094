"""The MTA-STS policy file (RFC 8461 section 3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from probes.errors import DataError

MAX_AGE = 31_557_600  # seconds

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*\Z")
_MODES = ("enforce", "testing", "none")


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """An MTA-STS policy. mode: enforce, testing or none; hosts: names, or *.name; max_age: seconds."""

    mode: str
    hosts: tuple[str, ...]
    max_age: int

    def covers(self, host: str) -> bool:
        """Whether a mail exchanger is named (RFC 8461 section 4.1: a wildcard stands for one label)."""
        name = host.rstrip(".").lower()
        parent = name.partition(".")[2]
        return name in self.hosts or f"*.{parent}" in self.hosts


def parse_sts_policy(text: str) -> StsPolicy:
    """Reads a policy file. Of a field that may stand once the first counts. Raises DataError."""
    found = _fields(text)
    if found.get("version", [""])[0] != "STSv1":
        raise DataError("version: STSv1 is missing")
    mode, age = (found.get(name, [""])[0] for name in ("mode", "max_age"))
    if mode not in _MODES:
        raise DataError(f"mode is {mode[:20]!r}, not enforce, testing or none")
    if not age.isascii() or not age.isdigit() or len(age) > 10 or int(age) > MAX_AGE:
        raise DataError(f"max_age is {age[:20]!r}, not 0 to {MAX_AGE}")
    hosts = tuple(host.lower() for host in found.get("mx", []))
    for host in hosts:
        if not _HOST.match(host):
            raise DataError(f"mx has {host[:60]!r}, which is no host name")
    if mode != "none" and not hosts:
        raise DataError("no mx")
    return StsPolicy(mode, hosts, int(age))


def _fields(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.rstrip("\r\n").replace("\r\n", "\n").split("\n"):
        name, colon, value = line.partition(":")
        if not colon or not _NAME.match(name):
            raise DataError(
                f"version: not a field: {line[:40]!r}" if not found else f"not a field: {line[:40]!r}"
            )
        value = value.strip(" \t")
        if not value:
            raise DataError(f"{name} is empty")
        found.setdefault(name, []).append(value)
    return found
