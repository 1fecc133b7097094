"""Every (subject, zone) pair of hundreds of thousands, spread over time, each verdict between two controls.

The sweep runs in segments. A segment asks the pairs of the healthy zones for a while, then asks the controls
again; only then do its verdicts count and its listings become known. A zone that fails its controls is put
aside, its segment is forgotten, and it is tried again later; what could never be asked ends as unknown.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from probes.blocklists.catalogue import Zone
from probes.blocklists.check import Listing, Pair, listing
from probes.blocklists.engine import Engine
from probes.blocklists.health import ZoneHealth, examine, suspect_resolver
from probes.blocklists.judge import Reason, Verdict
from probes.blocklists.lanes import DEFINITE, ZoneLane, build_lanes, fingerprint
from probes.blocklists.query import Subject
from probes.clock import Clock, SystemClock
from probes.dns_client import DnsResolver, parse_nameserver

CONTROLS_IN_FLIGHT = 50  # zones examined at a time
WITNESSES = 6  # healthy zones asked beside those that fail, to tell whose fault it is


@dataclass(frozen=True, slots=True)
class SweepProgress:
    """How far a sweep is. done: pairs with a final verdict; seconds since the start."""

    done: int
    total: int
    listed: int
    unknown: int
    seconds: float


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep found: pairs by lane ("zone kind") and reason, the zones' health, the cost in questions.

    skipped: pairs whose earlier answer was still fresh.
    """

    counts: Mapping[str, Mapping[Reason, int]]
    health: tuple[ZoneHealth, ...]
    pairs: int
    skipped: int
    sent: int
    resent: int
    seconds: float

    def total(self, reason: Reason) -> int:
        """Pairs with this reason, over all zones."""
        return sum(counts.get(reason, 0) for counts in self.counts.values())


