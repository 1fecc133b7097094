"""The agent's own health: leases, heartbeat, the clocks, the loop's lag, retention."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from agent.config.settings import Retention
from agent.fleet.membership import gone
from agent.fleet.resources import UPKEEP
from agent.runner.mailboxes import Mailboxes
from agent.runner.own_faults import OwnFaults
from agent.runner.services import Services
from agent.runner.timer import Timer
from agent.store import retention, rows
from agent.store.database import Tx
from agent.store.members import LOST
from probes.canary.state import Moment
from probes.errors import MailcanaryError

log = structlog.get_logger("upkeep")

BEAT = 10.0
"""Seconds between looks."""

JUMP = 5.0
"""Seconds by which wall and monotonic clock may part between two looks."""

TIDY = 3600.0
"""Seconds between looks for what is kept no longer."""
BREATH = 0.02
"""Seconds between the transactions that delete it: they share the writer with everything else."""


@dataclass
class Upkeep:
    """Runs beside everything else."""

    services: Services
    mailboxes: Mailboxes
    timer: Timer
    _last: Moment | None = None
    _faults: OwnFaults = field(init=False)
    _tidied: float = float("-inf")
    _told: set[str] = field(default_factory=set)
    """Places of lost agents that were told of."""

    def __post_init__(self) -> None:
        self._faults = OwnFaults(self.services)

    async def run(self, stop: asyncio.Event) -> None:
        """Looks after things until `stop`."""
        while not stop.is_set():
            await self._safely(self._beat_clocks)
            await self._safely(self._faults.look)
            await self._safely(self._tell_lost)
            await self._safely(self._tidy)
            await self._watch(stop)

    async def take(self, _key: str) -> None:
        """This agent looks after what is everybody's."""
        self._tidied = float("-inf")
        self._told.clear()

    async def give(self, _key: str) -> None:
        """Another agent does."""

    async def _watch(self, stop: asyncio.Event) -> None:
        """Looks at the clocks and the loop each second until the next beat."""
        for _ in range(int(BEAT)):
            if stop.is_set():
                return
            before = self.services.clock.monotonic()
            await self.services.clock.sleep(1.0)
            lag = self.services.clock.monotonic() - before - 1.0
            self.services.me.lag = max(0.0, lag)
            self.services.metrics.loop_lag.set(self.services.me.lag)
            await self._safely(self._clocks)

    @staticmethod
    async def _safely(work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except MailcanaryError as error:
            log.error("upkeep failed and will be repeated", error=str(error))

    async def _tell_lost(self) -> None:
        """Of agents that have gone; once, and again by whoever looks after the whole next."""
        fleet = self.services.fleet
        lost = {one.place: one for one in fleet.view.members if one.state == LOST and one.listen}
        self._told &= lost.keys()
        news = [one for place, one in lost.items() if place not in self._told]
        if not news or not fleet.holds(UPKEEP):
            return

        def tell(tx: Tx) -> None:
            self.services.fence(tx, UPKEEP)
            now = self.services.clock.wall()
            for one in news:
                rows.observe(tx, now, "own", gone(one, now))
                rows.observe(tx, now, "own", self._faults.store_of(one.place, now))

        await self.services.database.write(tell)
        self._told |= {one.place for one in news}

    async def _beat_clocks(self) -> None:
        """Leaves how the clocks stand, for an agent that starts after a jump."""
        if self.own_clock:
            await self.services.database.write(self._keep_clocks, durable=False)

    async def compare_clocks(self) -> None:
        """At the start: whether the wall clock jumped while no agent ran on this boot."""
        if not self.own_clock:
            return
        kept = await self.services.database.read(lambda conn: rows.setting(conn, rows.CLOCKS))
        now = self.services.now()
        same_boot = bool(kept) and kept["boot"] == now.boot
        self._last = Moment(kept["wall"], kept["monotonic"], now.boot) if same_boot else now
        await self._clocks()

    @property
    def own_clock(self) -> bool:
        """Whether times are by this machine's clock, which may jump; a fleet's are by its database's."""
        return self.services.database.url.get_backend_name() == "sqlite"

    async def _clocks(self) -> None:
        """Tells a jump, and moves what lies ahead. A jump that could not be recorded is found again."""
        if not self.own_clock:
            return
        now = self.services.now()
        last = self._last
        jump = (now.wall - last.wall) - (now.monotonic - last.monotonic) if last else 0.0
        if abs(jump) >= JUMP:
            await self._jumped(now, jump)
        self._last = now

    async def _jumped(self, now: Moment, jump: float) -> None:
        log.warning("the wall clock jumped", seconds=round(jump, 3))
        self.mailboxes.clock_jumped()

        def write(tx: Tx) -> None:
            self.services.fence(tx)
            self._keep_clocks(tx)
            rows.shift_times(tx.conn, jump)
            self._faults.jumped(tx, jump, now.wall)

        await self.services.database.write(write)
        self.timer.wake()

    def _keep_clocks(self, tx: Tx) -> None:
        now = self.services.now()
        kept = {"boot": now.boot, "wall": now.wall, "monotonic": now.monotonic}
        rows.set_setting(tx.conn, rows.CLOCKS, kept)

    def _expire(self, tx: Tx, now: float, keep: Retention) -> bool:
        self.services.fence(tx, UPKEEP)
        return retention.expire(tx.conn, now, keep.results, keep.messages)

    async def _tidy(self) -> None:
        now = self.services.clock.monotonic()
        if now - self._tidied < TIDY:
            return
        self._tidied = now
        keep = self.services.config.agent.retention
        wall = self.services.clock.wall()
        more = self.services.fleet.holds(UPKEEP)
        if more:
            await self.services.hints.drop_forgotten()
        while more:  # others come in between
            more = await self.services.database.write(lambda tx: self._expire(tx, wall, keep))
            await self.services.clock.sleep(BREATH if more else 0.0)
        await self.mailboxes.delete_old(wall - keep.canaries)
