"""Blocklist sweeps of the agent: when they run, what they ask, through which resolvers.

The zones are divided into parts, and each part has its holder, its schedule and its progress in the store. In
a fleet the parts are spread over the agents, and who takes one over goes on from its last checkpoint; a zone
is in one part only, so that its pace is kept whoever asks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from agent.config.models import Config
from agent.fleet.resources import SWEEP, chunks
from agent.runner.services import Services
from agent.runner.sweep_plan import Plans, SweepPlan
from agent.runner.sweeping import Blame, Pass, PlanChanged
from agent.runner.turns import take_turn
from agent.store import reputation
from agent.store.database import Hint, Tx
from agent.store.reputation import Pair, SweepState
from probes.blocklists.judge import ASK_ELSEWHERE
from probes.blocklists.sweep import Sweep
from probes.errors import MailcanaryError

log = structlog.get_logger("blocklists")
PREFIX = "blocklists"
RESUME = "resume"

SHARE = 0.75
"""The part of the interval over which a sweep is spread; the rest is for zones that need another try."""

LEAST_PACE = 25.0
"""Questions a second to all zones below which spreading is of use to nobody."""

CONTROLS = 40
"""Questions of a segment for each zone: its controls are then a tenth of what is asked."""

SEGMENT = (30.0, 300.0)
"""Seconds between controls, at least and at most: so old is what becomes known."""


def schedules(config: Config) -> dict[str, float]:
    """The schedules of all parts, with their intervals in seconds."""
    every = config.blocklists.every if config.blocklists else 0.0
    return {f"{PREFIX}:{chunk}": every for chunk in chunks(config)}


@dataclass
class Watching:
    """Sweeps the parts that this agent holds: a Room.

    retries, retry_after: how often and after how many seconds a zone that failed its controls is tried again
    once nothing else is left to ask.
    """

    services: Services
    retries: int = 2
    retry_after: float = 60.0
    scheduled: bool = True
    """False: no sweep is gone on with, only what is asked for is looked up."""
    blame: Blame = field(init=False)
    plans: Plans = field(init=False)
    _held: dict[str, Chunk] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.blame, self.plans = Blame(self.services.clock), Plans(self.services.clock)

    async def take(self, key: str) -> None:
        """The part is this agent's: goes on with the sweep that was left."""
        self._held[key] = Chunk(self, key)
        if not self.scheduled:
            return
        left = await self.services.database.read(lambda conn: reputation.sweep_of(conn, key))
        if left is not None and left.ended_at is None:
            self.services.hints.put(Hint(PREFIX, f"{RESUME}:{key}"))

    async def give(self, key: str) -> None:
        """Another agent goes on from the last checkpoint."""
        chunk = self._held.pop(key, None)
        if chunk is not None:
            await chunk.stop()

    async def due(self, name: str) -> None:
        """A hint: a part may be due, or is to be gone on with."""
        kind, _, key = name.partition(":")
        chunk, section = self._held.get(key), self.services.config.blocklists
        if chunk is None or section is None:
            return
        if kind == RESUME or await take_turn(self.services, name, section.every, SWEEP + key):
            await chunk.work()

    async def sweep(self, *, anew: bool = False) -> None:
        """Sweeps all parts that are held now. anew: also what was answered lately and still holds."""
        if anew:
            self.plans.forget()
        async with asyncio.TaskGroup() as group:
            for chunk in self._held.values():
                group.create_task(chunk.sweep(anew=anew))


@dataclass
class Chunk:
    """One part of the zones, as long as this agent holds it."""

    room: Watching
    key: str
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _working: asyncio.Task[None] | None = None
    _kept: tuple[Config, Sweep, Pass] | None = None
    """The last sweep: it knows until when each answer holds."""

    @property
    def services(self) -> Services:
        """This agent's means."""
        return self.room.services

    async def stop(self) -> None:
        """Ends what is under way."""
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait({self._working})

    async def work(self) -> None:
        """One sweep, until it is at its end or `stop` ends it."""
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

    async def sweep(self, *, anew: bool = False) -> None:
        """Looks every subject up in every zone, and records what was found. One at a time.

        anew: also those whose last answer still holds.
        """
        async with self._turn:
            if anew:
                self._kept = None
            while self.services.config.blocklists is not None:
                whole = await self.room.plans.get(self.services.config, self.services.resolver)
                try:
                    await self._round(whole.part(self.key))
                    break
                except PlanChanged:
                    log.info("the config has changed: the sweep goes on with the new one")

    async def _round(self, plan: SweepPlan) -> None:
        if not plan.zones:
            await self._write(lambda tx: reputation.drop_sweep(tx.conn, self.key))
            return
        state = await self._begin(plan)
        only: list[Pair] | None = None
        for number, server in enumerate(plan.servers):
            last = number + 1 == len(plan.servers)
            work, sweep = await self._pass(plan, server, state, only, last)
            await work.begin(sweep)
            await sweep.run()
            await work.finish(self.room.retry_after)
            state = work.state()
            only = await asyncio.to_thread(_left, sweep)
            if not only:
                break
        await self._end(state)

    async def _begin(self, plan: SweepPlan) -> SweepState:
        """The state to go on from: that of a sweep cut short, else a new one."""
        mine = {zone.name for zone in plan.zones}
        members = self.services.fleet.view.members
        resolvers = {name for member in members for name in member.resolvers} | {*self.services.resolvers()}
        state = SweepState(0.0, None, "")

        def begin(tx: Tx) -> None:
            nonlocal state
            now = self.services.clock.wall()
            left = reputation.sweep_of(tx.conn, self.key)
            going_on = left is not None and left.ended_at is None
            state = left if left is not None and going_on else SweepState(now, None, "")
            state = replace(state, resolver="", faults=plan.faults)
            reputation.keep_zones(tx.conn, mine, plan.others, resolvers)
            reputation.set_sweep(tx.conn, self.key, state)

        await self._write(begin)
        return state

    async def _pass(
        self, plan: SweepPlan, server: str, state: SweepState, only: Sequence[Pair] | None, last: bool
    ) -> tuple[Pass, Sweep]:
        """A sweep through one resolver. The first one keeps its memory of what is fresh."""
        work = Pass(self.services, plan, self.key, server, state, self.room.blame)
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
        count = len(only) if only is not None else plan.pairs()
        pace = max(LEAST_PACE * plan.share, count / (section.every * SHARE))
        least, most = SEGMENT
        retries = self.room.retries
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
            retries=retries if last else min(1, retries),
            retry_after=self.room.retry_after,
            clock=self.services.clock,
        )

    async def _end(self, state: SweepState) -> None:
        ended = replace(state, ended_at=self.services.clock.wall(), cursor={})
        await self._write(lambda tx: reputation.set_sweep(tx.conn, self.key, ended))
        seconds = round((ended.ended_at or 0.0) - ended.started_at)
        log.info("sweep done", pairs=state.total, listed=state.listed, unknown=state.unknown, seconds=seconds)

    async def _write(self, work: Callable[[Tx], None]) -> None:
        def unit(tx: Tx) -> None:
            self.services.fence(tx, SWEEP + self.key)
            work(tx)

        await self.services.database.write(unit)


def _left(sweep: Sweep) -> list[Pair]:
    """The pairs that another resolver may see."""
    return [(subject.text, zone.name) for subject, zone, reason in sweep.unknown() if reason in ASK_ELSEWHERE]
