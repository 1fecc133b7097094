"""Blocklist sweeps of the agent; listings are kept as events with a beginning and an end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from agent import schedule
from agent.blocklist_plan import sender_subjects, subjects_of, zones_of
from agent.config.models import Config
from agent.runner.services import Services
from agent.store import reputation, rows
from agent.store.database import Tx
from alerts.observation import ListingSeen, OwnState, observation_to_json
from alerts.settings import AlertKind
from probes.blocklists.check import Listing, check
from probes.blocklists.judge import Reason
from probes.blocklists.query import parse_subject
from probes.blocklists.subjects import expand
from probes.dns_client import DnsResolver
from probes.errors import MailcanaryError

log = structlog.get_logger("blocklists")
NAME = "blocklists:sweep"
AGAIN = 60.0
"""Seconds until the next sweep where the resolver did not answer."""
CHUNK = 200
"""Subjects a write covers: a restart repeats at most these."""


@dataclass
class Watching:
    """Runs a sweep when its schedule is due."""

    services: Services
    _deaf: str = ""
    """Why nothing could be asked in the last sweep; "" where something could."""

    async def scheduled(self, name: str) -> None:
        """A hint: the sweep may be due."""
        config = self.services.config
        if config.blocklists is None or not await self._claim(name, config.blocklists.every):
            return
        try:
            await self.sweep(config)
            if self._deaf:
                await self._soon(name)
        except MailcanaryError as error:
            log.error("the sweep could not be done", error=str(error))

    async def _claim(self, name: str, every: float) -> bool:
        def claim(tx: Tx) -> bool:
            self.services.fence(tx)
            now = self.services.clock.wall()
            row = rows.schedule_row(tx.conn, name)
            if row is None or row.due_at > now:
                return False
            return rows.move_schedule(tx.conn, row, schedule.next_due(name, every, now, row.count + 1), now)

        return await self.services.database.write(claim)

    async def _soon(self, name: str) -> None:
        """The resolver answered nothing: asked again soon, or a moment's trouble would last an hour."""

        def move(tx: Tx) -> None:
            self.services.fence(tx)
            row = rows.schedule_row(tx.conn, name)
            soon = self.services.clock.wall() + AGAIN
            if row is not None and row.due_at > soon:
                rows.move_schedule(tx.conn, row, soon, None)

        await self.services.database.write(move)

    async def sweep(self, config: Config) -> Sequence[Listing]:
        """Looks every subject up in every zone, controls and all, and records what was found."""
        zones = zones_of(config)
        owners = sender_subjects(config)
        subjects = [s.text for s in await expand(subjects_of(config), self.services.resolver)]
        found: list[Listing] = []
        for start in range(0, len(subjects), CHUNK):
            chunk = [parse_subject(text) for text in subjects[start : start + CHUNK]]
            # The one resolver of the sweep must not answer from memory, or its controls prove nothing.
            resolver = DnsResolver(self._servers(config), timeout=config.resolver.timeout, cache=0)
            listings = [
                seen
                for seen in await check(chunk, zones, resolver)
                if seen.reason is not Reason.NOT_APPLICABLE
            ]
            self._deaf = await _deafness(listings, resolver)
            await self._record(listings, owners, self._servers(config)[0])
            found += listings
            await asyncio.sleep(0)
        return found

    def _servers(self, config: Config) -> Sequence[str]:
        from probes.dns_client import system_nameservers

        return tuple(config.resolver.nameservers) or tuple(str(s) for s in system_nameservers())[:1]

    async def _record(
        self, listings: Sequence[Listing], owners: Mapping[str, tuple[str, ...]], resolver: str
    ) -> None:
        now = self.services.clock.wall()

        def record(tx: Tx) -> None:
            self.services.fence(tx)
            for listing in listings:
                self._note(tx, listing, owners.get(listing.subject, ()), now)
            for zone, health in _by_zone(listings).items():
                reputation.set_zone(tx.conn, zone, resolver, health, now)
            if listings:
                self._resolver_state(tx, resolver, now)

        await self.services.database.write(record)
        for listing in listings:
            result = {True: "listed", False: "not-listed", None: "unknown"}[listing.listed]
            self.services.metrics.lookups.labels(listing.zone, result).inc()

    def _note(self, tx: Tx, listing: Listing, senders: tuple[str, ...], now: float) -> None:
        if listing.listed is None:
            return
        if reputation.note_listing(tx.conn, listing, now) or listing.listed:
            seen = ListingSeen(
                subject=listing.subject,
                zone=listing.zone,
                listed=listing.listed,
                at=now,
                severity=listing.severity,
                reason=listing.txt or listing.meaning,
                delist_url=listing.delist_url,
                senders=senders,
            )
            rows.observe(tx, now, "listing", observation_to_json(seen))

    def _resolver_state(self, tx: Tx, resolver: str, now: float) -> None:
        """Where no zone at all could be asked, it is the resolver: our own fault, not the zones'."""
        state = OwnState(AlertKind.RESOLVER, resolver, not self._deaf, now, text=self._deaf)
        rows.observe(tx, now, "own", observation_to_json(state))


async def _deafness(listings: Sequence[Listing], resolver: DnsResolver) -> str:
    """Why no zone at all could be asked, where the resolver is to blame for it; else ""."""
    reasons = {listing.reason for listing in listings if listing.listed is None}
    if not listings or any(listing.listed is not None for listing in listings) or reasons - _NETWORK:
        return ""
    if reasons == {Reason.RESOLVER}:
        return "every zone refuses the questions that come through it"
    root = await resolver.query(".", "NS")
    return "" if root.status.conclusive else f"no zone answers through it, nor does the root: {root.status}"


_NETWORK = frozenset(
    {
        Reason.TIMEOUT,
        Reason.SERVFAIL,
        Reason.REFUSED,
        Reason.ERROR,
        Reason.RESOLVER,
        Reason.ZONE_UNREACHABLE,
    }
)


def _by_zone(listings: Iterable[Listing]) -> dict[str, reputation.ZoneCounts]:
    found: dict[str, reputation.ZoneCounts] = {}
    for listing in listings:
        counts = found.setdefault(listing.zone, reputation.ZoneCounts())
        counts.add(listing)
    return found
