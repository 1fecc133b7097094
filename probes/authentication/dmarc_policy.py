"""Who owns a domain, and which DMARC record speaks for it: by RFC 9989 (DNS tree walk) and by RFC 7489
(public suffixes).

A rule answers two questions, policy and organizational domain, so that alignment is written once for both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from probes.authentication.dmarc_record import DmarcRecord, parse_dmarc
from probes.authentication.domains import is_host_domain, parents, registrable
from probes.dns import DnsStatus, Resolver

#: RFC 9989 section 4.10: a walk asks at most eight times.
WALK_LABELS = 7


class PolicyUnknown(Exception):
    """DNS kept us from knowing which record, if any, is there."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The record that speaks for an author domain, and where it stands.

    record: None where there is none; domain: where it was found; assessment: p=, sp= or np= as it applies to
    the author domain; author_exists: False for a name that is not in DNS, None where nobody had to ask.
    """

    record: DmarcRecord | None = None
    domain: str = ""
    assessment: str = "none"
    author_exists: bool | None = None


@dataclass(slots=True)
class Walk:
    """What one tree walk found: the valid records by name, longest name first, and every name asked."""

    start: str
    records: dict[str, DmarcRecord] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    several: list[str] = field(default_factory=list)

    @property
    def organizational(self) -> str | None:
        """Section 4.10.2; None where no record was found (then it is the start itself)."""
        for name, record in self.records.items():
            if record.psd == "n":
                return name
            if record.psd == "y" and name != self.start:
                labels = self.start.split(".")
                return ".".join(labels[-(name.count(".") + 2) :])
        return next(reversed(self.records), None)


def walk_names(domain: str) -> list[str]:
    """The names a full walk asks, in order: the domain, then its parents, cut to seven labels first (section
    4.10).
    """
    above = parents(domain)
    return [domain, *(name for name in above if name.count(".") < WALK_LABELS)]


class Rule(Protocol):
    """How one RFC finds policy and owner. Both questions raise PolicyUnknown where DNS could not be asked."""

    name: str

    async def policy(self, author: str) -> Policy:
        """The record for an author domain."""

    async def organizational(self, domain: str) -> str:
        """The organizational domain, for relaxed alignment."""


async def fetch_records(name: str, resolver: Resolver) -> list[DmarcRecord]:
    """The DMARC records at _dmarc.NAME. Raises PolicyUnknown."""
    if not is_host_domain(f"_dmarc.{name}"):
        return []
    answer = await resolver.query(f"_dmarc.{name}", "TXT")
    if not answer.status.conclusive:
        raise PolicyUnknown(f"DNS {answer.status.value} for _dmarc.{name}")
    parsed = (parse_dmarc(text) for text in answer.records)
    return [record for record in parsed if record is not None]


class TreeWalkRule:
    """RFC 9989 section 4.10."""

    name = "RFC 9989"

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._walks: dict[str, Walk] = {}

    async def walk(self, domain: str) -> Walk:
        """Walks up from a domain, once per message."""
        found = self._walks.get(domain)
        if found is None:
            found = self._walks[domain] = await self._walk(domain)
        return found

    async def _walk(self, domain: str) -> Walk:
        walk = Walk(domain)
        for name in walk_names(domain):
            walk.asked.append(name)
            records = await fetch_records(name, self._resolver)
            if len(records) > 1:
                walk.several.append(name)  # all of them are discarded (step 2)
            if len(records) == 1:
                walk.records[name] = records[0]
                if records[0].psd != "u":
                    break
        return walk

    async def organizational(self, domain: str) -> str:
        return (await self.walk(domain)).organizational or domain

    async def policy(self, author: str) -> Policy:
        """The author domain's record, else its organizational domain's, else its public suffix's (section
        4.10.1).
        """
        walk = await self.walk(author)
        own = walk.records.get(author)
        if own is not None:
            return Policy(own, author, own.policy or "none")
        name = walk.organizational
        if name is None:
            return Policy()
        suffix = next((at for at, record in walk.records.items() if record.psd == "y"), None)
        at = name if name in walk.records else suffix
        if at is None:
            return Policy()
        return await self._inherited(walk.records[at], at, author)

    async def _inherited(self, record: DmarcRecord, at: str, author: str) -> Policy:
        below = record.subdomain_policy or record.policy or "none"
        missing = record.missing_policy
        if missing is None or missing == below:
            return Policy(record, at, below)
        exists = await self._exists(author)
        return Policy(record, at, below if exists else missing, exists)

    async def _exists(self, name: str) -> bool:
        """A name that is not NXDOMAIN exists, whatever it has (RFC 8020)."""
        answer = await self._resolver.query(name, "A")
        if not answer.status.conclusive:
            raise PolicyUnknown(f"DNS {answer.status.value} for {name}, which np= asks about")
        return answer.status is not DnsStatus.NXDOMAIN


class PublicSuffixRule:
    """RFC 7489 section 6.6.3."""

    name = "RFC 7489"

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    async def organizational(self, domain: str) -> str:
        return registrable(domain) or domain

    async def policy(self, author: str) -> Policy:
        """The author domain's record, else its organizational domain's; several in one place are none."""
        records = await fetch_records(author, self._resolver)
        if len(records) == 1:
            return Policy(records[0], author, records[0].policy or "none")
        owner = registrable(author)
        if records or owner is None or owner == author:
            return Policy()
        records = await fetch_records(owner, self._resolver)
        if len(records) != 1:
            return Policy()
        record = records[0]
        return Policy(record, owner, record.subdomain_policy or record.policy or "none")
