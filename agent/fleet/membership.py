"""This agent's own place among those that work on the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import structlog

from agent import __version__
from agent.holder import surely_dead
from agent.store import leases, members, rows, versions
from agent.store.clock import Offset, measure
from agent.store.database import Database, Tx
from agent.store.members import LOST, Member
from alerts.observation import OwnState, observation_to_json
from alerts.settings import AlertKind
from probes.clock import Clock, rfc3339
from probes.errors import StaleWrite, StoreError

log = structlog.get_logger("fleet")

LEASE = 15.0
"""Seconds for which a heartbeat makes an agent a member."""

BEAT = 3.0
"""Seconds between heartbeats."""

MARGIN = 1 / 8
"""The last part of its lease in which an agent begins nothing that cannot be undone."""


def gone(member: Member, now: float) -> dict[str, object]:
    """An observation: a fault of our own, until it is back or forgotten."""
    text = f"no heartbeat since {rfc3339(member.heartbeat_at)}; the others do its work"
    return observation_to_json(OwnState(AlertKind.AGENT, member.place, False, now, text=text))


def unfit(place: str, why: str, now: float) -> dict[str, object]:
    """An observation: an agent is there and cannot do its part."""
    return observation_to_json(OwnState(AlertKind.AGENT, place, False, now, text=why))


def back(place: str, now: float) -> dict[str, object]:
    """An observation: an agent answers at that place again, or is not to come back."""
    return observation_to_json(OwnState(AlertKind.AGENT, place, True, now))


class Busy(StoreError):
    """Another agent works on this store."""


@dataclass(slots=True)
class Myself:
    """This agent as the others are to see it; changed as it changes."""

    holder: str
    name: str
    started_at: float
    state: str
    region: str = ""
    addresses: tuple[str, ...] = ()
    config_hash: str = ""
    listen: str = ""
    """Where its web answers; "" until it does."""
    detail: str = ""
    lag: float = 0.0
    resolvers: tuple[str, ...] = ()

    def now(self) -> Member:
        """As a row, but for what the membership itself says."""
        facts = {name: getattr(self, name) for name in type(self).__slots__}
        return Member(version=__version__, **facts)


@dataclass(frozen=True, slots=True)
class View:
    """What the rows said at the last heartbeat. lost: members that were evicted with it."""

    members: tuple[Member, ...] = ()
    leases: dict[str, leases.Lease] = field(default_factory=dict)
    lost: tuple[Member, ...] = ()
    offset: Offset | None = None
    config: str = ""
    """The hash of the config that all are to run."""


@dataclass
class Membership:
    """Joins, beats and leaves. facts: this agent as it is now, but for what the membership itself says."""

    database: Database
    clock: Clock
    facts: Callable[[], Member]
    measured: Callable[[Offset], None] | None = None
    """Where times are by the database's clock: told what each heartbeat measures of it."""
    epoch: int = 0
    """Names this life; 0 while the agent is no member."""
    _valid_until: float = float("-inf")
    """Monotonic."""
    _looking_since: float = float("inf")
    """Monotonic: since when heartbeats came through. Before that others may look dead and not be."""

    @cached_property
    def holder(self) -> str:
        """This process's name: the one fact that never changes."""
        return self.facts().holder

    def sure(self) -> bool:
        """Whether nobody can have taken this agent's work over yet. Asks nobody."""
        return self.left() > 0

    def left(self) -> float:
        """Seconds for which nobody can take this agent's work over, if no heartbeat goes through any more."""
        return self._valid_until - self.clock.monotonic() if self.epoch else 0.0

    def fence(self, tx: Tx) -> None:
        """Refuses the write of an agent that is no member any more. Raises StaleWrite."""
        epoch = self.epoch
        if not epoch:
            raise StaleWrite("this agent's membership has ended: others do its work now")
        if epoch not in tx.fences:
            members.check(tx.conn, self.holder, epoch)
            tx.fences.add(epoch)

    async def join(self) -> View:
        """Begins a new life. Raises Busy where the store takes one agent alone and another one is there."""
        began = self.clock.monotonic()
        self.epoch, view = await self.database.write(self._join)
        self._valid_until = began + LEASE * (1 - MARGIN)
        self._looking_since = began
        log.info("joined the fleet", epoch=self.epoch, members=len(view.members))
        return view

    def _join(self, tx: Tx) -> tuple[int, View]:
        now, me = self.clock.wall(), self.holder
        gone = []
        for other in members.every(tx.conn):
            dead = other.expires_at <= now or surely_dead(other.holder, self.clock.boot)
            if other.state == LOST or other.holder == me:
                continue
            if not dead and tx.conn.dialect.name == "sqlite":
                raise Busy(
                    f"{other.holder} holds it; one agent works on a store of SQLite "
                    "(stop it, or wait until its lease ends)"
                )
            local = tx.conn.dialect.name == "sqlite" or surely_dead(other.holder, self.clock.boot)
            if dead and local and members.evict(tx.conn, other):
                gone.append(other)
        epoch = leases.next_epoch(tx.conn)
        members.put(tx.conn, self._row(epoch, now))
        return epoch, self._view(tx, gone)

    def _row(self, epoch: int, now: float) -> Member:
        return replace(self.facts(), epoch=epoch, heartbeat_at=now, expires_at=now + LEASE)

    def _view(self, tx: Tx, lost: list[Member]) -> View:
        offset = measure(tx.conn, self.clock.monotonic) if self.measured is not None else None
        config = versions.active_hash(tx.conn)
        return View(tuple(members.every(tx.conn)), leases.every(tx.conn), tuple(lost), offset, config)

    async def beat(self) -> View | None:
        """The heartbeat; evicts whose own has stopped. None where this agent's membership has ended."""
        began = self.clock.monotonic()
        patient = began - self._looking_since >= 2 * BEAT
        if began > self._valid_until + LEASE * MARGIN:
            # Nothing went through for long: the others may have been cut off as we were.
            self._looking_since, patient = began, False
        epoch = self.epoch
        view = await self.database.write(lambda tx: self._beat(tx, epoch, patient), durable=False)
        if view is None:
            self.end()
        else:
            self._valid_until = began + LEASE * (1 - MARGIN)
            if view.offset is not None and self.measured is not None:
                self.measured(view.offset)
        return view

    def _beat(self, tx: Tx, epoch: int, patient: bool) -> View | None:
        now = self.clock.wall()
        if not members.renew(tx.conn, self._row(epoch, now)):
            return None
        gone = []
        for other in members.every(tx.conn) if patient else ():
            expired = other.expires_at <= now and other.state != LOST and other.epoch != epoch
            if expired and members.evict(tx.conn, other):
                gone.append(other)
        return self._view(tx, gone)

    async def announce(self) -> None:
        """This agent's address is one that answers now."""

        def announce(tx: Tx) -> None:
            self.fence(tx)
            place, now = self.facts().place, self.clock.wall()
            if members.forget(tx.conn, place):
                rows.observe(tx, now, "own", back(place, now))
            members.renew(tx.conn, self._row(self.epoch, self.clock.wall()))

        await self.database.write(announce)

    def end(self) -> None:
        """From now on this agent writes nothing."""
        self.epoch, self._valid_until = 0, float("-inf")

    async def leave(self) -> None:
        """Leaves in good order: whatever is still held is free at once."""
        epoch, self._valid_until = self.epoch, float("-inf")
        if epoch:
            await self.database.write(lambda tx: self._leave(tx, epoch))
        self.epoch = 0

    def _leave(self, tx: Tx, epoch: int) -> None:
        members.check(tx.conn, self.holder, epoch)
        members.drop(tx.conn, self.holder)
