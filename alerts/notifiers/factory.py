"""From a receiver's settings to what delivers for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from alerts import templates
from alerts.delivery import SENT, Delivery, Notifier
from alerts.http import HttpPoster
from alerts.notification import Notification
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.notifiers.apprise import AppriseNotifier, split
from alerts.notifiers.pagerduty import PagerDutyNotifier
from alerts.notifiers.slack import SlackNotifier
from alerts.notifiers.webhook import WebhookNotifier
from alerts.settings import ReceiverSettings
from probes.errors import ConfigError


class _Templated:
    """A notifier that speaks in the user's words and at the receiver's pace."""

    def __init__(self, inner: Notifier, settings: ReceiverSettings) -> None:
        self._inner = inner
        self._settings = settings
        self.per_minute = inner.per_minute if settings.per_minute is None else settings.per_minute
        self.digests = inner.digests

    async def send(self, notification: Notification, now: float) -> Delivery:
        return await self._inner.send(templates.render(self._settings.template, notification), now)


class _Several:
    """Several notifiers as one; a retry leaves out those that succeeded already."""

    def __init__(self, inner: Sequence[Notifier]) -> None:
        self._inner = inner
        self._done: dict[str, set[int]] = {}
        self.per_minute = min(n.per_minute for n in inner)
        self.digests = all(n.digests for n in inner)

    async def send(self, notification: Notification, now: float) -> Delivery:
        done = self._done.setdefault(notification.id, set())
        open_ = [(i, n) for i, n in enumerate(self._inner) if i not in done]
        found = await asyncio.gather(*(n.send(notification, now) for _, n in open_))
        done.update(i for (i, _), d in zip(open_, found, strict=True) if d.ok)
        failed = [d for d in found if not d.ok]
        if not failed:
            del self._done[notification.id]
            return SENT
        return replace(failed[0], permanent=all(d.permanent for d in failed))


def make_notifier(name: str, settings: ReceiverSettings, http: HttpPoster) -> Notifier:
    """What delivers for a receiver. Raises ConfigError unless exactly one service is set."""
    wait = settings.timeout
    found: list[Notifier] = []
    if settings.slack:
        found.append(SlackNotifier(settings.slack, http, wait))
    if settings.pagerduty:
        found.append(PagerDutyNotifier(settings.pagerduty, http, wait))
    if settings.webhook:
        found.append(WebhookNotifier(settings.webhook, http, wait))
    if settings.alertmanager:
        found.append(AlertmanagerNotifier(settings.alertmanager, http, wait))
    if settings.apprise:
        found.append(_from_apprise(settings, http))
    if len(found) != 1:
        raise ConfigError(f"receiver {name} names {len(found)} services; exactly one is needed")
    templates.check(settings.template)
    return _Templated(found[0], settings)


def _from_apprise(settings: ReceiverSettings, http: HttpPoster) -> Notifier:
    slack, pagerduty, rest = split(settings.apprise)
    parts: list[Notifier] = [SlackNotifier(s, http, settings.timeout) for s in slack]
    parts += [PagerDutyNotifier(p, http, settings.timeout) for p in pagerduty]
    if rest:
        parts.append(AppriseNotifier(rest, settings.timeout))
    return parts[0] if len(parts) == 1 else _Several(parts)