class Sweep:
    """One plan of subjects and zones, swept as often as `run` is called; fresh answers are not asked again.

    nameserver: "ip" or "ip:port". pace: questions a second over all zones, None for full speed; segment:
    seconds between controls. cursor: an earlier `cursor()` of the same plan, to go on where that stopped.
    only: in the first run just these (subject, zone) pairs.
    on_listing: called with each confirmed listing, and with whatever is confirmed of a followed pair.
    progress: called after each segment. checkpoint: awaited once something has become final or a zone's
    health is known, before anything further is asked: what was told until then goes with `cursor()`.
    retries, retry_after: how often and after how many seconds a zone that failed its controls is tried again.
    Readable: `lanes`, `plan` (which tells it from others), `rounds` done so far.
    """

    def __init__(
        self,
        subjects: Iterable[Subject],
        zones: Iterable[Zone],
        nameserver: str,
        *,
        on_listing: Callable[[Listing], None] | None = None,
        progress: Callable[[SweepProgress], None] | None = None,
        checkpoint: Callable[[], Awaitable[None]] | None = None,
        cursor: Mapping[str, object] | None = None,
        only: Iterable[tuple[str, str]] | None = None,
        pace: float | None = None,
        in_flight: int = 400,
        timeout: float = 5.0,
        segment: float = 30.0,
        retries: int = 2,
        retry_after: float = 60.0,
        clock: Clock | None = None,
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        self._on_listing = on_listing or (lambda _: None)
        self._progress = progress or (lambda _: None)
        self._checkpoint = checkpoint
        self._segment, self._retries, self._retry_after = segment, retries, retry_after
        self._engine = Engine(parse_nameserver(nameserver), in_flight, timeout, pace)
        self._resolver = DnsResolver(
            [nameserver], timeout=timeout, retry=min(0.1, timeout / 8), tries=6, cache=0
        )
        self.lanes = build_lanes(subjects, zones)
        self.plan = fingerprint(self.lanes)
        self._running = False
        self.rounds = 0
        self._started = 0.0
        if cursor is not None and cursor.get("plan") == self.plan:
            self._resume(cursor.get("lanes"), cursor.get("found"))
        if only is not None:
            for lane, texts in self._by_lane(only):
                lane.narrow(texts)

    def cursor(self) -> dict[str, object]:
        """Where the sweep is, ready for JSON: hand it to a new Sweep of the same plan after a restart."""
        return {
            "plan": self.plan,
            "lanes": {lane.name: lane.cursor for lane in self.lanes},
            "found": {lane.name: lane.found() for lane in self.lanes if lane.cursor},
        }

    def _resume(self, positions: object, found: object) -> None:
        if isinstance(positions, dict) and isinstance(found, dict):
            for lane in self.lanes:
                at, counts = positions.get(lane.name, 0), found.get(lane.name, {})
                if isinstance(at, int) and isinstance(counts, dict):
                    lane.resume(at, counts)

    def follow(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From now on tells what becomes of these (subject, zone) pairs also where they are not listed."""
        for lane, texts in self._by_lane(pairs):
            lane.follow(texts)

    def followed(self) -> Iterator[tuple[str, str]]:
        """The pairs that are followed: those of `follow` that are in the plan."""
        for lane in self.lanes:
            for position in lane.followed:
                yield lane.subjects[position].text, lane.zone.name

    def _by_lane(self, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[ZoneLane, frozenset[str]]]:
        by_zone: dict[str, set[str]] = {}
        for subject, zone in pairs:
            by_zone.setdefault(zone, set()).add(subject)
        for lane in self.lanes:
            yield lane, frozenset(by_zone.get(lane.zone.name, ()))

    async def run(self) -> SweepReport:
        """Sweeps once. Raises RuntimeError when it is already running."""
        if self._running:
            raise RuntimeError("this sweep is running")
        self._running = True
        self._started, sent, resent = self._clock.monotonic(), self._engine.sent, self._engine.resent
        for lane in self.lanes:
            lane.forget()  # what a cancelled run had under way
        try:
            skipped = await self._rearm() if self.rounds else 0
            while ready := await self._ready():
                await self._run_segment(ready)
            await self._save()
            self.rounds += 1
        finally:
            self._running = False
        return SweepReport(
            counts={lane.name: lane.counts() for lane in self.lanes},
            health=tuple(lane.health for lane in self.lanes if lane.health is not None),
            pairs=sum(lane.end for lane in self.lanes),
            skipped=skipped,
            sent=self._engine.sent - sent,
            resent=self._engine.resent - resent,
            seconds=self._clock.monotonic() - self._started,
        )

    async def _rearm(self) -> int:
        """Sets every lane up for the next round. Returns how many pairs are still fresh."""
        skipped = 0
        for lane in self.lanes:
            skipped += lane.rearm(self._clock.wall())
            await asyncio.sleep(0)
        return skipped

    async def _save(self) -> None:
        if self._checkpoint is not None:
            await self._checkpoint()

    def unknown(self) -> Iterator[tuple[Subject, Zone, Reason]]:
        """The pairs that could not be seen in the last run, with the reason."""
        for lane in self.lanes:
            yield from lane.unknown()

    async def _ready(self) -> list[ZoneLane]:
        """The lanes with work whose zones are healthy; waits for the next try of those that are not."""
        while True:
            left = [lane for lane in self.lanes if lane.next < lane.end]
            await self._examine([lane for lane in left if not lane.healthy])
            ready = [lane for lane in left if lane.healthy]
            if ready or not left:
                return ready
            lost = [lane for lane in left if lane.failures > self._retries or lane.zone.needs_key]
            for lane in lost:
                lane.give_up()
            if len(lost) < len(left):
                await self._save()
                await self._clock.sleep(self._retry_after)

    async def _examine(self, lanes: Sequence[ZoneLane]) -> None:
        """Asks the controls of some lanes, and puts their health down.

        Where some fail, a few that were healthy are asked as well: only they can tell a resolver that fails
        from zones that do.
        """
        healths = await self._controls(lanes)
        witnesses: Sequence[ZoneLane] = ()
        if not all(health.healthy for health in healths):
            witnesses = [lane for lane in self.lanes if lane.healthy and lane not in lanes][:WITNESSES]
        said = suspect_resolver([*healths, *await self._controls(witnesses)])
        for lane, health in zip(lanes, said, strict=False):
            lane.health = health
            lane.failures += 0 if health.healthy else 1

    async def _controls(self, lanes: Sequence[ZoneLane]) -> list[ZoneHealth]:
        nonce = f"mc{secrets.token_hex(8)}"
        gate = asyncio.Semaphore(CONTROLS_IN_FLIGHT)

        async def one(lane: ZoneLane) -> ZoneHealth:
            async with gate:
                return await examine(lane.zone, lane.kind, self._resolver, nonce)

        return list(await asyncio.gather(*(one(lane) for lane in lanes)))

    async def _run_segment(self, lanes: Sequence[ZoneLane]) -> None:
        """Asks for one segment, then the controls, then makes its verdicts final or forgets them."""
        await self._engine.run(lanes, self._segment)
        asked = [lane for lane in lanes if lane.next > lane.confirmed]
        await self._examine(asked)
        for lane in asked:
            if lane.healthy:
                lane.confirm(self._clock.wall(), self._tell)
            else:
                lane.forget()
        self._progress(self.state())
        await self._save()

    def _tell(self, subject: Subject, zone: Zone, verdict: Verdict) -> None:
        self._on_listing(listing(Pair(subject, zone), verdict))

    def state(self) -> SweepProgress:
        """How far it is."""
        counts = [lane.counts() for lane in self.lanes]
        return SweepProgress(
            done=sum(lane.confirmed for lane in self.lanes),
            total=sum(lane.end for lane in self.lanes),
            listed=sum(count.get(Reason.LISTED, 0) for count in counts),
            unknown=sum(n for count in counts for reason, n in count.items() if reason not in DEFINITE),
            seconds=self._clock.monotonic() - self._started,
        )
