"""The story in acts: what is done to the world, and what the agent must have found before it goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.app import App
from agent.demo.judge import Found, differences
from agent.demo.receivers import Told
from agent.demo.world import ORIGINS, PROVIDERS, VICTIM, ZONE, World
from agent.reports.status import Status, read_status
from agent.store import canaries, incidents
from agent.store.tables import listings, zones
from probes.outcome import Outcome

PATIENCE = 60.0
"""Seconds that an act may take before it counts as not found out."""

QUIET = 6.0
"""Seconds to look on while the alert fires: a second one would come now."""

_TICK = 0.2
_SHOWN = ("What", "Likely cause", "Next step")
_MOST = 10_000


class Stage(Protocol):
    """Where the story is shown. pause: seconds that people want to read an act and look at the table."""

    pause: float

    def say(self, title: str, text: str) -> None:
        """A new act: one line, and one or two that explain it."""

    def note(self, text: str) -> None:
        """Something happened."""

    def show(self, status: Status, told: Sequence[Told]) -> None:
        """The agent's status as it is now, and what the receivers were told so far."""


class Stuck(Exception):
    """The agent did not find out in time; the text says what."""


@dataclass
class Story:
    """Plays on a running agent in its world."""

    app: App
    world: World
    stage: Stage
    found: Found = field(init=False)
    status: Status = field(init=False)

    async def play(self) -> list[str]:
        """Plays all acts; returns in what the agent was wrong, nothing where it was right."""
        wrong: list[str] = []
        try:
            for act in (self._open, self._green, self._break, self._fire, self._repair):
                await act()
        except Stuck as stuck:
            wrong.append(str(stuck))
        await self._look()
        return wrong + differences(self.found, self.world.filed(), self.world.receivers.told)

    async def _open(self) -> None:
        self.stage.say(
            "The agent logs in",
            f"{len(PROVIDERS)} seed mailboxes at as many providers, read over IMAP with TLS.",
        )
        await self.until("every seed mailbox is readable", self._readable)

    def _readable(self) -> bool:
        return all(self.app.mailboxes.readable(plan.name) for plan in PROVIDERS)

    async def _green(self) -> None:
        routes = len(ORIGINS) * len(PROVIDERS)
        self.stage.say(
            "All green",
            f"{len(ORIGINS)} senders, {routes} routes: each canary is sent, read back, judged, stored. The "
            "addresses and domains are looked up in two blocklists, each proved by its test points.",
        )
        await self.until("all routes pass twice and the blocklists answer", self._all_green)
        await self._look_on(self.stage.pause)

    def _all_green(self) -> bool:
        passed = self._passes()
        swept = self.found.zones.values()
        routes = [(o.name, p.name) for o in ORIGINS for p in PROVIDERS]
        return all(passed[route] >= 2 for route in routes) and len(swept) == 2 and all(swept)

    async def _break(self) -> None:
        self.stage.say(
            f"Something breaks at {VICTIM.name}",
            f"Its DKIM key in DNS is replaced by another, and its address {VICTIM.ip} is listed in {ZONE}. "
            "Its servers still get 250 for every message: nothing in their logs is wrong.",
        )
        self.world.break_key()
        self.world.list_address()
        await self.until(f"a canary of {VICTIM.name} is found in spam", self._in_spam)
        self.stage.note(f"a canary of {VICTIM.name} is in spam, with dkim=fail and dmarc=fail")
        await self.until("the listing is seen", lambda: bool(self.found.listings))
        self.stage.note(f"{VICTIM.ip} is listed in {ZONE}")

    def _in_spam(self) -> bool:
        return any(c.placement == "spam" and c.sender == VICTIM.name for c in self.found.canaries)

    async def _fire(self) -> None:
        await self.until("both receivers are told", lambda: self._told("trigger") >= {"slack", "pagerduty"})
        first = self._slack("trigger")
        self.stage.say(
            "ONE alert fires",
            "Three routes fail, and an address is listed: one cause, one alert, to Slack and to PagerDuty. "
            "The other senders pass at the same providers, so it is neither them nor us.",
        )
        self.stage.note(first.title)
        for name, text in first.sections.items():
            if name in _SHOWN:
                for line in text.splitlines():
                    self.stage.note(f"{name}: {line}")
        await self._look_on(QUIET + 2 * self.stage.pause)

    async def _repair(self) -> None:
        self.stage.say(
            "Repaired",
            "The right key is published again and the address is delisted. The alert ends when each "
            "route has passed twice and the listing is gone.",
        )
        self.world.repair_key()
        self.world.delist_address()
        await self.until("both receivers are told", lambda: self._told("resolve") >= {"slack", "pagerduty"})
        self.stage.say("Resolved", "The same incident is closed at both receivers, by the same key.")
        self.stage.note(self._slack("resolve").title)
        await self.until("all routes pass", self._outcome_is_pass)
        await self._look_on(1.0 + self.stage.pause)

    def _outcome_is_pass(self) -> bool:
        return self.status.outcome is Outcome.PASS

    def _slack(self, action: str) -> Told:
        told = self.world.receivers.told
        return next(one for one in told if one.receiver == "slack" and one.action == action)

    def _told(self, action: str) -> set[str]:
        return {one.receiver for one in self.world.receivers.told if one.action == action}

    def _passes(self) -> Counter[tuple[str, str]]:
        passed = [c for c in self.found.canaries if c.outcome is Outcome.PASS]
        return Counter((c.sender, c.seed) for c in passed)

    async def until(self, what: str, done: Callable[[], bool]) -> None:
        """Waits, showing the agent's status. Raises Stuck where it takes too long."""
        end = self.world.clock.monotonic() + PATIENCE
        await self._look()
        while not done():
            if self.world.clock.monotonic() > end:
                raise Stuck(f"not within {PATIENCE:.0f} s: {what}")
            await self.world.clock.sleep(_TICK)
            await self._look()

    async def _look_on(self, seconds: float) -> None:
        end = self.world.clock.monotonic() + seconds
        while (left := end - self.world.clock.monotonic()) > 0:
            await self._look()
            await self.world.clock.sleep(min(_TICK, left))
        await self._look()

    async def _look(self) -> None:
        """Reads the agent's store anew, and shows its status."""
        config, now = self.app.services.config, self.world.clock.wall()
        self.found, self.status = await self.app.services.database.read(
            lambda conn: (read_found(conn), read_status(conn, config, now))
        )
        self.stage.show(self.status, self.world.receivers.told)


def read_found(conn: Connection) -> Found:
    """What the agent's store says of the routes of the story, of alerts, listings and zones."""
    routes = [(origin.name, plan.name) for origin in ORIGINS for plan in PROVIDERS]
    return Found(
        canaries=[c for route in routes for c in canaries.of_route(conn, *route, limit=_MOST)],
        alerts=incidents.alert_rows(conn, open_only=False),
        listings=[dict(row) for row in conn.execute(sa.select(listings)).mappings()],
        zones={row.zone: bool(row.healthy) for row in conn.execute(sa.select(zones))},
    )
