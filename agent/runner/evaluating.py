"""From observations to alerts: alert state, outbox rows and the end of the observations they come from
are one commit, so that a crash evaluates again and arrives at the same keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import structlog

from agent.config.alert_settings import alert_settings
from agent.config.models import Config
from agent.fleet.resources import EVALUATOR
from agent.runner.services import Services
from agent.runner.waiting import first_of
from agent.store import incidents, outbox, rows
from agent.store.database import Hint, Tx
from alerts.engine import acknowledge, evaluate
from alerts.lifecycle import Transition
from alerts.muting import Muting
from alerts.notification import notifications
from alerts.observation import CanaryResult, Expected, Observation, observation_from_json
from alerts.settings import AlertKind, AlertSettings
from alerts.state import Condition, EngineState, changed_rows, from_rows, retain
from alerts.texts import Pages
from probes.errors import DataError, MailcanaryError, StoreError

log = structlog.get_logger("evaluating")

LONGEST_PAUSE = 30.0
"""Seconds after which time alone is evaluated: it ends, reminds, and finds what is absent."""

DELIVER = Hint("deliver")

ACK = "ack"
"""An observation that is a person's: an alert was taken on."""

LOOK = 1.0
"""Seconds between looks at what other agents have observed."""

GATHER = 0.5
"""Seconds for which observations are gathered before they are evaluated."""


