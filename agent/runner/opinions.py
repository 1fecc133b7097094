"""Second opinions: what this agent's resolver says of listings in zones that other agents sweep.

Where agents ask through different resolvers, each looks now and then at what stands listed, and at a few
pairs by chance, in the zones it does not hold; at a new listing at once. What resolvers say is kept side by
side: a zone that passes to another agent is then no news.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from agent.fleet.resources import SWEEP, chunks
from agent.runner.services import Services
from agent.runner.sweep_plan import Plans, SweepPlan
from agent.runner.waiting import first_of
from agent.runner.witness import Witness, others
from agent.store.database import Tx
from agent.store.reputation import Pair
from probes.blocklists.catalogue import Zone
from probes.blocklists.check import Listing
from probes.blocklists.judge import Reason
from probes.errors import MailcanaryError

log = structlog.get_logger("blocklists")

SAMPLE = 100
"""Pairs by chance in each interval."""

MOST = 1000
"""Listings looked at in one go; those that waited longest first."""

LOOK = 60.0
"""Most seconds between looks at which listings are to be asked of again."""


@dataclass
class Opinions:
    """Asks when told to, and at its own pace."""

    services: Services
    plans: Plans
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _sampled: float = float("-inf")
    """Monotonic."""

    async def asked(self, _key: str) -> None:
        """A hint: another agent has found a listing."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Looks until `stop`."""
        while not stop.is_set():
            self._wake.clear()
            try:
                await self.look()
            except MailcanaryError as error:
                log.warning("no second opinion for now", error=str(error))
            await self._rest(stop)

    async def _rest(self, stop: asyncio.Event) -> None:
        section = self.services.config.blocklists
        pause = min(LOOK, section.every) if section else LOOK
        await first_of(self.services.clock.sleep(pause), self._wake.wait(), stop.wait())

    async def look(self) -> None:
        """Asks of what this resolver has not been asked lately, where others ask through another one."""
        services = self.services
        section = services.config.blocklists
        if section is None or not others(services):
            return
        plan = await self.plans.get(services.config, services.resolver)
        elsewhere = self._elsewhere(plan)
        witness = Witness(services, plan, plan.servers[0])
        await witness.load()
        old = services.clock.wall() - section.every
        asked = {zone.name for zone in plan.zones}
        due = [
            (held.asked_at, pair)
            for pair, held in witness.open.items()
            if (not held.asked_at and pair[1] in asked) or (held.asked_at <= old and pair[1] in elsewhere)
        ]
        pairs = [pair for _, pair in sorted(due)[:MOST]]
        if services.clock.monotonic() >= self._sampled + section.every:
            self._sampled = services.clock.monotonic()
            pairs += self._some(plan, [zone for zone in plan.zones if zone.name in elsewhere])
        await self._ask(witness, pairs)

    def _elsewhere(self, plan: SweepPlan) -> frozenset[str]:
        """The zones that other agents sweep."""
        held = [chunk for chunk in chunks(plan.config) if self.services.fleet.holds(SWEEP + chunk)]
        mine = {zone.name for chunk in held for zone in plan.part(chunk).zones}
        return frozenset(zone.name for zone in plan.zones if zone.name not in mine)

    def _some(self, plan: SweepPlan, zones: Sequence[Zone]) -> Iterable[Pair]:
        choice = self.services.random.choice
        for _ in range(SAMPLE if zones and plan.subjects else 0):
            zone, subject = choice(zones), choice(plan.subjects)
            if subject.kind in zone.kinds:
                yield subject.text, zone.name

    async def _ask(self, witness: Witness, pairs: Iterable[Pair]) -> None:
        by_zone: dict[str, list[str]] = {}
        for subject, zone in dict.fromkeys(pairs):
            by_zone.setdefault(zone, []).append(subject)
        for zone, subjects in by_zone.items():
            found = await witness.ask(subjects, zone)
            told = [listing for listing in found.values() if listing.reason is not Reason.NOT_APPLICABLE]
            sure, _ = await witness.sure(told)
            await self._keep(witness, sure)

    async def _keep(self, witness: Witness, found: Sequence[Listing]) -> None:
        def keep(tx: Tx) -> None:
            self.services.fence(tx)
            for listing in found:
                witness.note(tx, listing, self.services.clock.wall())

        if found:
            await self.services.database.write(keep)
