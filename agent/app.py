"""One agent: opens the store, joins its fleet, starts the rooms, reloads, and stops in good order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web
from prometheus_client.core import Metric

from agent.config.load import OWN, RESOLVER, load
from agent.config.models import Config
from agent.fleet.fleet import DRAINING, VISITING, WORKING, Fleet
from agent.fleet.membership import BEAT, Membership, Myself
from agent.fleet.resources import EVALUATOR, MAILBOX
from agent.fleet.shared_clock import SharedClock
from agent.hints import LocalHints
from agent.holder import own_addresses, own_holder
from agent.metrics import Metrics, specs, states
from agent.runner import recording as records
from agent.runner.configuring import Configuring, Parts
from agent.runner.delivering import Delivering
from agent.runner.evaluating import Evaluator
from agent.runner.feeding import Feeding
from agent.runner.ledger import Ledger
from agent.runner.mailboxes import Mailboxes
from agent.runner.means import resolver_of
from agent.runner.opinions import Opinions
from agent.runner.origins import Origins
from agent.runner.recording import Recording
from agent.runner.rounds import Rounds
from agent.runner.sending import Sending
from agent.runner.services import Services, nonce
from agent.runner.timer import Timer
from agent.runner.together import Together
from agent.runner.upkeep import Upkeep
from agent.runner.watching import Watching
from agent.runner.witness import OPINIONS
from agent.store import canaries, rows
from agent.store.clock import Offset, measure
from agent.store.database import Database, Hint, Tx
from agent.store.members import LOST, Member
from agent.store.schema import open_store
from agent.tls import client_context
from agent.web import patience
from agent.web.server import WebServices, build
from alerts.http import AiohttpPoster
from probes.canary import track
from probes.canary.state import Canary
from probes.canary.token import SECRET_BYTES, TokenKeys
from probes.clock import Clock, SystemClock
from probes.errors import ConfigError, StaleWrite, StoreError

if TYPE_CHECKING:
    from agent.hints_procrastinate import ProcrastinateHints

log = structlog.get_logger("agent")

GRACE = 20.0
"""Seconds that submissions under way are given to end when the agent stops."""


@dataclass
class App:
    """A running agent. `scheduled` false: only what is asked for is sent (mailcanary probe)."""

    services: Services
    scheduled: bool = True
    reloads: Callable[[], Config] | None = None
    own: Mapping[str, str | None] = field(default_factory=dict)
    """Settings that are this agent's alone."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _closed: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _web: web.AppRunner | None = None

    def __post_init__(self) -> None:
        services = self.services
        self.ledger = Ledger(services)
        self._told = Together(self._read_told)
        self.origins = Origins(services)
        self.mailboxes = Mailboxes(services, self.ledger)
        self.sending = Sending(
            services, self.ledger, self.origins, self.mailboxes.sent, stopping=self._stop.is_set
        )
        self.rounds = Rounds(services, self.ledger, self.sending, scheduled=self.scheduled)
        self.timer = Timer(
            services, self.ledger, self.mailboxes.want_scan, self.mailboxes.fault, scheduled=self.scheduled
        )
        self.evaluator = Evaluator(services, scheduled=self.scheduled)
        self.delivering = Delivering(services, lambda: self.evaluator.settings)
        self.feeding = Feeding(
            services,
            lambda: self.evaluator.settings,
            lambda: self.evaluator.state.alerts.values(),
            self.delivering.alive,
        )
        self.watching = Watching(services, scheduled=self.scheduled)
        self.opinions = Opinions(services, self.watching.plans)
        self.recording = Recording(services)
        self.upkeep = Upkeep(services, self.mailboxes, self.timer)
        parts = Parts(self.origins, self.mailboxes, self.evaluator, self.delivering, self.recording)
        self.configuring = Configuring(
            services, parts, self.timer.wake, self.scheduled, self.reloads, self.own
        )
        self._open_rooms()

    def _open_rooms(self) -> None:
        fleet = self.services.fleet
        fleet.rooms = {
            "mailbox": self.mailboxes,
            "evaluator": self.evaluator,
            "receiver": self.delivering,
            "blocklists": self.watching,
            "round": self.rounds,
            "upkeep": self.upkeep,
        }
        fleet.on_lost = self._lost
        fleet.on_config = self.configuring.follow
        fleet.on_beat = self.services.metrics.beat
        self.evaluator.taken = self.configuring.load_routes
        fleet.on_end = self._stop.set
        fleet.on_change = self.mailboxes.taken = self.timer.wake
        self.evaluator.noted = self.services.metrics.evaluated
        self.services.metrics.speaks = lambda: fleet.holds(EVALUATOR)

    async def start(self) -> None:
        """Takes up what the last run left, and starts every room."""
        services = self.services
        services.metrics.add(self._states)
        services.metrics.add(self._own_states, own=True)
        self.configuring.configure_metrics(services.config)
        self.ledger.listen(lambda change: services.metrics.judged(change.after))
        self._spawn(services.fleet.heartbeats(self._closed), "heartbeats")
        await self.upkeep.compare_clocks()
        await self._take_up()
        await self.configuring.begin()
        config = services.config
        self.ledger.listen(lambda change: self.timer.expect(change.after.due_at))
        self.ledger.listen(self.delivering.seen)
        self.evaluator.configure()
        self.delivering.configure(self.delivering.prepare(self.evaluator.settings))
        await self.delivering.look_back()
        await self.mailboxes.configure(config, self.mailboxes.prepare(config))
        await services.fleet.begin()
        self._spawn(services.fleet.run(self._closed), "fleet")
        parts = (self.timer, self.evaluator, self.delivering, self.feeding, self.upkeep, self.opinions)
        for work in (part.run for part in parts):
            self._spawn(work(self._stop), work.__qualname__)
        self._spawn(services.hints.run(self._handlers(), self._stop), "hints")
        services.metrics.reload_ok.set(1)
        services.metrics.reload_at.set(services.clock.wall())

    def _handlers(self) -> dict[str, Any]:
        return {
            "canary": self.sending.scheduled,
            "retry": self.sending.retry,
            "sent": self._sent,
            "seed-retry": self._retry_seed,
            "blocklists": self.watching.due,
            OPINIONS: self.opinions.asked,
            records.PREFIX: self.recording.scheduled,
            "evaluate": self._evaluate,
            "deliver": self._deliver,
        }

    async def _evaluate(self, _key: str) -> None:
        self.evaluator.wake()

    async def _read_told(self, ids: Sequence[str]) -> Mapping[str, Canary]:
        found = await self.services.database.read(lambda conn: canaries.several(conn, ids))
        return {canary.id: canary for canary in found}

    async def _sent(self, key: str) -> None:
        """Another agent sends a canary to a mailbox that is read here."""
        canary = await self._told.get(key)
        if canary is not None and canary.due_at is not None:
            self.ledger.remember(canary)
            self.timer.expect(canary.due_at)
            self.mailboxes.sent(canary)

    async def _retry_seed(self, key: str) -> None:
        self.mailboxes.retry(key)

    async def _deliver(self, _key: str) -> None:
        self.delivering.wake()

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            log.critical(
                "a part of the agent failed: it stops", part=task.get_name(), exc_info=task.exception()
            )
            self._stop.set()

    async def serve(self) -> None:
        """Opens the web. Raises ConfigError where the address is taken."""
        services = self.services
        web_services = WebServices(
            config=lambda: services.config,
            database=services.database,
            metrics=services.metrics,
            clock=services.clock,
            reload=self.reload,
            ready=self._missing,
            rounds=self.rounds,
            controls=self,
        )
        self._web = patience.runner(build(web_services))
        await self._web.setup()
        agent = services.config.agent
        try:
            await web.TCPSite(self._web, agent.listen_host, agent.listen_port).start()
        except OSError as error:
            raise ConfigError(f"agent.listen {agent.listen}: {error.strerror or error}") from None
        self.services.me.listen = agent.listen
        await self._announce()

    async def _announce(self) -> None:
        while not self._stop.is_set():
            try:
                return await self.services.fleet.membership.announce()
            except StaleWrite:  # given up while it took long to start: the fleet joins again
                await self.services.clock.sleep(BEAT)
        return None

    async def retry_seed(self, seed: str) -> bool:
        """Tries a mailbox again at once, whichever agent reads it. False where there is no such seed."""
        if self.mailboxes.retry(seed):
            return True
        services = self.services
        reader = services.fleet.holder(MAILBOX + seed)
        if reader:
            await services.database.write(lambda tx: tx.defer(Hint("seed-retry", seed, reader)))
        return bool(reader)

    async def acknowledge(self, key: str, by: str) -> bool:
        """Somebody takes an alert on. False where no such alert is open."""
        return await self.evaluator.acknowledge(key, by)

    async def wait(self) -> None:
        """Returns when the agent is told to stop."""
        await self._stop.wait()

    def stop(self) -> None:
        """Tells the agent to stop."""
        self._stop.set()

    async def close(self) -> None:
        """Lets submissions under way end, closes sessions, hands its work to the others."""
        self._stop.set()
        services, fleet = self.services, self.services.fleet
        services.me.state = DRAINING
        fleet.draining = True
        with suppress(StoreError):
            await fleet.beat()  # from now on nothing new falls to this agent
        end = services.clock.monotonic() + GRACE
        while self.sending.working and services.clock.monotonic() < end:
            await services.clock.sleep(0.05)
        if self._web is not None:
            await self._web.cleanup()
        with suppress(StoreError):
            await fleet.hand_over()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await services.poster.close()
        with suppress(StoreError):
            await fleet.membership.leave()
        await asyncio.to_thread(services.database.close)

    async def reload(self) -> None:
        """Reads the config again. Raises ConfigError where it is bad, StoreError where that cannot be agreed
        on: the old one stays."""
        await self.configuring.reload()

    async def _take_up(self) -> None:
        """Open intents of lives that have ended become unconfirmed."""
        services = self.services
        living = [member.epoch for member in services.fleet.view.members if member.state != LOST]
        for canary in await services.database.read(lambda conn: canaries.orphans(conn, living)):
            await self.ledger.apply(canary.id, track.abandoned)

    async def _lost(self, _members: Iterable[Member]) -> None:
        await self._take_up()

    def _states(self) -> Iterable[Metric]:
        services = self.services
        now = services.clock.wall()
        return services.database.read_now(lambda conn: list(states.collect(conn, services.config, now)))

    def _own_states(self) -> Iterable[Metric]:
        yield states.gauge(specs.TOKEN_EXPIRY, self.mailboxes.token_ends())

    def _missing(self) -> str:
        """What is not there yet, in words; "" when ready."""
        dead = [task.get_name() for task in self._tasks if task.done()]
        return f"ended: {', '.join(dead)}" if dead else ""


