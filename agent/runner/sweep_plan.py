"""What is looked up in blocklists, worked out of the config: once for all parts that an agent sweeps."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from agent.blocklist_plan import owners_of, subjects_of, zones_of
from agent.config.models import Config
from agent.fleet.resources import chunks
from agent.runner.means import servers_of
from probes.blocklists.catalogue import Zone
from probes.blocklists.query import Subject, parse_subject
from probes.blocklists.subjects import expand, expand_network
from probes.clock import Clock
from probes.dns import Resolver
from probes.errors import ConfigError, Unavailable

log = structlog.get_logger("blocklists")

A_CHUNK = 5
"""Zones of a part at least, as far as there are so many: enough to tell a resolver that fails from zones
that do."""

EXPANDING = 16
"""Names resolved at a time while the plan is made."""

FRESH = 60.0
"""Seconds for which a plan is good: parts that begin together have one plan."""


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep asks. faults: subjects that could not be worked out, with the reason; others: zones that
    other parts ask; share: the part of all zones that this one asks."""

    config: Config
    subjects: Sequence[Subject]
    zones: Sequence[Zone]
    owners: Mapping[str, tuple[str, ...]]
    servers: Sequence[str]
    faults: Mapping[str, str]
    others: frozenset[str] = frozenset()
    share: float = 1.0

    def part(self, chunk: str) -> SweepPlan:
        """The part of the whole that has this name. Neighbours in the catalogue, which are one operator's,
        come into different ones."""
        number = int(chunk)
        most = len(chunks(self.config))
        count = min(most, max(1, len(self.zones) // A_CHUNK))
        mine = self.zones[number::count] if number < count else []
        others = {zone.name for zone in self.zones} - {zone.name for zone in mine}
        share = len(mine) / max(1, len(self.zones))
        return replace(self, zones=mine, others=frozenset(others), share=share)

    def pairs(self) -> int:
        """How many questions one sweep of it is."""
        kinds = [subject.kind for subject in self.subjects]
        return sum(kinds.count(kind) for zone in self.zones for kind in zone.kinds)


@dataclass
class Plans:
    """Makes the plan of the config in force, and again once it may be another."""

    clock: Clock
    _last: tuple[float, SweepPlan] | None = None
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def forget(self) -> None:
        """Makes the next one anew."""
        self._last = None

    async def get(self, config: Config, resolver: Resolver) -> SweepPlan:
        """The whole plan. Raises ConfigError where the zones are wrong."""
        async with self._turn:
            now, last = self.clock.monotonic(), self._last
            if last is not None and last[1].config is config and now < last[0] + FRESH and not last[1].faults:
                return last[1]
            plan = await make_plan(config, resolver)
            if last is not None and plan.subjects == last[1].subjects:
                plan = replace(plan, subjects=last[1].subjects)  # a hundred thousand need not be kept twice
            self._last = (now, plan)
            return plan


async def make_plan(config: Config, resolver: Resolver) -> SweepPlan:
    """Everything a sweep needs to know. Raises ConfigError where the zones are wrong."""
    zones = await asyncio.to_thread(zones_of, config)
    owners = await asyncio.to_thread(owners_of, config)
    texts = await asyncio.to_thread(subjects_of, config)
    subjects, faults = await expand_each(texts, resolver)
    for text, fault in faults.items():
        log.warning("a subject could not be worked out", subject=text, error=fault)
    return SweepPlan(config, subjects, zones, owners, servers_of(config), faults)


async def expand_each(texts: Iterable[str], resolver: Resolver) -> tuple[list[Subject], dict[str, str]]:
    """The subjects behind each text, always in the same order, and the texts that could not be worked out."""
    gate = asyncio.Semaphore(EXPANDING)

    async def one(text: str) -> list[Subject] | str:
        try:
            if text.startswith(("host:", "spf:")):
                async with gate:
                    return sorted(await expand([text], resolver), key=lambda subject: subject.text)
            if "/" in text:
                return await asyncio.to_thread(expand_network, text)
            return [parse_subject(text)]
        except (ConfigError, Unavailable) as error:
            return str(error)

    wanted = list(texts)
    found = await asyncio.gather(*map(one, wanted))
    subjects = dict.fromkeys(subject for item in found if isinstance(item, list) for subject in item)
    faults = {text: item for text, item in zip(wanted, found, strict=True) if isinstance(item, str)}
    return list(subjects), faults
