"""From the outbox to people, and the dead man's switch. Send, then mark."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from agent.fleet.resources import EVALUATOR, RECEIVER
from agent.runner.ledger import Change
from agent.runner.services import Services
from agent.store import outbox as outbox_rows
from agent.store import verdicts
from agent.store.database import Tx
from agent.store.leases import Lease
from agent.store.outbox import SqlOutbox
from alerts.delivery import Notifier
from alerts.heartbeat import Heartbeat, ping
from alerts.notifiers.factory import make_notifier
from alerts.outbox import DeliveryEvent, Outbox
from alerts.settings import AlertSettings, HeartbeatSettings
from probes.errors import MailcanaryError, StaleWrite

log = structlog.get_logger("delivering")

BEAT_CHECK = 5.0
"""Most seconds between looks whether the heartbeat is due."""

MEND = 0.5
"""Seconds between looks whether something was told too late."""


@dataclass
class Delivering:
    """Owns the notifiers of the config in force; delivers to the receivers that this agent holds: a Room."""

    services: Services
    settings: Callable[[], AlertSettings]
    _notifiers: Mapping[str, Notifier] = field(default_factory=dict)
    _held: set[str] = field(default_factory=set)
    _leases: dict[str, Lease] = field(default_factory=dict)
    """By receiver, the newest: what is under way when it is given away ends under it."""
    _outbox: Outbox | None = None
    _rows: SqlOutbox = field(init=False)
    _heart: Heartbeat = field(default_factory=Heartbeat)

    def __post_init__(self) -> None:
        self._rows = SqlOutbox(self.services.database, self._lease)

    def _lease(self, receiver: str) -> Lease:
        if receiver not in self._held:
            raise StaleWrite(f"receiver {receiver} is not this agent's to tell")
        return self._leases[receiver]

    async def take(self, key: str) -> None:
        """Delivers to a receiver from now on; what the last to do so died over is free again."""

        def release(tx: Tx) -> None:
            self.services.fence(tx, RECEIVER + key)
            outbox_rows.release(tx.conn, key)

        membership = self.services.fleet.membership
        lease = Lease(RECEIVER + key, membership.holder, membership.epoch)
        await self.services.database.write(release)
        self._leases[key] = lease
        self._held.add(key)
        self._share_out()
        self.wake()

    async def give(self, key: str) -> None:
        """Another agent delivers to the receiver, once what is under way has ended."""
        self._held.discard(key)
        self._share_out()
        if self._outbox is not None:
            await self._outbox.ended(key)

    def _share_out(self) -> None:
        if self._outbox is not None:
            mine = {name: one for name, one in self._notifiers.items() if name in self._held}
            self._outbox.configure(mine, self.settings().receivers)

    async def look_back(self) -> None:
        """Takes up the send-and-read loop as it was last closed, by whichever agent."""
        now = self.services.clock.wall()
        closed = await self.services.database.read(lambda conn: verdicts.last_loop(conn, now))
        if closed is not None:
            self._heart = self._heart.loop_closed(*closed)

    def alive(self) -> bool:
        """Whether canaries are really sent and read back; never so where there is nothing to send."""
        settings = self.settings().heartbeat
        routes = self.services.config.routes_resolved
        return bool(settings and routes and self._heart.alive(settings, self.services.clock.wall()))

    def wake(self) -> None:
        """Something was added to the outbox."""
        if self._outbox is not None:
            self._outbox.wake()

    def prepare(self, settings: AlertSettings) -> Mapping[str, Notifier]:
        """Makes the notifiers of the settings. Raises ConfigError where one is bad."""
        receivers = settings.receivers
        return {name: make_notifier(name, one, self.services.poster) for name, one in receivers.items()}

    def configure(self, notifiers: Mapping[str, Notifier]) -> None:
        """Takes the notifiers of the settings in force."""
        self._notifiers = notifiers
        if self._outbox is None:
            self._outbox = Outbox(
                self._rows,
                {},
                self.services.clock,
                random=self.services.random,
                observe=self._observe,
                left=self.services.fleet.membership.left,
            )
        self._share_out()

    def _observe(self, event: DeliveryEvent) -> None:
        metrics = self.services.metrics
        if event.outcome == "sent":
            metrics.notifications.labels(event.receiver).inc()
            metrics.notification_delay.labels(event.receiver).observe(event.delay)
            return
        if event.outcome != "skipped":
            metrics.notification_failures.labels(event.receiver, event.reason).inc()
            log.warning(
                "notification not delivered",
                receiver=event.receiver,
                outcome=event.outcome,
                reason=event.reason,
                detail=event.detail,
            )

    def seen(self, change: Change) -> None:
        """A canary was read back: the loop is closed, whatever folder it was in."""
        canary = change.after
        if canary.seen_at is not None and canary.accepted is not None:
            self._heart = self._heart.loop_closed(canary.accepted.wall, canary.seen_at)

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers until `stop`."""
        assert self._outbox is not None, "configure() comes first"
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(self._outbox, stop))
            group.create_task(self._beat(stop))
            group.create_task(self._mend(stop))

    async def _deliver(self, outbox: Outbox, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await outbox.run(stop)
            except MailcanaryError as error:
                # Nothing was marked: what was sent in this moment is sent again.
                log.error("delivery is held up", error=str(error))
                await self.services.clock.sleep(2.0)

    async def _mend(self, stop: asyncio.Event) -> None:
        """An agent that was given up while it told somebody may have done so after others told what came
        later: a trigger that comes after its resolve would stay for ever. The last word is said again."""
        while not stop.is_set():
            if self._rows.late and self.services.fleet.membership.sure():
                with suppress(MailcanaryError):  # tried again
                    found = await self._rows.repeat_last_words(self.services.fence)
                    log.warning("may have told somebody too late: the last word is said again", keys=found)
            await self.services.clock.sleep(MEND)

    async def _beat_once(self, settings: HeartbeatSettings) -> None:
        if not self.services.fleet.alone:
            await self.look_back()
        now = self.services.clock.wall()
        if settings.url and self.alive() and self._heart.due(settings, now):
            if await ping(settings, self.services.poster, now):
                self._heart = self._heart.pinged(now)
            else:
                log.warning("the heartbeat was not accepted")

    async def _beat(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            settings = self.settings().heartbeat
            if settings is not None and self.services.fleet.holds(EVALUATOR):
                with suppress(MailcanaryError):  # the loop is then as this agent has seen it closed itself
                    await self._beat_once(settings)
            pause = min(BEAT_CHECK, settings.every / 5) if settings else BEAT_CHECK
            await self.services.clock.sleep(max(0.1, pause))
