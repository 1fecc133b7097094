"""The config in force: read again, agreed on with the other agents, swapped as a whole.

All agents run one version. Whoever reads a changed file checks all of it, then makes it the active one in the
store, once (the number of a version is taken by one); the others take its text from there, with their own
secrets and their own address. One that cannot do so says so, and gives its work to those that can.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import structlog

from agent import schedule
from agent.blocklist_plan import zones_of
from agent.config.alert_settings import alert_settings
from agent.config.load import parse
from agent.config.models import Config
from agent.fleet.fleet import BEHIND, WORKING
from agent.fleet.membership import back, unfit
from agent.holder import own_addresses
from agent.metrics import states
from agent.metrics.budget import SERIES_LIMIT, most_series
from agent.runner import recording as records
from agent.runner import watching as blocklists
from agent.runner.delivering import Delivering
from agent.runner.evaluating import Evaluator
from agent.runner.mailboxes import Access, Mailboxes
from agent.runner.means import resolver_of
from agent.runner.origins import Origin, Origins, schedule_name
from agent.runner.recording import Recording
from agent.runner.services import Services
from agent.store import rows, versions
from agent.store.database import Tx
from agent.store.rows import ScheduleRow
from agent.store.versions import Version
from alerts.delivery import Notifier
from alerts.settings import AlertSettings
from probes.dns import Resolver
from probes.errors import ConfigError, MailcanaryError, StoreError

T = TypeVar("T")
log = structlog.get_logger("config")

PIECE = 5_000
"""Schedules that are written in one transaction."""

AGAIN = 30.0
"""Seconds until an agent that could not take the active config tries again: a secret may have come."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is made of a config."""

    settings: AlertSettings
    origins: Mapping[str, Origin]
    access: Mapping[str, Access]
    notifiers: Mapping[str, Notifier]
    resolver: Resolver


@dataclass
class Parts:
    """What takes the settings of a config."""

    origins: Origins
    mailboxes: Mailboxes
    evaluator: Evaluator
    delivering: Delivering
    recording: Recording


