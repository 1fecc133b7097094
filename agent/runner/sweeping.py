"""One pass of a blocklist sweep through one resolver, and what of it is recorded.

Whatever became final is one commit with the place from which a restart goes on. A listing or a delisting is
an event only where a second look, with controls of its own, says the same: one look may be an accident.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from agent.config.models import Config
from agent.fleet.resources import SWEEP
from agent.runner.services import Services
from agent.store import reputation, rows
from agent.store.database import Tx
from agent.store.reputation import OpenListing, Pair, SweepState, ZoneState
from alerts.observation import ListingSeen, OwnState, observation_to_json
from alerts.settings import AlertKind
from probes.blocklists.catalogue import Zone
from probes.blocklists.check import Listing, check
from probes.blocklists.health import ZoneHealth
from probes.blocklists.judge import Reason
from probes.blocklists.lanes import DEFINITE, ZoneLane
from probes.blocklists.query import Subject, parse_subject
from probes.blocklists.sweep import Sweep
from probes.dns_client import DnsResolver
from probes.errors import StaleWrite, StoreError

log = structlog.get_logger("blocklists")

SECOND_LOOKS = 20
"""Questions in flight while changes are looked at again."""

LAST_LOOKS = 3
"""Further looks, at the end, at a change that could not be looked at again."""

STORE_PAUSE = 10.0
"""Seconds after which a write that the store refused is tried again."""

Writing = Callable[[Tx, float], None]

UNSEEN = "no longer looked up"


class PlanChanged(Exception):
    """The config was reloaded: the sweep goes on with the new one."""


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep asks. faults: subjects that could not be worked out, with the reason."""

    config: Config
    subjects: Sequence[Subject]
    zones: Sequence[Zone]
    owners: Mapping[str, tuple[str, ...]]
    servers: Sequence[str]
    faults: Mapping[str, str]


