"""One agent's share of the work: takes what falls to it, gives what falls to others, and begins anew where
the others have given it up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from agent.config.models import Config
from agent.fleet import membership
from agent.fleet.assignment import Candidate, Resource, able, moves, owner
from agent.fleet.membership import Membership, View
from agent.fleet.resources import ROUND, resources_of, sending
from agent.store import leases
from agent.store.database import Tx
from agent.store.leases import Lease
from agent.store.members import Member
from probes.errors import MailcanaryError, StaleWrite, StoreError

log = structlog.get_logger("fleet")

WORKING, VISITING, DRAINING, BEHIND = "working", "visiting", "draining", "behind"
"""visiting: sends only what it is asked for, as `mailcanary probe` does where no agent runs; behind: it
cannot take the config that the others run."""


class Room(Protocol):
    """What does the work of one kind of resource."""

    async def take(self, key: str) -> None:
        """The resource is this agent's from now on. Raises StoreError where it cannot be begun yet."""

    async def give(self, key: str) -> None:
        """Ends the work on it in good order; nothing of it is written afterwards."""


@dataclass
class Fleet:
    """This agent among the others. rooms: by kind, the part of a resource's name before the slash."""

    membership: Membership
    config: Callable[[], Config]
    rooms: Mapping[str, Room] = field(default_factory=dict)
    on_lost: Callable[[Iterable[Member]], Awaitable[None]] | None = None
    """Told of members that were evicted, after that is committed."""
    on_config: Callable[[str], Awaitable[None]] | None = None
    """Told at each look the hash of the config that is active."""
    on_beat: Callable[[bool, Mapping[str, int]], None] | None = None
    """Told of each heartbeat whether it went through, and what this agent holds, by kind."""
    on_end: Callable[[], None] | None = None
    """Called where this agent cannot become a member again: it must stop."""
    on_change: Callable[[], None] | None = None
    """Called when other agents have come or gone: what is this agent's to look at is another set now."""
    view: View = field(default_factory=View)
    draining: bool = False
    _held: dict[str, Lease] = field(default_factory=dict)
    _candidates: tuple[Candidate, ...] = ()
    _runs: dict[str, bool] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)
    _lost: tuple[Member, ...] = ()
    _strays: set[Lease] = field(default_factory=set)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def joined(self, view: View) -> None:
        """What joining showed."""
        self._see(view)

    async def begin(self) -> None:
        """Takes this agent's share after it has joined. Raises StoreError where a part cannot be begun."""
        if self.membership.epoch:
            await self.beat()
        await self.move()
        self._tell_beat(True)

    async def heartbeats(self, stop: asyncio.Event) -> None:
        """Beats until `stop`, whatever else takes its time."""
        await self._loop(stop, self._beats)

    async def run(self, stop: asyncio.Event) -> None:
        """Moves work until `stop`."""
        await self._loop(stop, self._moves)

    async def _loop(self, stop: asyncio.Event, work: Callable[[], Awaitable[None]]) -> None:
        while not stop.is_set():
            try:
                await work()
            except MailcanaryError as error:
                log.error("the fleet could not be looked at and will be again", error=str(error))
                await self.membership.clock.sleep(1.0)

    async def _beats(self) -> None:
        await self.membership.clock.sleep(membership.BEAT)
        through = False
        try:
            if self.membership.epoch:
                await self.beat()
            through = True
        finally:
            self._tell_beat(through)
            self._wake.set()

    def _tell_beat(self, through: bool) -> None:
        if self.on_beat is not None:
            self.on_beat(through, Counter(name.partition("/")[0] for name in self._held))

    async def _moves(self) -> None:
        await self._wake.wait()
        self._wake.clear()
        await self.move()

    async def beat(self) -> bool:
        """One heartbeat. False where this agent's membership has ended."""
        view = await self.membership.beat()
        if view is None:
            return False
        self._see(view)
        self._lost += view.lost
        return True

    async def move(self) -> None:
        """Joins again where that is needed, tells of who is lost, and moves what is to be moved."""
        async with self._turn:
            if not self.membership.epoch:
                await self._again()
            lost, self._lost = self._lost, ()
            if lost and self.on_lost is not None:
                log.warning("agents have gone silent", agents=[member.holder for member in lost])
                await self.on_lost(lost)
            if self.on_config is not None:
                await self.on_config(self.view.config)
            await self._move()

    async def _again(self) -> None:
        """Others have taken the work over: what is remembered of it is not true any more."""
        log.error("this agent was given up by the others: it drops what it did and joins again")
        await self._drop(list(self._held))
        try:
            self._see(await self.membership.join())
        except membership.Busy:
            log.error("another agent works on the store now: this one stops")
            if self.on_end is not None:
                self.on_end()
            raise

    def wake(self) -> None:
        """Something may have come free."""
        self._wake.set()

    def _see(self, view: View) -> None:
        self.view = view
        found = tuple(_candidates(view.members))
        if found != self._candidates:
            self._candidates = found
            self._runs.clear()
            if self.on_change is not None:
                self.on_change()

    def reconfigured(self) -> None:
        """Another config is in force: what is this agent's is worked out anew."""
        self._runs.clear()
        self._wake.set()

    async def rebalance(self) -> None:
        """Takes and gives now what the config in force asks for."""
        self._runs.clear()
        if self.membership.epoch:
            await self.move()

    async def _move(self) -> None:
        me, rows = self.membership.holder, self.view.leases
        held = {name: lease.holder for name, lease in rows.items() if lease.holder != me}
        held |= {name: me for name in self._held if not self._own_round(name)}
        wanted = resources_of(self.config())
        wanted |= {name: Resource(name) for name in held if name.startswith(ROUND)}
        found = moves(me, wanted, self._candidates, held)
        orphans = set() if self.draining else set(found.orphans)
        if orphans - self._told:
            log.warning("no agent of the fleet may do these", resources=sorted(orphans - self._told)[:20])
        self._told = orphans
        give = list(held) if self.draining else found.give
        await self._give([name for name in give if name in self._held])
        await self._free_strays()
        if not self.draining:
            await self._take(found.take)

    async def _free_strays(self) -> None:
        """What a give could not record, seen twice: it is mine in the store and I do not do it."""
        me, epoch = self.membership.holder, self.membership.epoch
        mine = [x for x in self.view.leases.values() if x.holder == me and x.epoch == epoch]
        strays = {lease for lease in mine if lease.resource not in self._held}
        await self._record_given(list(strays & self._strays))
        self._strays = strays

    def _own_round(self, name: str) -> bool:
        """A round stays where it is driven until it has ended."""
        return name.startswith(ROUND) and name in self._held

    async def _take(self, names: Iterable[str]) -> None:
        epoch, holder = self.membership.epoch, self.membership.holder
        asked = [Lease(name, holder, epoch) for name in names]
        if not asked:
            return

        def take(tx: Tx) -> list[Lease]:
            self.membership.fence(tx)
            return leases.take_all(tx.conn, asked)

        taken = await self.membership.database.write(take)
        for lease in taken:
            self.keep(lease)
        begun = await asyncio.gather(*(self._begin(lease.resource) for lease in taken))
        await self._give([lease.resource for lease, well in zip(taken, begun, strict=True) if not well])

    async def _begin(self, resource: str) -> bool:
        """Side by side with the others: thousands of mailboxes, one after another, would take minutes."""
        room, key = self._room(resource)
        try:
            await room.take(key)
        except StoreError as error:
            log.error("could not be begun and is given back", resource=resource, error=str(error))
            return False
        return True

    async def _give(self, names: Iterable[str]) -> None:
        """Stops first, then frees: at no time do two agents do it."""
        await self._record_given(await self._drop(names))

    async def _record_given(self, gone: Sequence[Lease]) -> None:
        if not gone:
            return

        def give(tx: Tx) -> None:
            for lease in gone:
                leases.give_back(tx.conn, lease)

        await self.membership.database.write(give, durable=False)
        for lease in gone:
            self.view.leases[lease.resource] = Lease(lease.resource, leases.NOBODY, 0)

    async def _drop(self, names: Iterable[str]) -> list[Lease]:
        gone = [lease for name in names if (lease := self._held.pop(name, None)) is not None]
        ends = await asyncio.gather(*(self._stop(lease.resource) for lease in gone), return_exceptions=True)
        for error in filter(None, ends):  # not before all have ended: what still ends must not begin anew
            raise error
        return gone

    async def _stop(self, resource: str) -> None:
        room, key = self._room(resource)
        with suppress(StaleWrite):
            await room.give(key)

    def _room(self, resource: str) -> tuple[Room, str]:
        kind, _, key = resource.partition("/")
        return self.rooms[kind], key

    async def hand_over(self) -> None:
        """Gives back everything, so that others take it at once."""
        async with self._turn:
            self.draining = True
            await self._give(list(self._held))

    def fence(self, tx: Tx, resource: str = "") -> None:
        """Refuses the write of an agent that is no member any more, or does not hold the resource. Raises
        StaleWrite."""
        self.membership.fence(tx)
        if not resource:
            return
        lease = self._held.get(resource)
        if lease is None:
            raise StaleWrite(f"{resource} is not held by this agent")
        # At the end is soon enough, in one question: while this agent is a member nobody takes its leases.
        asked: set[Lease] | None = tx.kept.get("leases")
        if asked is None:
            asked = tx.kept["leases"] = set()
            tx.check(partial(leases.check, held=asked))
        asked.add(lease)

    def hold_in(self, tx: Tx, resource: str) -> Lease | None:
        """Takes a resource of the moment (a round) inside a transaction; `keep` it after the commit."""
        self.membership.fence(tx)
        lease = Lease(resource, self.membership.holder, self.membership.epoch)
        return lease if leases.take(tx.conn, lease) else None

    def keep(self, lease: Lease) -> None:
        """The transaction in which it was taken is committed."""
        self._held[lease.resource] = self.view.leases[lease.resource] = lease

    async def done(self, resource: str) -> None:
        """A resource of the moment has come to its end."""
        lease = self._held.pop(resource, None)
        self.view.leases.pop(resource, None)
        if lease is None:
            return

        def end(tx: Tx) -> None:
            leases.give_back(tx.conn, lease)
            leases.forget(tx.conn, [resource])

        with suppress(StoreError):  # a round that has ended is dropped by whoever takes it up
            await self.membership.database.write(end, durable=False)

    def holds(self, resource: str) -> bool:
        """Whether it is this agent's now."""
        return resource in self._held

    @property
    def held(self) -> int:
        """How many resources this agent holds."""
        return len(self._held)

    def holder(self, resource: str) -> str:
        """Who held the resource at the last heartbeat; "" where nobody or this agent does."""
        lease = self.view.leases.get(resource)
        return lease.holder if lease is not None and lease.holder != self.membership.holder else ""

    @property
    def alone(self) -> bool:
        """Whether this is the one agent there is."""
        return len(self._candidates) <= 1

    def sends(self, sender: str, schedule: str) -> bool:
        """Whether the route's canaries are this agent's to send."""
        known = self._runs.get(schedule)
        if known is None:
            known = self._runs[schedule] = self.sender_of(sender, schedule) == self.membership.holder
        return known

    def sender_of(self, sender: str, schedule: str) -> str | None:
        """The agent that sends on the route; None where none may."""
        return owner(sending(self.config(), sender, schedule), self._candidates)

    def may_send(self, sender: str) -> bool:
        """Whether this agent has what the sender needs."""
        resource = sending(self.config(), sender, sender)
        return self.membership.holder in able(resource, self._candidates)

    def runs(self, name: str) -> bool:
        """Whether something without pins and leases is this agent's to do."""
        known = self._runs.get(name)
        if known is None:
            known = self._runs[name] = owner(Resource(name), self._candidates) == self.membership.holder
        return known

    def live(self, epoch: int) -> bool:
        """Whether that life of an agent goes on, as the last heartbeat showed."""
        return any(member.epoch == epoch for member in self.view.members)


def _candidates(members: Iterable[Member]) -> Iterable[Candidate]:
    """Those that take work; visitors only where nobody else is there."""
    every = sorted(members, key=lambda member: member.holder)
    working = [member for member in every if member.state == WORKING]
    for member in working or [member for member in every if member.state == VISITING]:
        yield Candidate(member.holder, member.region, frozenset(member.addresses))
