"""One round now: canaries outside the schedule, for `mailcanary probe` and the API."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from agent.config.models import Route
from agent.reports.why import canary_json
from agent.runner.ledger import Change, Ledger
from agent.runner.sending import Held, Sending
from agent.runner.services import Services
from agent.store import canaries
from agent.store.database import Tx
from probes.canary.state import Canary
from probes.clock import rfc3339
from probes.errors import DataError, StoreError
from probes.outcome import Outcome, combine

KEPT = 50
"""Rounds of which the held-back routes are remembered."""


@dataclass
class Round:
    """A round: the routes it covers, and why some of them were not sent."""

    id: str
    started_at: float
    routes: tuple[str, ...]
    held: dict[str, str] = field(default_factory=dict)


@dataclass
class Rounds:
    """Starts rounds and waits for them."""

    services: Services
    ledger: Ledger
    sending: Sending
    _rounds: dict[str, Round] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def start(self, senders: list[str], seeds: list[str]) -> str:
        """Starts a round over the routes of the config that match; returns its id at once."""
        routes = self._select(senders, seeds)
        now = self.services.clock.wall()
        found = Round(f"round-{self.services.new_id(now)}", now, tuple(r.name for r in routes))
        self._rounds[found.id] = found
        for old in list(self._rounds)[:-KEPT]:
            del self._rounds[old]
        task = asyncio.create_task(self._run(found, routes))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return found.id

    def _select(self, senders: list[str], seeds: list[str]) -> list[Route]:
        config = self.services.config
        for kind, names, known in (("sender", senders, config.senders), ("seed", seeds, config.seeds)):
            for name in names:
                if name not in known:
                    raise DataError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
        chosen = [
            route
            for route in config.routes_resolved
            if (not senders or route.sender in senders) and (not seeds or route.seed in seeds)
        ]
        if not chosen:
            raise DataError("no route of the config matches")
        return chosen

    async def _run(self, found: Round, routes: list[Route]) -> None:
        pending = [asyncio.create_task(self._one(found, route)) for route in routes]
        await asyncio.gather(*pending)

    async def close(self) -> None:
        """Gives up what was not sent yet."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _one(self, found: Round, route: Route) -> None:
        held: Held | None = None
        for _ in range(600):
            try:
                held = await self._try(found, route)
            except StoreError as error:
                held = Held(f"cannot persist, so nothing is sent: {error}", 0.0)
            if held is None:
                return
            wait = held.until - self.services.clock.wall()
            if not held.reason.startswith("pace") or wait > 120.0:
                break
            await self.services.clock.sleep(max(0.05, wait))
        found.held[route.name] = held.reason if held else "not sent"

    async def _try(self, found: Round, route: Route) -> Held | None:
        """Sends the route's canary now, or says what holds it back."""
        async with self.sending.slot() as free:
            if not free:
                return Held("the agent stops", 0.0)
            claimed = await self.services.database.write(lambda tx: self._claim(tx, found, route))
            if isinstance(claimed, Held):
                return claimed
            self.ledger.committed([claimed])
            await self.sending.submit(claimed.after)
            return None

    def _claim(self, tx: Tx, found: Round, route: Route) -> Change | Held:
        self.services.fence(tx)
        now = self.services.now()
        held = self.sending.held(tx, route, now)
        return held if held else self.sending.intend(tx, route, now, found.id)

    async def wait(self, round_id: str, seconds: float) -> dict[str, Any] | None:
        """The round as JSON, as soon as it is done, at the latest after so many seconds."""
        if round_id not in self._rounds:
            return await self._stored(round_id)
        changed = asyncio.Event()
        stop = self.ledger.listen(lambda change: changed.set() if change.after.round == round_id else None)
        try:
            end = self.services.clock.monotonic() + seconds
            while True:
                report = await self._stored(round_id)
                left = end - self.services.clock.monotonic()
                if report is None or report["done"] or left <= 0:
                    return report
                changed.clear()
                try:
                    async with asyncio.timeout(min(left, 1.0)):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            stop()

    async def _stored(self, round_id: str) -> dict[str, Any] | None:
        found = self._rounds.get(round_id)
        sent = await self.services.database.read(lambda conn: canaries.of_round(conn, round_id))
        if found is None and not sent:
            return None
        return round_json(round_id, sent, found)


def round_json(round_id: str, sent: list[Canary], known: Round | None) -> dict[str, Any]:
    """A round for people and programs: each route's canary, and the outcome over all."""
    held = dict(known.held) if known else {}
    expected = len(known.routes) if known else len(sent)
    settled = [canary for canary in sent if canary.outcome is not None]
    done = len(settled) + len(held) >= expected
    outcomes = [canary.outcome or Outcome.UNKNOWN for canary in settled] + [Outcome.UNKNOWN] * len(held)
    return {
        "schema": "mailcanary.round/1",
        "id": round_id,
        "started_at": rfc3339(known.started_at if known else min(c.created.wall for c in sent)),
        "routes": expected,
        "done": done,
        "outcome": combine(outcomes).value if done else None,
        "canaries": [canary_json(canary) for canary in sorted(sent, key=lambda c: c.route)],
        "held": held,
    }
