"""What one resolver says of listings: each change is looked at twice, then kept and told.

A listing or a delisting is an event only where a second look, with controls of its own, says the same: one
look may be an accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from agent.fleet.fleet import WORKING
from agent.runner.services import Services
from agent.runner.sweep_plan import SweepPlan
from agent.store import reputation, rows
from agent.store.database import Hint, Tx
from agent.store.members import Member
from agent.store.reputation import OpenListing, Pair
from alerts.observation import ListingSeen, observation_to_json
from probes.blocklists.check import Listing, check
from probes.blocklists.query import parse_subject
from probes.dns_client import DnsResolver

log = structlog.get_logger("blocklists")

OPINIONS = "opinions"
"""The hint that asks another agent to look through its own resolver."""

AT_A_TIME = 20
"""Questions in flight while few pairs are looked at."""


@dataclass
class Witness:
    """One resolver of this agent. open: the listings that have not ended, as it sees them."""

    services: Services
    plan: SweepPlan
    server: str
    open: dict[Pair, OpenListing] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the resolver is called in the store."""
        return self.services.resolver_name(self.server)

    async def load(self) -> None:
        """Reads the listings that have not ended."""
        self.open = await self.services.database.read(lambda conn: reputation.open_listings(conn, self.name))

    async def ask(self, subjects: Iterable[str], name: str) -> Mapping[str, Listing]:
        """Looks some subjects up in one zone, between controls."""
        zone = next(zone for zone in self.plan.zones if zone.name == name)
        timeout = self.plan.config.resolver.timeout
        resolver = DnsResolver([self.server], timeout=timeout, tries=5, cache=0)
        wanted = [parse_subject(text) for text in subjects]
        return {x.subject: x for x in await check(wanted, [zone], resolver, in_flight=AT_A_TIME)}

    async def sure(self, found: Sequence[Listing]) -> tuple[list[Listing], list[Listing]]:
        """What goes on as it was and what a second look confirms; and what it could not see."""
        sure = [listing for listing in found if not self._changes(listing)]
        doubts: list[Listing] = []
        by_zone: dict[str, list[Listing]] = {}
        for listing in filter(self._changes, found):
            by_zone.setdefault(listing.zone, []).append(listing)
        for zone, items in by_zone.items():
            again = await self.ask([item.subject for item in items], zone)
            for item in items:
                second = again[item.subject]
                if second.listed is item.listed:
                    sure.append(second)
                    continue
                log.warning(
                    "a second look did not confirm it", subject=item.subject, zone=zone,
                    first=str(item.reason), second=str(second.reason),
                )  # fmt: skip
                if second.listed is None:
                    doubts.append(item)
        return [listing for listing in sure if listing.listed or _pair(listing) in self.open], doubts

    def _changes(self, listing: Listing) -> bool:
        """Whether it says other than it said before."""
        held = self.open.get(_pair(listing))
        if listing.listed is None or (held is None and not listing.listed):
            return False
        if held is None or held.said is not listing.listed:
            return True
        return bool(listing.listed) and held.codes != listing.codes

    def note(self, tx: Tx, listing: Listing, now: float) -> None:
        """Keeps what was found of a pair, and tells the evaluator; of an event, others are asked as well."""
        section = self.plan.config.blocklists
        told = reputation.note_listing(tx.conn, listing, self.name, now, section.every if section else 0.0)
        if told is None:
            return
        seen = ListingSeen(
            subject=listing.subject,
            zone=listing.zone,
            listed=told.listed,
            at=now,
            severity=told.severity if told.listed else listing.severity,
            reason=told.reason if told.listed else listing.txt or listing.meaning,
            delist_url=told.delist_url,
            senders=self.plan.owners.get(listing.subject, ()),
        )
        rows.observe(tx, now, "listing", observation_to_json(seen))
        if told.event and told.listed:
            tx.defer(*(Hint(OPINIONS, to=member.holder) for member in others(self.services)))

    def remember(self, listing: Listing) -> None:
        """What was noted is committed."""
        pair = _pair(listing)
        if listing.listed or pair in self.open:
            said = listing.listed if listing.listed is not None else self.open[pair].said
            self.open[pair] = OpenListing(said, listing.codes, self.services.clock.wall())


def others(services: Services) -> list[Member]:
    """One agent for each resolver that is asked first by others, and not by this agent."""
    mine = set(services.resolvers()[:1])
    found: dict[str, Member] = {}
    for member in services.fleet.view.members:
        if member.state == WORKING and member.resolvers and member.resolvers[0] not in mine:
            found.setdefault(member.resolvers[0], member)
    return list(found.values())


def _pair(listing: Listing) -> Pair:
    return listing.subject, listing.zone
