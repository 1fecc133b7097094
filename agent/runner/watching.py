"""Blocklist sweeps of the agent: when they run, what they ask, through which resolvers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from agent import schedule
from agent.blocklist_plan import owners_of, subjects_of, zones_of
from agent.config.models import Config
from agent.fleet.resources import SWEEP as BLOCKLISTS
from agent.runner.services import Services
from agent.runner.sweeping import Pass, PlanChanged, SweepPlan
from agent.store import reputation, rows
from agent.store.database import Hint, Tx
from agent.store.reputation import Pair, SweepState
from probes.blocklists.judge import ASK_ELSEWHERE
from probes.blocklists.query import Subject, parse_subject
from probes.blocklists.subjects import expand, expand_network
from probes.blocklists.sweep import Sweep
from probes.dns import Resolver
from probes.dns_client import parse_nameserver, system_nameservers
from probes.errors import ConfigError, MailcanaryError, Unavailable

log = structlog.get_logger("blocklists")
NAME = "blocklists:sweep"
RESUME = "blocklists:resume"

SHARE = 0.75
"""The part of the interval over which a sweep is spread; the rest is for zones that need another try."""

LEAST_PACE = 25.0
"""Questions a second below which spreading is of use to nobody."""

CONTROLS = 40
"""Questions of a segment for each zone: its controls are then a tenth of what is asked."""

SEGMENT = (30.0, 300.0)
"""Seconds between controls, at least and at most: so old is what becomes known."""

EXPANDING = 16
"""Names resolved at a time while the plan is made."""


@dataclass
class Watching:
    """Runs a sweep when its schedule is due, and goes on with one that a restart cut short.

    retries, retry_after: how often and after how many seconds a zone that failed its controls is tried again
    once nothing else is left to ask.
    """

    services: Services
    retries: int = 2
    retry_after: float = 60.0
    scheduled: bool = True
    """False: no sweep is gone on with, only what is asked for is looked up."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _working: asyncio.Task[None] | None = None
    _kept: tuple[Config, Sweep, Pass] | None = None
    """The last sweep: it knows until when each answer holds."""

    async def take(self, _key: str) -> None:
        """The sweeps are this agent's: goes on with the one that was left."""
        if not self.scheduled:
            return
        left = await self.services.database.read(reputation.sweep)
        if left is not None and left.ended_at is None:
            self.services.hints.put(Hint("blocklists", RESUME))

    async def give(self, _key: str) -> None:
        """Another agent goes on from the last checkpoint."""
        self._kept = None
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})

    async def due(self, name: str) -> None:
        """A hint: the sweep may be due."""
        section = self.services.config.blocklists
        if section is None or (name == NAME and not await self._claim(name, section.every)):
            return
        self._working = work = asyncio.create_task(self._swept(), name="sweep")
        try:
            await asyncio.wait({work})
        finally:
            work.cancel()

    async def _swept(self) -> None:
        try:
            await self.sweep()
        except MailcanaryError as error:
            log.error("the sweep could not be done", error=str(error))

    async def _claim(self, name: str, every: float) -> bool:
        def claim(tx: Tx) -> bool:
            self.services.fence(tx, BLOCKLISTS)
            now = self.services.clock.wall()
            row = rows.schedule_row(tx.conn, name)
            if row is None or row.due_at > now:
                return False
            return rows.move_schedule(tx.conn, row, schedule.next_due(name, every, now, row.count + 1), now)

        return await self.services.database.write(claim)

    async def sweep(self, *, anew: bool = False) -> None:
        """Looks every subject up in every zone, and records what was found. One at a time.

        anew: also those whose last answer still holds.
        """
        async with self._turn:
            if anew:
                self._kept = None
            while self.services.config.blocklists is not None:
                try:
                    await self._round(await make_plan(self.services.config, self.services.resolver))
                    break
                except PlanChanged:
                    log.info("the config has changed: the sweep goes on with the new one")

    async def _round(self, plan: SweepPlan) -> None:
        state = await self._begin(plan)
        only: list[Pair] | None = None
        for number, server in enumerate(plan.servers):
            last = number + 1 == len(plan.servers)
            work, sweep = await self._pass(plan, server, state, only, last)
            await work.begin(sweep)
            await sweep.run()
            await work.finish(self.retry_after)
            state = work.state()
            only = await asyncio.to_thread(_left, sweep)
            if not only:
                break
        await self._end(state)

    async def _begin(self, plan: SweepPlan) -> SweepState:
        """The state to go on from: that of a sweep cut short, else a new one."""
        names = {zone.name for zone in plan.zones}

        def begin(tx: Tx) -> SweepState:
            self.services.fence(tx, BLOCKLISTS)
            now = self.services.clock.wall()
            left = reputation.sweep(tx.conn)
            going_on = left is not None and left.ended_at is None
            state = left if left is not None and going_on else SweepState(now, None, "")
            state = replace(state, resolver="", faults=plan.faults)
            reputation.keep_zones(tx.conn, names, plan.servers)
            reputation.set_sweep(tx.conn, state)
            return state

        return await self.services.database.write(begin)

    async def _pass(
        self, plan: SweepPlan, server: str, state: SweepState, only: Sequence[Pair] | None, last: bool
    ) -> tuple[Pass, Sweep]:
        """A sweep through one resolver. The first one keeps its memory of what is fresh."""
        work = Pass(self.services, plan, server, state)
        sweep = await asyncio.to_thread(self._made, plan, work, only, last)
        if only is not None:
            return work, sweep
        kept = self._kept
        if kept is not None and kept[0] is plan.config and kept[1].plan == sweep.plan:
            kept[2].plan, kept[2].base = plan, state
            return kept[2], kept[1]
        self._kept = (plan.config, sweep, work)
        return work, sweep

    def _made(self, plan: SweepPlan, work: Pass, only: Sequence[Pair] | None, last: bool) -> Sweep:
        section = plan.config.blocklists
        assert section is not None
        count = len(only) if only is not None else _pairs(plan)
        pace = max(LEAST_PACE, count / (section.every * SHARE))
        least, most = SEGMENT
        return Sweep(
            plan.subjects,
            plan.zones,
            work.server,
            on_listing=work.found,
            checkpoint=work.checkpoint,
            cursor=work.base.cursor if only is None else None,
            only=only,
            pace=pace,
            timeout=plan.config.resolver.timeout,
            segment=min(most, max(least, CONTROLS * len(plan.zones) / pace)),
            retries=self.retries if last else min(1, self.retries),
            retry_after=self.retry_after,
            clock=self.services.clock,
        )

    async def _end(self, state: SweepState) -> None:
        ended = replace(state, ended_at=self.services.clock.wall(), cursor={})

        def end(tx: Tx) -> None:
            self.services.fence(tx, BLOCKLISTS)
            reputation.set_sweep(tx.conn, ended)

        await self.services.database.write(end)
        seconds = round((ended.ended_at or 0.0) - ended.started_at)
        log.info("sweep done", pairs=state.total, listed=state.listed, unknown=state.unknown, seconds=seconds)


def _pairs(plan: SweepPlan) -> int:
    kinds = [subject.kind for subject in plan.subjects]
    return sum(kinds.count(kind) for zone in plan.zones for kind in zone.kinds)


def _left(sweep: Sweep) -> list[Pair]:
    """The pairs that another resolver may see."""
    return [(subject.text, zone.name) for subject, zone, reason in sweep.unknown() if reason in ASK_ELSEWHERE]


async def make_plan(config: Config, resolver: Resolver) -> SweepPlan:
    """Everything a sweep needs to know. Raises ConfigError where the zones are wrong."""
    zones = await asyncio.to_thread(zones_of, config)
    owners = await asyncio.to_thread(owners_of, config)
    texts = await asyncio.to_thread(subjects_of, config)
    subjects, faults = await expand_each(texts, resolver)
    for text, fault in faults.items():
        log.warning("a subject could not be worked out", subject=text, error=fault)
    servers = tuple(config.resolver.nameservers) or tuple(map(str, system_nameservers()))
    return SweepPlan(
        config, subjects, zones, owners, [str(parse_nameserver(server)) for server in servers], faults
    )


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