@dataclass
class Evaluator:
    """Holds the engine's state in memory as it is in the store."""

    services: Services
    state: EngineState = field(default_factory=EngineState)
    settings: AlertSettings = field(default_factory=AlertSettings)
    scheduled: bool = True
    """False: no results are expected, only what is asked for is sent."""
    _stored: EngineState = field(default_factory=EngineState)
    """The state as the store has it: what a reload took away is still to be deleted there."""
    noted: Callable[[CanaryResult], None] = lambda result: None
    """Told of every verdict that was evaluated, whichever agent reached it."""
    taken: Callable[[], Awaitable[None]] | None = None
    """Called when this agent has become the one that evaluates."""
    held: bool = False
    """Whether this agent is the one that evaluates."""
    _expected: Expected | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """State is read, moved on and written in one turn."""

    async def take(self, _key: str) -> None:
        """This agent evaluates from now on: reads what the last evaluation left."""
        async with self._turn:
            await self._load()
            self.held = True
        if self.taken is not None:
            await self.taken()
        self._wake.set()

    async def give(self, _key: str) -> None:
        """Another agent evaluates."""
        self.held = False
        async with self._turn:
            self.state = self._stored = EngineState()
            self._expected = None

    async def _load(self) -> None:
        found = await self.services.database.read(incidents.engine_rows)
        self.state = self._stored = from_rows(found)
        self.configure()

    def configure(self, settings: AlertSettings | None = None) -> None:
        """Takes rules, receivers and routes from the config."""
        config = self.services.config
        self.settings = settings or alert_settings(config)
        routes = frozenset((route.sender, route.seed) for route in config.routes_resolved)
        self.state = retain(self.state, routes, partial(still_watched, config))

    def wake(self) -> None:
        """There may be new observations."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Evaluates whenever something was observed, and every half minute for time's sake."""
        while not stop.is_set():
            self._wake.clear()
            try:
                if self.held:
                    await self.once()
            except MailcanaryError as error:
                log.error("evaluation failed and will be repeated", error=str(error))
                await self._load_again(stop)
            await self._rest(stop)

    async def _load_again(self, stop: asyncio.Event) -> None:
        """What was to be committed may have been: only the store knows."""
        while self.held and not stop.is_set():
            await self.services.clock.sleep(2.0)
            with suppress(MailcanaryError):
                async with self._turn:
                    await self._load()
                    return

    async def _rest(self, stop: asyncio.Event) -> None:
        await first_of(self._wake.wait(), stop.wait(), self._new())
        if not stop.is_set():
            # What comes in a burst is evaluated together; nobody is woken later for it.
            await self.services.clock.sleep(GATHER)

    async def _new(self) -> None:
        """Returns when time alone is to be evaluated, or as soon as another agent has observed something."""
        clock, end = self.services.clock, self.services.clock.monotonic() + LONGEST_PAUSE
        while not self.services.fleet.alone and clock.monotonic() < end:
            await clock.sleep(LOOK)
            with suppress(StoreError):
                if self.held and await self._behind():
                    return
        await clock.sleep(max(0.0, end - clock.monotonic()))

    async def _behind(self) -> bool:
        return bool(await self.services.database.read(lambda conn: rows.waiting_observations(conn, 1)))

    async def once(self) -> Sequence[Transition]:
        """One evaluation of what is new. Returns what changed."""
        async with self._turn:
            return await self._once() if self.held else ()

    async def _once(self) -> Sequence[Transition]:
        found, silences, paused = await self.services.database.read(
            lambda conn: (
                rows.waiting_observations(conn),
                incidents.active_silences(conn, self._now()),
                bool(rows.setting(conn, rows.PAUSED)),
            )
        )
        muting = Muting(silences=silences, maintenance=self.settings.maintenance)
        observations = [seen for _, kind, body in found if kind != ACK and (seen := _read(body)) is not None]
        expected = self._runs(paused)
        rules = self.settings.rules
        state, transitions = evaluate(self.state, observations, self._now(), rules, muting, expected)
        told = list(transitions)
        for ack in (body for _, kind, body in found if kind == ACK):
            state, more = acknowledge(state, str(ack["key"]), str(ack["by"]), self._now())
            told += more
        await self._commit(state, told, [number for number, _, _ in found])
        for seen in observations:
            if isinstance(seen, CanaryResult):
                self.noted(seen)
        return told

    def _runs(self, paused: bool) -> Expected | None:
        """Whether canary results are to come, and since when: silence before that is no fault."""
        routes = self.services.config.routes_resolved
        if paused or not self.scheduled or not routes:
            self._expected = None
            return None
        since = self._expected.since if self._expected else self._now()
        self._expected = Expected(since, min(2 * route.every + route.deadline for route in routes))
        return self._expected

    async def acknowledge(self, key: str, by: str) -> bool:
        """Somebody takes an alert on, at whichever agent. False where there is no such open alert."""

        def ask(tx: Tx) -> bool:
            row = incidents.alert_row(tx.conn, key)
            if row is None or row["status"] == "resolved" or row["body"].get("acked_at") is not None:
                return False
            rows.observe(tx, self._now(), ACK, {"key": key, "by": by})
            return True

        asked = await self.services.database.write(ask)
        if asked:
            await self.once()
        return asked

    async def _commit(
        self, state: EngineState, transitions: Sequence[Transition], seen: Sequence[int] = ()
    ) -> None:
        write, delete = changed_rows(self._stored, state)
        if not (write or delete or transitions or seen):
            return
        settings = self.settings
        pages = Pages(settings.external_url, settings.runbook_url, settings.agent)
        told = [n for t in transitions for n in notifications(t, settings.receivers, settings.routes, pages)]

        def commit(tx: Tx) -> None:
            self.services.fence(tx, EVALUATOR)
            rows.evaluated(tx.conn, seen)
            incidents.write_engine(tx.conn, write, delete)
            incidents.write_alerts(tx.conn, self._stored, state, transitions, self._now())
            outbox.add(tx.conn, told, self._now())
            if told:
                tx.defer(DELIVER)

        # Alert state can be evaluated again from what is stored; what people are told must not be lost.
        await self.services.database.write(commit, durable=bool(transitions))
        self.state = self._stored = state
        for transition in transitions:
            log.info(
                "alert",
                kind=str(transition.kind),
                key=transition.alert.key,
                severity=str(transition.alert.severity),
                told=transition.notify,
            )

    def _now(self) -> float:
        return self.services.clock.wall()


def still_watched(config: Config, condition: Condition) -> bool:
    """Whether a seed, sender or list that something was said of is still in the config."""
    match condition.kind:
        case AlertKind.SEED_UNREADABLE:
            return condition.subject in config.seeds
        case AlertKind.SENDER_UNREACHABLE:
            return condition.subject in config.senders
        case AlertKind.LISTED:
            return config.blocklists is not None
        case AlertKind.RECORD_DRIFT:
            return config.records is not None
        case _:
            return True


def _read(body: object) -> Observation | None:
    try:
        return observation_from_json(body)  # type: ignore[arg-type]
    except DataError as error:
        # Written by another version: what it says is lost to the rules, which is told and not guessed.
        log.error("an observation cannot be read", error=str(error))
        return None
