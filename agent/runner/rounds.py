"""One round now: canaries outside the schedule, for `mailcanary probe`, `change` and the API.

A round is a row; what of it was sent are the canaries that bear its id. An agent that was killed goes on
with what is not there yet, and sends nothing twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from agent.config.models import Config, Route
from agent.fleet.resources import ROUND
from agent.reports.rounds import (
    LAST_DAY,
    LAST_GOOD,
    progress_json,
    read_baseline,
    read_last,
    read_state,
    round_json,
)
from agent.runner.around import look_around, points
from agent.runner.ledger import Change, Ledger
from agent.runner.origins import schedule_name
from agent.runner.sending import Held, Sending
from agent.runner.services import Services
from agent.store import canaries, rounds
from agent.store.database import Hint, Tx
from agent.store.leases import Lease
from agent.store.rounds import RoundRow
from probes.canary import track
from probes.canary.state import Canary, State
from probes.change.around import Around
from probes.change.facts import Facts
from probes.change.sequential import Decision, SequentialTest
from probes.change.verdict import assess
from probes.errors import DataError, StaleWrite, StoreError

log = structlog.get_logger("rounds")

MOST_CANARIES = 200
"""A route in one round."""
TOGETHER = 4
"""Canaries of one route that may be on their way at the same time, so that the test can stop early."""
LONGEST_HOLD = 120.0
"""Seconds a route waits for the provider's pace; what holds it back longer is told instead."""

STORE_AGAIN = 2.0


@dataclass(frozen=True, slots=True)
class Order:
    """What a round is asked for. deadline: seconds, None for the routes' own; key: the same key is the same
    round; baseline: last-good, 24h, the id of a round, or "" for none."""

    senders: Sequence[str] = ()
    seeds: Sequence[str] = ()
    providers: Sequence[str] = ()
    count: int = 1
    deadline: float | None = None
    baseline: str = ""
    kind: str = "probe"
    who: str = ""
    key: str | None = None


def choose(config: Config, order: Order) -> list[Route]:
    """The routes of the config that the order names. Raises DataError on names that are not there."""
    providers = {seed.provider for seed in config.seeds.values()}
    kinds: Sequence[tuple[str, Sequence[str], Iterable[str]]] = (
        ("sender", order.senders, config.senders),
        ("seed", order.seeds, config.seeds),
        ("provider", order.providers, sorted(providers)),
    )
    for kind, names, known in kinds:
        for name in names:
            if name not in known:
                raise DataError(f"there is no {kind} {name!r}; there are: {', '.join(known)}")
    named = bool(order.seeds or order.providers)
    chosen = [
        route
        for route in config.routes_resolved
        if (not order.senders or route.sender in order.senders)
        and (not named or route.seed in order.seeds or config.seeds[route.seed].provider in order.providers)
    ]
    if not chosen:
        raise DataError("no route of the config matches")
    return chosen


