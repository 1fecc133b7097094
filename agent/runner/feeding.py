"""What an Alertmanager must be told again and again: all that fires, what ended lately, and the Watchdog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import structlog

from agent.fleet.resources import EVALUATOR
from agent.runner.services import Services
from alerts.delivery import Delivery
from alerts.lifecycle import Alert
from alerts.notification import listeners
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.settings import AlertmanagerSettings, AlertSettings
from alerts.texts import Pages

log = structlog.get_logger("feeding")

LOOK = 1.0
"""Seconds between looks whether a feed is due."""


@dataclass(slots=True)
class _Fed:
    settings: AlertmanagerSettings
    notifier: AlertmanagerNotifier
    due: float = float("-inf")
    """Monotonic."""


@dataclass
class Feeding:
    """Re-sends to each Alertmanager receiver every `resend` seconds. One that hangs holds up no other."""

    services: Services
    settings: Callable[[], AlertSettings]
    alerts: Callable[[], Iterable[Alert]]
    alive: Callable[[], bool]
    """Whether the send-and-read loop closes: the condition of the Watchdog."""
    _fed: dict[str, _Fed] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Feeds until `stop`."""
        async with asyncio.TaskGroup() as group:
            under_way: dict[str, asyncio.Task[None]] = {}
            while not stop.is_set():
                for name in self.due() if self.services.fleet.holds(EVALUATOR) else ():
                    if name not in under_way or under_way[name].done():
                        under_way[name] = group.create_task(self.feed(name))
                await self.services.clock.sleep(LOOK)
            for task in under_way.values():
                task.cancel()

    def due(self) -> list[str]:
        """The receivers to be fed now; takes up what a reload brought."""
        wanted = {n: r.alertmanager for n, r in self.settings().receivers.items() if r.alertmanager}
        now = self.services.clock.monotonic()
        self._fed = {name: self._kept(name, settings) for name, settings in wanted.items()}
        return [name for name, fed in self._fed.items() if fed.due <= now]

    def _kept(self, name: str, settings: AlertmanagerSettings) -> _Fed:
        known = self._fed.get(name)
        if known is not None and known.settings == settings:
            return known
        timeout = min(self.settings().receivers[name].timeout, 2 * settings.resend)
        return _Fed(settings, AlertmanagerNotifier(settings, self.services.poster, timeout))

    async def feed(self, name: str) -> None:
        """Sends everything this receiver is to show now."""
        fed, settings, now = self._fed[name], self.settings(), self.services.clock.wall()
        fed.due = self.services.clock.monotonic() + fed.settings.resend
        pages = Pages(settings.external_url, settings.runbook_url, settings.agent)
        shown = [a for a in self.alerts() if name in listeners(a, settings.receivers, settings.routes, now)]
        deliveries = [await fed.notifier.feed(shown, pages, now)]
        if settings.heartbeat and name in settings.heartbeat.watchdog and self.alive():
            deliveries.append(await fed.notifier.watchdog(settings.agent, now))
        self._note(name, deliveries)

    def _note(self, name: str, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            if not delivery.ok:
                self.services.metrics.notification_failures.labels(name, delivery.reason).inc()
                log.warning("Alertmanager was not fed", receiver=name, reason=delivery.reason)