def _token_keys(tx: Tx, source: random.Random, now: float) -> TokenKeys:
    found = rows.load_token_keys(tx.conn)
    if not found:
        rows.add_token_key(tx.conn, "1", nonce(source, SECRET_BYTES), now)
        found = rows.load_token_keys(tx.conn)
    secrets = {int(key_id): key for key_id, key in found.items()}
    return TokenKeys(max(secrets), secrets)


async def open_app(
    config: Config,
    *,
    clock: Clock | None = None,
    source: random.Random | None = None,
    database: Database | None = None,
    scheduled: bool = True,
    reload_from: str | None = None,
    own: Mapping[str, str] | None = None,
) -> App:
    """An agent ready to start. Raises Busy where another one holds the store, ConfigError, StoreError."""
    source = source or random.SystemRandom()
    if database is None:
        database = await asyncio.to_thread(open_store, config.store_url, password=config.store_password)
    try:
        clock, measured = await _clock(database) if clock is None else (clock, None)
        me = _member(config, clock, scheduled)
        membership = Membership(database, clock, me.now, measured)
        fleet = Fleet(membership, lambda: services.config)
        fleet.joined(await membership.join())
        keys = await database.write(lambda tx: _token_keys(tx, source, clock.wall()))
        services = Services(
            config=config,
            clock=clock,
            random=source,
            database=database,
            hints=_hints(database, me.holder),
            metrics=Metrics(clock.wall),
            resolver=resolver_of(config, clock),
            tls=client_context,
            keys=keys,
            me=me,
            fleet=fleet,
            poster=AiohttpPoster(),
        )
        me.resolvers = services.resolvers()
        reloads = (lambda: load(reload_from, require_secrets=True, own=own)) if reload_from else None
        mine = {name: getattr(config.agent, name) for name in OWN} | {RESOLVER: (own or {}).get(RESOLVER)}
        return App(services, scheduled=scheduled, reloads=reloads, own=mine)
    except Exception:
        await asyncio.to_thread(database.close)
        raise


async def _clock(database: Database) -> tuple[Clock, Callable[[Offset], None] | None]:
    """The clock that goes with the store, and what keeps it right."""
    own = SystemClock()
    if not database.shared:
        return own, None
    shared = SharedClock(own)
    shared.take(await database.read(lambda conn: measure(conn, own.monotonic)))
    return shared, shared.take


def _hints(database: Database, holder: str) -> LocalHints | ProcrastinateHints:
    if not database.shared:
        return LocalHints(database)
    from agent.hints_procrastinate import open_hints  # its libraries cost memory and time to load

    return open_hints(database, holder)


def _member(config: Config, clock: Clock, scheduled: bool) -> Myself:
    return Myself(
        holder=own_holder(clock.boot),
        name=config.agent.name,
        started_at=clock.wall(),
        state=WORKING if scheduled else VISITING,
        region=config.agent.region or "",
        addresses=own_addresses(config),
        config_hash=config.hash,
    )