@dataclass
class Pass:
    """Records what a sweep through one resolver finds. base: the state that this pass goes on from."""

    services: Services
    plan: SweepPlan
    server: str
    base: SweepState
    sweep: Sweep = field(init=False)
    _open: dict[Pair, OpenListing] = field(default_factory=dict)
    _found: list[Listing] = field(default_factory=list)
    _doubts: list[Listing] = field(default_factory=list)
    _counted: dict[tuple[str, str], int] = field(default_factory=dict)
    _said_ok: bool = False

    def found(self, listing: Listing) -> None:
        """A verdict has become final: a listing, or whatever became of one that stands open."""
        self._found.append(listing)

    async def begin(self, sweep: Sweep) -> None:
        """Takes the open listings along; those that nobody looks up any more end."""
        self.sweep = sweep
        self._open = await self.services.database.read(reputation.open_listings)
        await asyncio.to_thread(sweep.follow, self._open)
        self._counted = {} if sweep.rounds else _results(sweep.lanes)  # of this round, by an earlier process
        self._said_ok = False
        gone = self._open.keys() - set(sweep.followed())
        if gone and not self.plan.faults and self.server == self.plan.servers[0]:
            await self._write(lambda tx, now: self._end(tx, gone, now))

    async def checkpoint(self) -> None:
        """Records what became final since the last one. Raises PlanChanged after a reload."""
        changes, doubts = await self._second_look([*self._found, *self._doubts])
        state = self.state()
        await self._write(lambda tx, now: self._record(tx, changes, state, now))
        self._found.clear()
        self._doubts = doubts
        for listing in changes:
            self._remember(listing)
        self._count()
        log.info(
            "sweep", resolver=self.server, done=state.done, total=state.total, listed=state.listed,
            unknown=state.unknown,
        )  # fmt: skip
        if self.services.config is not self.plan.config:
            raise PlanChanged

    async def finish(self, pause: float) -> None:
        """Looks again, a few times, at changes that the second look could not see at all."""
        for _ in range(LAST_LOOKS):
            if not self._doubts:
                return
            await self.services.clock.sleep(pause)
            await self.checkpoint()

    def state(self) -> SweepState:
        """How far the whole sweep is."""
        now, base = self.sweep.state(), self.base
        if base.resolver and base.resolver != self.server:  # what the resolver before it left open
            seen = now.done - now.unknown
            listed, unknown = base.listed + now.listed, base.unknown - seen
            return replace(base, resolver=self.server, listed=listed, unknown=unknown)
        return replace(
            base, resolver=self.server, done=now.done, total=now.total, listed=now.listed,
            unknown=now.unknown, cursor=self.sweep.cursor(),
        )  # fmt: skip

    def _remember(self, listing: Listing) -> None:
        pair = (listing.subject, listing.zone)
        if listing.listed:
            self._open[pair] = OpenListing(0.0, listing.codes, listing.txt)
        else:
            self._open.pop(pair, None)

    async def _second_look(self, found: Sequence[Listing]) -> tuple[list[Listing], list[Listing]]:
        """What goes on as it was and what a second look confirms; and what it could not see."""
        sure = [listing for listing in found if self._known(listing)]
        changed = [x for x in found if not self._known(x) and (x.listed or (x.subject, x.zone) in self._open)]
        doubts: list[Listing] = []
        by_zone: dict[str, list[Listing]] = {}
        for listing in changed:
            by_zone.setdefault(listing.zone, []).append(listing)
        for zone, items in by_zone.items():
            again = await self._again([item.subject for item in items], zone)
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
        return sure, doubts

    def _known(self, listing: Listing) -> bool:
        held = self._open.get((listing.subject, listing.zone))
        return bool(held and listing.listed and held.codes == listing.codes)

    async def _again(self, subjects: Sequence[str], name: str) -> Mapping[str, Listing]:
        zone = next(zone for zone in self.plan.zones if zone.name == name)
        timeout = self.plan.config.resolver.timeout
        resolver = DnsResolver([self.server], timeout=timeout, tries=5, cache=0)
        wanted = [parse_subject(text) for text in subjects]
        return {x.subject: x for x in await check(wanted, [zone], resolver, in_flight=SECOND_LOOKS)}

    async def _write(self, work: Writing) -> None:
        """Writes, again and again where the store does not take it: what was found is not forgotten."""

        def unit(tx: Tx) -> None:
            self.services.fence(tx, SWEEP)
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
        for listing in changes:
            if reputation.note_listing(tx.conn, listing, now) or listing.listed:
                self._observe(tx, listing, now)
        for zone, health in zone_states(self.sweep.lanes).items():
            reputation.set_zone(tx.conn, zone, self.server, health, now)
            if health.healthy and self.server == self.plan.servers[0]:
                reputation.drop_zone(tx.conn, zone, self.plan.servers[1:])
        self._resolver(tx, now)
        reputation.set_sweep(tx.conn, state)

    def _observe(self, tx: Tx, listing: Listing, now: float) -> None:
        seen = ListingSeen(
            subject=listing.subject,
            zone=listing.zone,
            listed=listing.listed,
            at=now,
            severity=listing.severity,
            reason=listing.txt or listing.meaning,
            delist_url=listing.delist_url,
            senders=self.plan.owners.get(listing.subject, ()),
        )
        rows.observe(tx, now, "listing", observation_to_json(seen))

    def _end(self, tx: Tx, gone: Iterable[Pair], now: float) -> None:
        reputation.end_unwatched(tx.conn, list(gone), now)
        for subject, zone in gone:
            seen = ListingSeen(subject, zone, False, now, reason=UNSEEN)
            rows.observe(tx, now, "listing", observation_to_json(seen))

    def _resolver(self, tx: Tx, now: float) -> None:
        """Where zones fail together it is the resolver: our own fault, not theirs."""
        fault = resolver_fault(self.sweep.lanes)
        if fault is None or (not fault and self._said_ok):
            return
        self._said_ok = not fault
        state = OwnState(AlertKind.RESOLVER, self.server, not fault, now, text=fault)
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