@dataclass
class Configuring:
    """Reads, agrees, swaps. own: settings of this agent that no other takes from it, nor it from others."""

    services: Services
    parts: Parts
    swapped: Callable[[], None]
    """Called when another config is in force."""
    scheduled: bool = True
    reloads: Callable[[], Config] | None = None
    own: Mapping[str, str | None] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _again: float = float("-inf")
    """Monotonic: not before then is a config tried again that could not be taken."""
    _refused: str = ""
    """The hash of that."""

    async def begin(self) -> None:
        """At the start: the fleet's config where there is a fleet, else what the file says."""
        active = await self.services.database.read(versions.active)
        mine = self.services.config.hash
        if self.scheduled and (active is None or active.hash != mine):
            first = active is None or self.services.fleet.alone
            if not (first and await self._activate(self.services.config, active)):
                await self.adopt()
                if mine != self.services.config.hash:
                    log.warning("the file differs from what the fleet runs, which counts", file=mine)
        if self.services.me.state != BEHIND:
            await self._sync_schedules(self.services.config)

    async def reload(self) -> None:
        """Swaps the config as a whole.

        Raises ConfigError where the new one is bad, StoreError where that cannot be recorded: the old stays.
        """
        if self.reloads is None:
            raise ConfigError("this agent was not started from a file")
        async with self._turn:
            try:
                config = await asyncio.to_thread(self.reloads)
                new = self._prepare(config)
                active = await self.services.database.read(versions.active)
                changed = self.scheduled and (active is None or active.hash != config.hash)
                if changed and not await self._activate(config, active):
                    raise ConfigError("another one was activated by another agent meanwhile: look again")
                await self._sync_schedules(config)
            except MailcanaryError as error:
                self.services.metrics.reload_ok.set(0)
                log.error("the config was not loaded, the old one stays", error=str(error))
                raise
            await self._swap(config, new)
        with suppress(StoreError):  # the next heartbeat makes up for it
            await self.services.fleet.rebalance()

    async def _activate(self, config: Config, seen: Version | None) -> bool:
        """From now on all agents run it. False where another was activated since `seen`."""
        services = self.services
        plain = any(secret.kind == "plain" for _, secret in config.secrets())
        version = Version(
            seen.number + 1 if seen else 1,
            config.hash,
            "" if plain else config.text,  # secrets themselves are nothing for the store
            services.clock.wall(),
            config.agent.listen,
        )

        def activate(tx: Tx) -> bool:
            services.fence(tx)
            return versions.activate(tx.conn, version)

        done = await services.database.write(activate)
        if done:
            log.info("config activated", hash=config.hash, number=version.number)
        return done

    async def follow(self, wanted: str) -> None:
        """The heartbeat showed that a config of this hash is active."""
        services = self.services
        if not self.scheduled or not wanted:
            return
        if wanted == services.config.hash:
            if services.me.state == BEHIND:  # what it could not take was taken back
                await self._tell_fleet(services.config)
            return
        if wanted == self._refused and services.clock.monotonic() < self._again:
            return
        await self.adopt()

    async def adopt(self) -> None:
        """Takes the active config from the store. Where it cannot, this agent is behind and says so."""
        async with self._turn:
            version = await self.services.database.read(versions.active)
            if version is None or version.hash == self.services.config.hash:
                return
            try:
                config = await asyncio.to_thread(self._read, version)
                new = self._prepare(config)
            except MailcanaryError as error:
                await self._fall_behind(version.hash, str(error))
            else:
                await self._swap(config, new)

    def _read(self, version: Version) -> Config:
        if not version.body:
            raise ConfigError("it has secrets written into it, which are not shared: put them into files")
        file = str(self.services.config.path)
        config = parse(version.body.encode(), file, require_secrets=True, own=self.own)
        if config.hash != version.hash:
            raise ConfigError("a file that it names (a template, a catalogue) is another one here")
        return config

    async def _fall_behind(self, wanted: str, why: str) -> None:
        services, me = self.services, self.services.me
        self._refused, self._again = wanted, services.clock.monotonic() + AGAIN
        text = f"cannot take the config {wanted}: {why}"
        services.metrics.reload_ok.set(0)
        if me.detail != text:
            log.error("the fleet runs a config that this agent cannot take: others do its work", error=why)
            me.state, me.detail = BEHIND, text
            await self._say(unfit(self.services.place, text, services.clock.wall()))

    async def _say(self, body: Mapping[str, object]) -> None:
        now = self.services.clock.wall()
        await self.services.database.write(lambda tx: rows.observe(tx, now, "own", body))

    def _prepare(self, config: Config) -> Prepared:
        """Everything that can fail of a new config is made before anything of the old one goes."""
        settings = alert_settings(config)
        zones_of(config)
        return Prepared(
            settings,
            self.parts.origins.prepare(config),
            self.parts.mailboxes.prepare(config),
            self.parts.delivering.prepare(settings),
            resolver_of(config, self.services.clock),
        )

    async def _swap(self, config: Config, new: Prepared) -> None:
        services, parts = self.services, self.parts
        old, services.config = services.config, config
        services.resolver = new.resolver
        parts.origins.take(config, new.origins)
        for setting in ("store", "listen", "name"):
            if getattr(old.agent, setting) != getattr(config.agent, setting):
                log.warning("this setting needs a restart", setting=f"agent.{setting}")
        self.configure_metrics(config)
        parts.evaluator.configure(new.settings)
        parts.delivering.configure(new.notifiers)
        await parts.mailboxes.configure(config, new.access)
        with suppress(StoreError):  # the next heartbeat makes up for it
            await self._tell_fleet(config)
        self.swapped()
        with suppress(StoreError):  # what routes new to this config did before is shown, if it can be
            await self.load_routes()
        services.metrics.reload_ok.set(1)
        services.metrics.reload_at.set(services.clock.wall())
        log.info("config loaded", routes=len(config.routes_resolved), hash=config.hash)

    async def _tell_fleet(self, config: Config) -> None:
        me = self.services.me
        me.config_hash, me.resolvers = config.hash, self.services.resolvers()
        me.addresses = own_addresses(config)
        if me.state == BEHIND:
            me.state, me.detail = WORKING, ""
            await self._say(back(self.services.place, self.services.clock.wall()))
        self.services.fleet.reconfigured()

    def configure_metrics(self, config: Config) -> None:
        """Series for what the config has, and only for that."""
        metrics = self.services.metrics
        metrics.routes.configure(config.routes_resolved)
        pairs = {(route.sender, config.seeds[route.seed].provider) for route in config.routes_resolved}
        metrics.configure(pairs, config.alerts.receivers)
        most = most_series(config)
        if most > SERIES_LIMIT:
            log.warning("this config may make more series than are good to scrape", series=most)

    async def load_routes(self) -> None:
        """Fills the routes' gauges from the store."""
        services = self.services
        now, routes, config = services.clock.wall(), services.metrics.routes, services.config
        await services.database.read(lambda conn: states.load(conn, config, routes, now))

    async def _in_pieces(self, items: Sequence[T], work: Callable[[Tx, Sequence[T]], None]) -> None:
        """A million schedules are no one transaction: heartbeats go through the same writer."""
        for start in range(0, len(items), PIECE):
            some = items[start : start + PIECE]
            await self.services.database.write(partial(_with, work, some))

    async def _schedules(self) -> AsyncIterator[Sequence[ScheduleRow]]:
        """Every schedule there is, in pages: they may be more than one query should read."""
        some = await self.services.database.read(rows.schedule_rows)
        while some:
            yield some
            read = partial(rows.schedule_rows, after=some[-1].name)
            some = await self.services.database.read(read)

    async def _sync_schedules(self, config: Config) -> None:
        if not self.scheduled:
            return
        wanted = {schedule_name(route): route.every for route in config.routes_resolved}
        wanted |= blocklists.schedules(config) | records.schedules(config)
        now, alone = self.services.clock.wall(), self.services.fleet.alone
        over = schedule.spread(len(wanted))
        missing = set(wanted)
        gone: list[str] = []
        moved: list[tuple[ScheduleRow, float]] = []
        async for some in self._schedules():
            names = [row.name for row in some]
            missing.difference_update(names)
            gone += [name for name in names if name not in wanted]
            moved += _moved(some, wanted, now, over, alone)
        new = [
            (name, schedule.first_due(name, every, now, over))
            for name, every in wanted.items()
            if name in missing
        ]
        await self._in_pieces(gone, lambda tx, some: rows.drop_schedules(tx.conn, some))
        await self._in_pieces(new, lambda tx, some: rows.put_schedules(tx.conn, dict(some)))
        await self._in_pieces(moved, _move)
        await self.parts.recording.forget(config)


def _moved(
    known: Iterable[ScheduleRow], wanted: Mapping[str, float], now: float, over: float, alone: bool
) -> Iterator[tuple[ScheduleRow, float]]:
    """Schedules that are to be caught up with, or come sooner now: the row and its new due time."""
    for row in known:
        every = wanted.get(row.name)
        if every is not None:
            due = schedule.caught_up(row.name, row.due_at, now, every, over)
            if due != row.due_at and (alone or row.due_at > now):  # what is due, others may be doing
                yield row, due


def _with(work: Callable[[Tx, Sequence[T]], None], some: Sequence[T], tx: Tx) -> None:
    work(tx, some)


def _move(tx: Tx, some: Sequence[tuple[ScheduleRow, float]]) -> None:
    for row, due in some:
        rows.move_schedule(tx.conn, row, due, None)
