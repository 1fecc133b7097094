"""One resolver for everything: tri-state answers, time-outs, a cache (dnspython underneath)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class DnsStatus(StrEnum):
    """How a question ended. Only OK, NODATA and NXDOMAIN say anything about the name."""

    OK = "ok"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    ERROR = "error"

    @property
    def conclusive(self) -> bool:
        """True where the answer speaks of the name, False where we could not look."""
        return self in (DnsStatus.OK, DnsStatus.NODATA, DnsStatus.NXDOMAIN)


@dataclass(frozen=True, slots=True)
class DnsAnswer:
    """The answer to one question.

    records: presentation form, one string a record; TXT records joined (RFC 7208 section 3.3), unquoted,
    bytes above 127 as latin-1. MX as "10 mx.example.net." ttl: seconds. authenticated: the AD bit. alias:
    where the name's CNAME led to, "" where it has none.
    """

    name: str
    rdtype: str
    status: DnsStatus
    records: tuple[str, ...] = ()
    ttl: float = 0.0
    authenticated: bool = False
    seconds: float = 0.0
    nameserver: str = ""
    detail: str = ""
    alias: str = ""


class Resolver(Protocol):
    """What the probes ask. Never raises for what the network or a server did: that is a status."""

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        """Asks one question. timeout: seconds for the whole question, the resolver's own when None."""


class StaticResolver:
    """A resolver over a literal map, for tests and for `--offline`: (name, rdtype) -> records or a status."""

    def __init__(
        self,
        records: Mapping[tuple[str, str], Sequence[str] | DnsStatus],
        default: DnsStatus = DnsStatus.NXDOMAIN,
    ) -> None:
        self._records = {(n.lower().rstrip("."), t.upper()): v for (n, t), v in records.items()}
        self._names = {n for n, _ in self._records}
        self._default = default
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        key = (name.lower().rstrip("."), rdtype.upper())
        self.asked.append(key)
        found = self._records.get(key)
        if isinstance(found, DnsStatus):
            return DnsAnswer(name, rdtype, found)
        if found is not None:
            return DnsAnswer(name, rdtype, DnsStatus.OK, tuple(found), ttl=300.0)
        known = key[0] in self._names
        return DnsAnswer(name, rdtype, DnsStatus.NODATA if known else self._default)
