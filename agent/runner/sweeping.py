"""One pass of a blocklist sweep through one resolver, and what of it is recorded.

Whatever became final is one commit with the place from which a restart goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from agent.fleet.resources import SWEEP
from agent.runner.services import Services
from agent.runner.sweep_plan import SweepPlan
from agent.runner.witness import Witness
from agent.store import reputation, rows
from agent.store.database import Tx
from agent.store.reputation import SweepState, ZoneState
from alerts.observation import ListingSeen, OwnState, observation_to_json
from alerts.settings import AlertKind
from probes.blocklists.check import Listing, Pair
from probes.blocklists.check import listing as made
from probes.blocklists.health import ZoneHealth
from probes.blocklists.judge import Reason, unknown
from probes.blocklists.lanes import DEFINITE, ZoneLane
from probes.blocklists.sweep import Sweep
from probes.clock import Clock
from probes.errors import StaleWrite, StoreError

log = structlog.get_logger("blocklists")

LAST_LOOKS = 3
"""Further looks, at the end, at a change that could not be looked at again."""

STORE_PAUSE = 10.0
"""Seconds after which a write that the store refused is tried again."""

LATELY = 60.0
"""Seconds for which what one part has seen of a resolver says something of others."""

Writing = Callable[[Tx, float], None]

UNSEEN = "no longer looked up"


class PlanChanged(Exception):
    """The config was reloaded: the sweep goes on with the new one."""


@dataclass
class Blame:
    """Whether a resolver is at fault, as far as all parts that are swept through it now can tell."""

    clock: Clock
    _said: dict[tuple[str, str], tuple[float, str]] = field(default_factory=dict)

    def hear(self, chunk: str, resolver: str, fault: str) -> str:
        """What is wrong with the resolver, "" where nothing is: zones of another part answer through it."""
        now = self.clock.monotonic()
        self._said[chunk, resolver] = (now, fault)
        lately = (x[1] for (_, name), x in self._said.items() if name == resolver and x[0] >= now - LATELY)
        return fault if all(lately) else ""


@dataclass
class Pass:
    """Records what a sweep of one part through one resolver finds. base: the state that it goes on from."""

    services: Services
    plan: SweepPlan
    chunk: str
    server: str
    base: SweepState
    blame: Blame
    sweep: Sweep = field(init=False)
    witness: Witness = field(init=False)
    _found: list[Listing] = field(default_factory=list)
    _doubts: list[Listing] = field(default_factory=list)
    _counted: dict[tuple[str, str], int] = field(default_factory=dict)
    _said_ok: bool = False

    @property
    def resolver(self) -> str:
        """What the resolver is called in the store."""
        return self.services.resolver_name(self.server)

    def found(self, listing: Listing) -> None:
        """A verdict has become final: a listing, or whatever became of one that stands open."""
        self._found.append(listing)

    async def begin(self, sweep: Sweep) -> None:
        """Takes the open listings along; those that nobody looks up any more end."""
        self.sweep = sweep
        self.witness = Witness(self.services, self.plan, self.server)
        await self.witness.load()
        mine = {pair for pair in self.witness.open if pair[1] not in self.plan.others}
        await asyncio.to_thread(sweep.follow, mine)
        self._counted = {} if sweep.rounds else _results(sweep.lanes)  # of this round, by an earlier process
        self._said_ok = False
        gone = mine - set(sweep.followed())
        if gone and not self.plan.faults and self.server == self.plan.servers[0]:
            await self._write(lambda tx, now: self._end(tx, gone, now))

    async def checkpoint(self) -> None:
        """Records what became final since the last one. Raises PlanChanged after a reload."""
        changes, doubts = await self.witness.sure([*self._found, *self._doubts])
        state = self.state()
        await self._write(lambda tx, now: self._record(tx, changes, state, now))
        self._found.clear()
        self._doubts = doubts
        for listing in changes:
            self.witness.remember(listing)
        self._count()
        log.info(
            "sweep", resolver=self.resolver, done=state.done, total=state.total, listed=state.listed,
            unknown=state.unknown,
        )  # fmt: skip
        if self.services.config is not self.plan.config:
            raise PlanChanged

    async def finish(self, pause: float) -> None:
        """Looks again, a few times, at changes that the second look could not see at all; then keeps which of
        the open listings this resolver could not tell anything of."""
        for _ in range(LAST_LOOKS):
            if not self._doubts:
                break
            await self.services.clock.sleep(pause)
            await self.checkpoint()
        blind = await asyncio.to_thread(self._blind)
        if blind:
            await self._write(lambda tx, now: self._note(tx, blind, now))

    def _blind(self) -> list[Listing]:
        return [
            made(Pair(subject, zone), unknown(reason, ""))
            for subject, zone, reason in self.sweep.unknown()
            if (subject.text, zone.name) in self.witness.open
        ]

    def state(self) -> SweepState:
        """How far the whole sweep is."""
        now, base = self.sweep.state(), self.base
        if base.resolver and base.resolver != self.resolver:  # what the resolver before it left open
            seen = now.done - now.unknown
            listed, unknown = base.listed + now.listed, base.unknown - seen
            return replace(base, resolver=self.resolver, listed=listed, unknown=unknown)
        return replace(
            base, resolver=self.resolver, done=now.done, total=now.total, listed=now.listed,
            unknown=now.unknown, cursor=self.sweep.cursor(),
        )  # fmt: skip

    async def _write(self, work: Writing) -> None:
        """Writes, again and again where the store does not take it: what was found is not forgotten."""

        def unit(tx: Tx) -> None:
            self.services.fence(tx, SWEEP + self.chunk)
            work(tx, self.services.clock.wall())

        while True:
            try:
                return await self.services.database.write(unit)
            except StaleWrite:
                raise
            except StoreError as error:
                log.error("the sweep waits for the store", error=str(error))
                await self.services.clock.sleep(STORE_PAUSE)

    def _record(self, tx: Tx, changes: Sequence[Listing], state: SweepState, now: float) -> None:
        self._note(tx, changes, now)
        for zone, health in zone_states(self.sweep.lanes).items():
            reputation.set_zone(tx.conn, zone, self.resolver, health, now)
            if health.healthy and self.server == self.plan.servers[0]:
                reputation.drop_zone(tx.conn, zone, self.services.resolvers()[1:])
        self._resolver(tx, now)
        reputation.set_sweep(tx.conn, self.chunk, state)

    def _note(self, tx: Tx, found: Iterable[Listing], now: float) -> None:
        for item in found:
            self.witness.note(tx, item, now)

    def _end(self, tx: Tx, gone: Iterable[reputation.Pair], now: float) -> None:
        reputation.end_unwatched(tx.conn, list(gone), now)
        for subject, zone in gone:
            seen = ListingSeen(subject, zone, False, now, reason=UNSEEN)
            rows.observe(tx, now, "listing", observation_to_json(seen))

    def _resolver(self, tx: Tx, now: float) -> None:
        """Where zones fail together it is the resolver: our own fault, not theirs."""
        fault = resolver_fault(self.sweep.lanes)
        if fault is None:
            return
        fault = self.blame.hear(self.chunk, self.resolver, fault)
        if not fault and self._said_ok:
            return
        self._said_ok = not fault
        state = OwnState(AlertKind.RESOLVER, self.resolver, not fault, now, text=fault)
        rows.observe(tx, now, "own", observation_to_json(state))

    def _count(self) -> None:
        for (zone, result), count in _results(self.sweep.lanes).items():
            more = count - self._counted.get((zone, result), 0)
            if more > 0:
                self.services.metrics.lookups.labels(zone, result).inc(more)
            self._counted[zone, result] = count


def resolver_fault(lanes: Iterable[ZoneLane]) -> str | None:
    """What is wrong with the resolver, "" where nothing is; None where nothing was asked."""
    healths = [x.health for x in lanes if x.health is not None and x.health.reason is not Reason.KEY_MISSING]
    if not healths:
        return None
    blamed = [health.text for health in healths if health.reason is Reason.RESOLVER]
    if blamed:
        return blamed[0]
    silent = all(health.reason is Reason.ZONE_UNREACHABLE for health in healths)
    return f"no zone answers through it: {healths[0].text}" if silent else ""


def zone_states(lanes: Iterable[ZoneLane]) -> dict[str, ZoneState]:
    """The zones whose controls were asked, with what they said in counts."""
    found: dict[str, list[tuple[ZoneLane, ZoneHealth]]] = {}
    for lane in lanes:
        if lane.health is not None:
            found.setdefault(lane.zone.name, []).append((lane, lane.health))
    return {zone: _zone_state(mine) for zone, mine in found.items()}


def _zone_state(lanes: Sequence[tuple[ZoneLane, ZoneHealth]]) -> ZoneState:
    counts = {"listed": 0, "not_listed": 0, "unknown": 0}
    for lane, _ in lanes:
        for found, count in lane.counts().items():
            counts[_result(found).replace("-", "_")] += count
    bad = [(lane.kind, health) for lane, health in lanes if not health.healthy]
    some = f"{bad[0][0]}: " if bad and len(bad) < len(lanes) else ""
    reason = f"{some}{bad[0][1].reason}: {bad[0][1].text}" if bad else ""
    return ZoneState(not bad, reason, counts)


def _result(reason: Reason) -> str:
    if reason is Reason.LISTED:
        return "listed"
    return "not-listed" if reason in DEFINITE else "unknown"


def _results(lanes: Iterable[ZoneLane]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for lane in lanes:
        for reason, count in lane.counts().items():
            key = (lane.zone.name, _result(reason))
            found[key] = found.get(key, 0) + count
    return found
