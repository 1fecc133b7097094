"""The owner of a seed's reader: turns sightings and scans into steps of canaries."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog
from sqlalchemy.engine import Connection

from agent.fleet.resources import MAILBOX
from agent.runner.ledger import Change, Ledger
from agent.runner.services import Services
from agent.store import canaries, rows
from agent.store.database import Tx
from alerts.observation import OwnState, observation_to_json
from alerts.settings import AlertKind
from probes.canary import track
from probes.canary.placement import judge
from probes.canary.state import Canary, Moment, State
from probes.canary.token import each_token, find_tokens, verify
from probes.errors import StaleWrite
from probes.headers.report import read_headers
from probes.headers.trust import TrustRule
from probes.mailbox.model import Expectation, ReaderState, Reason, Role, ScanReport, SeenMessage
from probes.mailbox.mutf7 import decode

log = structlog.get_logger("reading")

FIRST_BURST = 5.0
LONGEST_BURST = 15.0
"""Seconds after acceptance in which a canary is expected: at first, and at most once latencies are known."""

TOKENS = 64
"""Tokens of one message that are looked at."""

LOOKUPS = 8
"""Tokens of one message that are looked for in the store, where none is awaited here."""

COVERED = 23 * 3600.0
"""Seconds that a full scan looks back in any case."""


@dataclass
class SeedOwner:
    """What one seed's reader tells, and what it is told. Implements probes.mailbox.model.ReaderOwner."""

    seed: str
    provider: str
    trust: TrustRule
    services: Services
    ledger: Ledger
    frozen: Callable[[str, Moment], bool]
    """Whether a jump of the clock forbids a verdict from a scan that began then (and notes a clean scan)."""
    tabs: Mapping[str, str] = field(default_factory=dict)
    """Category by folder, where the config says that a folder is a tab."""
    state: ReaderState | None = None
    _scan_after: float | None = None
    _burst_length: float = FIRST_BURST
    _latencies: deque[float] = field(default_factory=lambda: deque(maxlen=20))

    def expecting(self) -> Expectation:
        """What is waited for now."""
        waiting = self.ledger.waiting(self.seed)
        return Expectation(
            open=len(waiting),
            oldest_sent_at=self.ledger.oldest(self.seed),
            burst=self._burst(waiting),
            scan_after=self._scan_after,
        )

    def _burst(self, waiting: Collection[Canary]) -> tuple[float, float] | None:
        boot = self.services.clock.boot
        starts = [c.accepted.monotonic for c in waiting if c.accepted and c.accepted.boot == boot]
        if not starts:
            return None
        return min(starts), max(starts) + self._burst_length

    def _learn(self, latency: float) -> None:
        self._latencies.append(latency)
        if len(self._latencies) >= 5:
            usual = sorted(self._latencies)[-1 - len(self._latencies) // 20]  # but for one in twenty
            self._burst_length = min(LONGEST_BURST, max(2.0, 2.0 * usual))

    def want_scan(self) -> bool:
        """Asks for a full scan that begins from now on. False where the mailbox cannot be read."""
        self._scan_after = self.services.clock.wall()
        return self.state is not None and self.state.readable

    async def on_message(self, message: SeenMessage) -> None:
        """A message that looks like a canary: it counts where its token is an open intent of this mailbox."""
        mine = next((c for t in self._tokens(message) if (c := self._mine(t)) is not None), None)
        if mine is None:
            known, mine = await self._stored(message)
            if known:
                return
        if mine is None:
            if find_tokens(message.header, limit=1):
                log.info("not an open canary of this mailbox", seed=self.seed, folder=message.folder)
            return
        if message.role is Role.TAB and message.category is None:
            message = replace(message, category=self.tabs.get(decode(message.folder)))
        seen = Moment(message.seen_wall, message.seen_monotonic, self.services.clock.boot)
        arrival = judge(message, read_headers(message.header, self.trust), seen)
        change = await self.services.database.write(
            lambda tx: self._record(tx, mine, message, arrival), durable=False, order=mine.id, may_wait=True
        )
        if change is None:
            return
        self.ledger.committed([change])
        if change.after.latency is not None:
            self._learn(change.after.latency)

    @staticmethod
    def _tokens(message: SeenMessage) -> Iterator[str]:
        return islice(each_token(message.header), TOKENS)

    def _mine(self, token: str) -> Canary | None:
        canary = self.ledger.expects(self.seed, token)
        return canary if canary is not None and self._genuine(canary) else None

    def _genuine(self, canary: Canary) -> bool:
        services = self.services
        return verify(services.keys, canary.token, agent=services.agent, route=canary.route)

    async def _stored(self, message: SeenMessage) -> tuple[bool, Canary | None]:
        """An open canary of this mailbox that has its verdict, or that another agent sent and has not told of
        yet. (True, None) where this very message was noted before: an agent that starts sees all of them."""
        tokens = list(islice(self._tokens(message), LOOKUPS))
        if not tokens:
            return False, None

        def find(conn: Connection) -> tuple[bool, Canary | None]:
            if canaries.sighted(conn, self.seed, _place(message)):
                return True, None
            found = (canaries.by_token(conn, token) for token in tokens)
            return False, next((c for c in found if c and c.seed == self.seed and c.due_at is not None), None)

        known, canary = await self.services.database.read(find)
        if canary is None or not self._genuine(canary):
            return known, None
        self.ledger.remember(canary)
        return False, canary

    def _record(self, tx: Tx, mine: Canary, message: SeenMessage, arrival: track.Arrival) -> Change | None:
        self._fence(tx)
        tx.flush(mine.id)
        place = _place(message)
        if not canaries.sight(tx, self.seed, place, mine.id, message.seen_wall, message.header):
            return None
        try:
            return self._arrive(tx, mine, place, arrival)
        except StaleWrite:  # its row has moved on since the loop last heard of it
            before = canaries.hold(tx.conn, mine.id)
            return None if before is None else self._arrive(tx, before, place, arrival)

    def _arrive(
        self, tx: Tx, before: Canary, place: tuple[str, int, int], arrival: track.Arrival
    ) -> Change | None:
        if before.seen_at is not None and self._same_message(tx, before, place):
            return None
        return self.ledger.move_in(tx, before, lambda c, now: track.arrived(c, arrival, now))

    def _same_message(self, tx: Tx, before: Canary, place: tuple[str, int, int]) -> bool:
        """A sighting in another folder, or after UIDVALIDITY changed, may be a message we know, moved: only
        as many UIDs of one folder and validity are surely as many messages."""
        folder, validity, _ = place
        found = canaries.count_sightings(tx.conn, self.seed, folder, validity, before.id)
        return found < before.duplicates + 2

    async def on_scan(self, report: ScanReport) -> None:
        """A full scan ended: settles what it proves missing."""
        began = Moment(report.started_wall, report.started_monotonic, self.services.clock.boot)
        clean = report.complete and not self.frozen(self.seed, began)
        scan = track.Scan(began, clean, "" if clean else str(report.fault or "clock"))
        waiting = {c.id for c in self.ledger.waiting(self.seed) if c.state in (State.SENT, State.UNCONFIRMED)}
        changes = await self.services.database.write(
            lambda tx: self._settle(tx, waiting, scan, report), durable=False
        )
        if self._scan_after is not None and report.started_wall >= self._scan_after:
            self._scan_after = None
        for change in changes:
            if change.after is change.before:
                self.ledger.remember(change.after)  # it may have its verdict from elsewhere
        self.ledger.committed([change for change in changes if change.after is not change.before])

    def _settle(self, tx: Tx, waiting: set[str], scan: track.Scan, report: ScanReport) -> list[Change]:
        self._fence(tx)
        # Also what other agents sent and have not told of, as far back as every scan looks.
        untold = canaries.unsettled(tx.conn, self.seed, self.services.clock.wall())
        waiting = waiting | {c.id for c in untold if c.created.wall > scan.began.wall - COVERED}
        found = (
            self.ledger.apply_in(tx, one, lambda canary, now: track.scanned(canary, scan, now))
            for one in sorted(waiting)
        )
        changes = [change for change in found if change is not None]
        if scan.clean:
            junk = [folder.name for folder in report.folders if folder.role is Role.JUNK]
            rows.set_mailbox(tx.conn, self.seed, scanned_at=scan.began.wall, state={"junk": junk})
        return changes

    def _fence(self, tx: Tx) -> None:
        self.services.fence(tx, MAILBOX + self.seed)

    async def on_state(self, state: ReaderState) -> None:
        """Readable or not: a fault of our own, never one of deliverability."""
        self.state = state
        if state.reason in (Reason.STARTING, Reason.STOPPED):
            return
        level = log.info if state.readable else log.warning
        level("mailbox", seed=self.seed, readable=state.readable, reason=str(state.reason))

        def record(tx: Tx) -> None:
            self._fence(tx)
            now = self.services.clock.wall()
            rows.set_mailbox(
                tx.conn,
                self.seed,
                readable=state.readable,
                reason=str(state.reason),
                detail=state.detail,
                since=state.since,
            )
            own = OwnState(
                AlertKind.SEED_UNREADABLE,
                self.seed,
                state.readable,
                now,
                reason=str(state.reason),
                text=state.detail,
                provider=self.provider,
            )
            rows.observe(tx, now, "own", observation_to_json(own))

        await self.services.database.write(record)


def _place(message: SeenMessage) -> tuple[str, int, int]:
    """What tells a message from every other of its mailbox."""
    return message.folder[:255], message.uidvalidity, message.uid
