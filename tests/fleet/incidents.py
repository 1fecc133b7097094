"""An agent of a fleet is killed or frozen, and how long the others take to do its work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.fleet.assignment import Candidate, Resource, owner
from tests.fakes.postgres import Postgres
from tests.fleet.agents import Fleet, FleetAgent
from tests.fleet.world import Load

LONGEST = 60.0
MAILBOX = "mailbox/"
MEMBERS = "SELECT holder FROM agents WHERE state <> 'lost'"


@dataclass
class Scene:
    """A fleet at work, and the database it works on."""

    fleet: Fleet
    world: Load
    server: Postgres
    database: str
    mailboxes: int
    taken_over: list[float] = field(default_factory=list)
    """Seconds from each incident until others did all of the victim's work."""

    def leases(self) -> dict[str, str]:
        """Who holds what: resource -> the holder's name."""
        found = self.server.sql("SELECT resource, holder FROM leases WHERE holder <> ''", self.database)
        return {str(resource): str(holder) for resource, holder in found}

    def of(self, agent: FleetAgent) -> set[str]:
        """What the agent's process holds."""
        return {name for name, holder in self.leases().items() if holder.split(":")[2] == str(agent.pid)}

    async def until(self, true: Callable[[], bool], complaint: str, timeout: float = LONGEST) -> None:
        """Waits for a condition, bounded."""
        end = time.monotonic() + timeout
        while not true():
            if time.monotonic() > end:
                raise AssertionError(f"{complaint}\n{self.fleet.logs()}")
            await asyncio.sleep(0.05)

    async def spread(self) -> None:
        """Waits until all agents that run are members, each mailbox is with the agent it falls to, and all
        are read. Of so few mailboxes none may fall to an agent."""

        def is_spread() -> bool:
            members = [Candidate(str(row[0])) for row in self.server.sql(MEMBERS, self.database)]
            pids = {int(member.holder.split(":")[2]) for member in members}
            held = {name: holder for name, holder in self.leases().items() if name.startswith(MAILBOX)}
            placed = all(owner(Resource(name), members) == holder for name, holder in held.items())
            return placed and len(held) >= self.mailboxes and pids == {agent.pid for agent in self.fleet.up}

        await self.until(is_spread, "the work was never spread over all agents")
        await self.all_read(0.0)

    async def all_read(self, after: float, boxes: set[str] | None = None) -> None:
        """Waits until the mailboxes have a session that logged in after then."""
        end = time.monotonic() + LONGEST
        while True:
            newest = await self.world.ask("newest")
            wanted = boxes if boxes is not None else {f"box{n}@example.net" for n in range(self.mailboxes)}
            if all(newest.get(box, -1.0) > after for box in wanted):
                return
            if time.monotonic() > end:
                raise AssertionError(f"mailboxes are not read\n{self.fleet.logs()}")
            await asyncio.sleep(0.05)

    async def strike(self, victim: FleetAgent, freeze: bool) -> None:
        """Kills or freezes the agent and waits until others do all it did."""
        held = self.of(victim)
        boxes = {f"{name.removeprefix(MAILBOX)}@example.net" for name in held if name.startswith(MAILBOX)}
        began, wall = time.monotonic(), time.time()
        if freeze:
            victim.freeze()
        else:
            await victim.kill()

        def others_have_it() -> bool:
            now = self.leases()
            mine = str(victim.pid)
            return all(now.get(name, f"::{mine}").split(":")[2] != mine for name in held)

        await self.until(others_have_it, f"nobody took over: {held}")
        await self.all_read(wall, boxes)
        self.taken_over.append(time.monotonic() - began)