@dataclass
class Rounds:
    """Starts rounds, drives them, and waits for them. A round belongs to the agent that was asked for it; if
    that ends, another goes on with it: a Room of the fleet."""

    services: Services
    ledger: Ledger
    sending: Sending
    scheduled: bool = True
    """False: rounds that another agent left are let be."""
    test: SequentialTest = field(default_factory=SequentialTest)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _holding: dict[str, dict[str, str]] = field(default_factory=dict)
    _waiting: set[asyncio.Event] = field(default_factory=set)

    @property
    def running(self) -> int:
        """How many rounds have not ended."""
        return len(self._tasks)

    async def start(self, senders: Sequence[str], seeds: Sequence[str]) -> str:
        """Starts a round of one canary a route; returns its id at once. Raises DataError."""
        return await self.order(Order(senders, seeds))

    async def order(self, order: Order) -> str:
        """Starts a round over the routes of the config that match, or goes on with the one of that key."""
        routes = choose(self.services.config, order)
        now = self.services.clock.wall()
        params = {
            "routes": [route.name for route in routes],
            "count": order.count,
            "deadline": order.deadline,
            "baseline": order.baseline,
        }
        new = RoundRow(
            f"round-{self.services.new_id(now)}", order.kind, order.who[:128], now, params, order.key
        )
        row, lease = await self.services.database.write(lambda tx: self._begin(tx, new))
        if lease is not None:
            self.services.fleet.keep(lease)
        held = self.services.fleet.holds(
            ROUND + row.id
        )  # also one that a killed command left and that was let be
        if held and row.state == rounds.RUNNING and row.id not in self._tasks:
            self._spawn(row)
        return row.id

    def _begin(self, tx: Tx, new: RoundRow) -> tuple[RoundRow, Lease | None]:
        """The round, and the lease on it where nobody drives it yet."""
        self.services.fence(tx)
        row = self._remember(tx, new)
        running = row.state == rounds.RUNNING
        return row, self.services.fleet.hold_in(tx, ROUND + row.id) if running else None

    def _remember(self, tx: Tx, new: RoundRow) -> RoundRow:
        if new.key is not None and (known := rounds.round_by_key(tx.conn, new.key)) is not None:
            if known.params != new.params:
                raise DataError(f"the key {new.key!r} was used for another round")
            if known.state != rounds.CANCELLED:
                return known
            rounds.free_key(tx.conn, known.id)
        baseline = new.params["baseline"]
        if baseline and baseline not in (LAST_GOOD, LAST_DAY) and not rounds.get_round(tx.conn, baseline):
            raise DataError(f"there is no round {baseline!r} to compare with")
        rounds.insert_round(tx.conn, new)
        return new

    async def take(self, key: str) -> None:
        """Goes on with a round that another agent, or an earlier life of this one, left."""
        row = await self.services.database.read(lambda conn: rounds.get_round(conn, key))
        if row is None or row.state != rounds.RUNNING:
            await self.services.fleet.done(ROUND + key)
        elif self.scheduled:
            log.info("goes on with a round", round=row.id)
            self._spawn(row)

    async def give(self, key: str) -> None:
        """Stops driving a round; it stays as it is, to be gone on with."""
        task = self._tasks.get(key)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def cut_off(self, keep: str | None) -> None:
        """Ends what a killed command left, but for the round of that key; its canaries are settled still."""
        for row in await self.services.database.read(rounds.running_rounds):
            if row.key is None or row.key != keep:
                await self.cancel(row.id)

    async def cancel(self, round_id: str) -> bool:
        """Sends no more and ends the round without a verdict. False where it is not running."""
        now = self.services.clock.wall()

        def end(tx: Tx) -> bool:
            return rounds.update_round(tx.conn, round_id, state=rounds.CANCELLED, ended_at=now)

        done = await self.services.database.write(end)
        task = self._tasks.get(round_id)
        if task is not None:
            task.cancel()
            await self.services.fleet.done(ROUND + round_id)
        self._tell()
        return done

    def _spawn(self, row: RoundRow) -> None:
        task = asyncio.create_task(self._drive(row), name=row.id)
        self._tasks[row.id] = task
        self._holding[row.id] = {}

        def ended(_done: asyncio.Task[None]) -> None:
            self._tasks.pop(row.id, None)
            self._holding.pop(row.id, None)

        task.add_done_callback(ended)

    async def _drive(self, row: RoundRow) -> None:
        """Sends what is not sent yet, waits for every verdict, looks around, judges."""
        early = asyncio.create_task(self._look_early(row))
        try:
            held = await self._send(row)
            while True:
                try:
                    await self._settled(row.id, 0)
                    return await self._end(row, held, early)
                except StaleWrite:
                    raise
                except StoreError as error:
                    log.error("a round's verdict waits to be recorded", round=row.id, error=str(error))
                    await self.services.clock.sleep(STORE_AGAIN)
        except StaleWrite:
            log.warning("another agent goes on with the round", round=row.id)
        except Exception:
            # Whoever waits for the round must hear of its end.
            log.exception("a round ended badly", round=row.id)
            verdict = {"outcome": "unknown", "causes": ["agent"], "verdicts": []}
            await self._close(row.id, outcome="unknown", verdict=verdict)
        finally:
            early.cancel()
            await asyncio.gather(early, return_exceptions=True)

    async def _look_early(self, row: RoundRow) -> tuple[dict[str, list[Facts]], dict[str, Around]]:
        """While the mail is on its way: around each sender, by what its last canaries told."""
        config = self.services.config
        known = await self.services.database.read(lambda conn: read_last(conn, config, row))
        return known, await look_around(self.services, known)

    async def _send(self, row: RoundRow) -> dict[str, str]:
        """Sends the round's canaries; returns the routes that were held back, and why."""
        known = {route.name: route for route in self.services.config.routes_resolved}
        deadline = row.params.get("deadline")
        held: dict[str, str] = dict(row.held)
        pending = []
        for name in row.routes:
            route = known.get(name)
            if route is None:
                held[name] = "the route left the config"
                continue
            if deadline is not None:
                route = route._replace(deadline=deadline, late_after=max(route.late_after, deadline))
            pending.append(self._route(row, route, held))
        await asyncio.gather(*pending)
        return held

    async def _route(self, row: RoundRow, route: Route, held: dict[str, str]) -> None:
        """Sends a route's canaries, no more of them than the test needs."""
        mine = [c for c in await self._of(row.id) if c.route == route.name]
        sent = len(mine)
        while sent < row.count:
            if row.count > 1 and await self._decided(row, route, sent):
                return
            reason = await self._one(row, route)
            if reason is not None:
                held[route.name] = reason
                await self._note(row.id, dict(held))
                return
            sent += 1

    async def _note(self, round_id: str, held: Mapping[str, str]) -> None:
        await self._write(round_id, {"held": held})

    async def _decided(self, row: RoundRow, route: Route, sent: int) -> bool:
        """Waits until another canary may go; True once the test has its answer."""
        await self._settled(row.id, TOGETHER - 1, route.name)
        mine = [c for c in await self._of(row.id) if c.route == route.name and c.outcome is not None]
        mine.sort(key=lambda c: c.created.wall)
        samples = [c.outcome.value == "pass" for c in mine if c.outcome and c.outcome.value != "unknown"]
        return self.test.run(samples).decision is not Decision.OPEN

    async def _of(self, round_id: str) -> list[Canary]:
        return await self.services.database.read(lambda conn: canaries.of_round(conn, round_id))

    async def _settled(self, round_id: str, most_open: int, route: str = "") -> None:
        """Returns once at most so many of the round's (or the route's) canaries have no outcome."""
        changed = asyncio.Event()
        stop = self.ledger.listen(lambda c: changed.set() if c.after.round == round_id else None)
        try:
            while True:
                changed.clear()
                found = await self._of(round_id)
                waiting = [c for c in found if c.outcome is None and (not route or c.route == route)]
                if len(waiting) <= most_open:
                    return
                await _either(changed.wait(), self.services.clock.sleep(1.0))
        finally:
            stop()

    async def _one(self, row: RoundRow, route: Route) -> str | None:
        """Sends one canary, waiting for the provider's pace. Returns why not, where it could not."""
        clock, holding = self.services.clock, self._holding[row.id]
        try:
            while True:
                try:
                    held = await self._try(row, route)
                except StaleWrite:
                    raise
                except StoreError as error:
                    return f"cannot persist, so nothing is sent: {error}"
                if held is None:
                    return None
                wait = held.until - clock.wall()
                if not held.reason.startswith("pace") or wait > LONGEST_HOLD:
                    return held.reason
                holding[route.name] = held.reason
                await clock.sleep(max(0.05, wait))
        finally:
            holding.pop(route.name, None)

    async def _try(self, row: RoundRow, route: Route) -> Held | None:
        """Sends the route's canary now, or says what holds it back."""
        async with self.sending.slot() as free:
            if not free:
                return Held("the agent stops", 0.0)
            claimed = await self.services.database.write(
                lambda tx: self._claim(tx, row, route), order=self.sending.order(route)
            )
            if isinstance(claimed, Held):
                return claimed
            self.ledger.committed([claimed])
            if claimed.after.state is State.INTENDED:
                await self.sending.submit(claimed.after)
            return None

    def _claim(self, tx: Tx, row: RoundRow, route: Route) -> Change | Held:
        self.services.fence(tx, ROUND + row.id)
        now = self.services.now()
        known = rounds.get_round(tx.conn, row.id)
        if known is None or known.state != rounds.RUNNING:
            return Held("the round was cancelled", float("inf"))
        if self.services.fleet.sender_of(route.sender, schedule_name(route)) is None:
            return Held("no agent may send for it", float("inf"))
        held = self.sending.held(tx, route, now)
        if held:
            return held
        change = self.sending.intend(tx, route, now, row.id)
        return change if self.services.fleet.may_send(route.sender) else self._hand_over(tx, change, route)

    def _hand_over(self, tx: Tx, change: Change, route: Route) -> Change:
        """This agent has not what the sender needs (its address, its region): one that has sends it."""
        fleet = self.services.fleet
        to = fleet.sender_of(route.sender, schedule_name(route))
        tx.flush()
        if to is not None:
            tx.defer(Hint("retry", change.after.id, to))
        return self.ledger.move_in(tx, change.after, track.handed_over)

    async def _end(
        self,
        row: RoundRow,
        held: Mapping[str, str],
        early: asyncio.Task[tuple[dict[str, list[Facts]], dict[str, Around]]],
    ) -> None:
        services, config = self.services, self.services.config
        row = replace(row, held=dict(held))
        state = await services.database.read(lambda conn: read_state(conn, config, row))
        seen: dict[str, list[Facts]] = {name.partition("/")[0]: [] for name in row.routes}
        for route, several in state.routes.items():
            seen.setdefault(route.partition("/")[0], []).extend(several)
        known, around = await early
        new = {
            sender: facts for sender, facts in seen.items() if points(facts) - points(known.get(sender, ()))
        }
        around |= await look_around(services, new) if new else {}
        row = replace(row, around={name: one.to_json() for name, one in around.items()})
        verdict = await services.database.read(lambda conn: self._judge(conn, row))
        await self._close(
            row.id,
            held=dict(row.held),
            around=dict(row.around),
            outcome=verdict["outcome"],
            verdict=verdict,
        )

    async def _close(self, round_id: str, **values: object) -> None:
        values |= {"state": rounds.DONE, "ended_at": self.services.clock.wall()}
        await self._write(round_id, values)
        await self.services.fleet.done(ROUND + round_id)
        self._tell()

    async def _write(self, round_id: str, values: Mapping[str, object]) -> None:
        def write(tx: Tx) -> None:
            self.services.fence(tx, ROUND + round_id)
            rounds.update_round(tx.conn, round_id, **values)

        await self.services.database.write(write)

    def _judge(self, conn: Any, row: RoundRow) -> dict[str, Any]:
        config = self.services.config
        after = read_state(conn, config, row)
        return assess(after, read_baseline(conn, config, row), self.test).to_json()

    def _tell(self) -> None:
        for event in self._waiting:
            event.set()

    async def wait(self, round_id: str, seconds: float) -> dict[str, Any] | None:
        """The round as JSON, as soon as it has ended, at the latest after so many seconds."""
        end = self.services.clock.monotonic() + seconds
        ended = asyncio.Event()
        self._waiting.add(ended)
        try:
            while True:
                report = await self.report(round_id)
                left = end - self.services.clock.monotonic()
                if report is None or report["done"] or left <= 0:
                    return report
                await _either(ended.wait(), self.services.clock.sleep(min(left, 1.0)))
                ended.clear()
        finally:
            self._waiting.discard(ended)

    async def report(self, round_id: str) -> dict[str, Any] | None:
        """The round as JSON now."""
        config, now = self.services.config, self.services.clock.wall()
        holding = dict(self._holding.get(round_id, {}))

        def read(conn: Any) -> dict[str, Any] | None:
            row = rounds.get_round(conn, round_id)
            if row is None:
                return None
            found = round_json(conn, config, row)
            if not found["done"]:
                found["progress"] = progress_json(conn, row, holding, now)
            return found

        return await self.services.database.read(read)


async def _either(*works: Any) -> None:
    """Returns as soon as one of them has ended, and cancels the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
