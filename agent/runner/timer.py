"""One timer for everything that has a due time in a row, and the sweep that derives the work from rows.

The sweep is idempotent: what it finds due becomes a hint, and the handler of the hint checks the row
again in its own transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from agent.fleet.resources import MAILBOX, SWEEP, UPKEEP
from agent.runner.ledger import Ledger
from agent.runner.origins import PREFIX
from agent.runner.services import Services
from agent.runner.waiting import first_of
from agent.store import canaries, rows
from agent.store.database import Hint
from probes.canary import track
from probes.canary.state import Canary, State
from probes.errors import MailcanaryError

log = structlog.get_logger("timer")

AT_ONCE, LONGEST_SLEEP = 0.05, 30.0
"""Seconds between sweeps, at least and at most."""
FORSAKEN = 120.0
"""Seconds after which what came due and was not looked at is whoever's who looks after the whole."""

SCAN_AGAIN = 20.0
"""Seconds after which a scan that was asked for and did not come is asked for again."""


@dataclass(frozen=True, slots=True)
class Mine:
    """Which of the rows that come due are this agent's to look at."""

    services: Services
    now: float

    def canary(self, row: canaries.Waits) -> bool:
        """The sender's agent repeats, the mailbox's reader judges; what nobody looks at, one agent does."""
        fleet = self.services.fleet
        if row.state == State.INTENDED.value:
            return row.epoch == self.services.epoch or not fleet.live(row.epoch)
        if self._forsaken(row.due_at):
            return True
        if row.state == State.DEFERRED.value:
            return fleet.sends(row.sender, f"{PREFIX}{row.sender}/{row.seed}")
        return fleet.holds(MAILBOX + row.seed)

    def schedule(self, name: str, due_at: float) -> bool:
        """Routes and domains are spread over the agents, each part of the blocklists has its holder."""
        fleet = self.services.fleet
        kind, _, rest = name.partition(":")
        if kind == "blocklists":
            return fleet.holds(SWEEP + rest)
        if name.startswith(PREFIX):
            sender = rest.partition("/")[0]
            return fleet.sends(sender, name) or (self._forsaken(due_at) and fleet.may_send(sender))
        return fleet.runs(name) or self._forsaken(due_at)

    def _forsaken(self, due_at: float) -> bool:
        return due_at < self.now - FORSAKEN and self.services.fleet.holds(UPKEEP)


@dataclass
class Timer:
    """Sleeps until the next due time and sweeps; `wake` makes it look at once."""

    services: Services
    ledger: Ledger
    wants_scan: Callable[[str], bool]
    """Asks a seed's reader for a full scan; False where it cannot read now."""
    scan_fault: Callable[[str], str]
    scheduled: bool = True
    """False: schedules are left alone, only canaries come due."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _next: float = 0.0
    """When the next sweep is due, by the wall clock."""
    _hinted: bool = False
    """Whether the last sweep left something to a handler, which moves it on."""

    def expect(self, due_at: float | None) -> None:
        """A row will come due then: looks sooner where that is earlier than the next sweep."""
        if due_at is not None and due_at < self._next:
            self._wake.set()

    def wake(self) -> None:
        """Something came due earlier than thought."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Sweeps until `stop`."""
        while not stop.is_set():
            self._wake.clear()  # before the sweep: what comes in meanwhile is looked at again
            try:
                pause = await self.sweep()
            except MailcanaryError as error:
                log.error("the sweep failed and will be repeated", error=str(error))
                pause = 5.0
            await self._rest(pause, stop)

    async def _rest(self, pause: float, stop: asyncio.Event) -> None:
        pause = max(0.01, min(pause, LONGEST_SLEEP))
        await first_of(self.services.clock.sleep(pause), self._wake.wait(), stop.wait())

    @property
    def _mine(self) -> Mine:
        return Mine(self.services, self.services.clock.wall())

    async def sweep(self) -> float:
        """Turns what is due into hints and steps. Returns the seconds until the next due time."""
        services, mine = self.services, self._mine
        now = services.clock.wall()
        due = await services.database.read(
            lambda conn: (
                canaries.due(conn, now, mine.canary),
                rows.due_schedules(conn, now, mine.schedule) if self.scheduled else [],
            )
        )
        self._hinted = bool(due[1])
        for canary in due[0]:
            await self._look(canary)
        for name in due[1]:
            services.hints.put(Hint(name.partition(":")[0], name))
        return await self._until_next(now)

    async def _until_next(self, swept: float) -> float:
        if self._hinted:  # what was hinted is moved on by its handler, and is looked at again at once
            self._next = self.services.clock.wall() + AT_ONCE
            return AT_ONCE
        mine = self._mine
        following = await self.services.database.read(
            lambda conn: (
                canaries.next_due(conn, swept, mine.canary),
                rows.next_schedule(conn, swept, mine.schedule) if self.scheduled else None,
            )
        )
        now = self.services.clock.wall()
        times = [at for at in following if at is not None]
        pause = min(LONGEST_SLEEP, max(AT_ONCE, min(times) - now)) if times else LONGEST_SLEEP
        self._next = now + pause
        return pause

    async def _look(self, canary: Canary) -> None:
        now = self.services.now()
        if canary.state is State.INTENDED:
            if canary.id not in self.services.inflight:
                await self.ledger.apply(canary.id, track.abandoned)
            return
        if track.may_send_again(canary, now) and self.services.fleet.may_send(canary.sender):
            self._hinted = True
            self.services.hints.put(Hint("retry", canary.id))
            return
        if canary.state in (State.SENT, State.UNCONFIRMED) and canary.overdue(now):
            await self._ask_for_scan(canary)
            return
        await self.ledger.apply(canary.id, lambda c, at: track.rested(track.due(c, at), c, at))

    async def _ask_for_scan(self, canary: Canary) -> None:
        self.ledger.remember(canary)  # so that the scan looks back far enough
        asked = self.wants_scan(canary.seed)
        fault = "" if asked else self.scan_fault(canary.seed)

        def step(current: Canary, at: object) -> Canary:
            now = self.services.now()
            after = track.due(current, now)
            if after is current and fault:
                after = track.unreadable(current, fault, now)
            return track.rested(after, current, now, SCAN_AGAIN)

        await self.ledger.apply(canary.id, step)
