"""Every other service, through apprise: e-mail, Teams, Opsgenie and a hundred more. URLs are secrets."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from alerts.delivery import SENT, Delivery
from alerts.notification import Action, Notification
from alerts.settings import PagerDutySettings, SlackSettings
from alerts.texts import clean
from probes.errors import ConfigError
from probes.outcome import Severity

_LONGEST = 30_000
_REMEMBERED = 1000


def _library() -> Any:
    import apprise

    # At DEBUG apprise logs keys and whole payloads.
    logging.getLogger("apprise").setLevel(logging.WARNING)
    return apprise


def redacted(url: str) -> str:
    """The URL as apprise shows it in private: service and host, secrets masked."""
    found = _library().Apprise.instantiate(url, suppress_exceptions=True)
    return (
        f"{url.partition(':')[0]}://..." if found is None else str(found.url(privacy=True)).partition("?")[0]
    )


def split(urls: Sequence[str]) -> tuple[list[SlackSettings], list[PagerDutySettings], list[str]]:
    """Apprise URLs by who delivers them: Slack webhooks and PagerDuty natively, the rest here.

    Raises ConfigError for a URL that apprise does not understand; the message holds no secret.
    """
    slack: list[SlackSettings] = []
    pagerduty: list[PagerDutySettings] = []
    rest: list[str] = []
    for url in urls:
        found = _library().Apprise.instantiate(url, suppress_exceptions=True)
        if found is None:
            raise ConfigError(
                f"apprise does not understand the URL that begins with {url.partition(':')[0]}:"
            )
        scheme = url.partition(":")[0].lower()
        if scheme == "slack" and getattr(found, "token_a", None):
            tokens = "/".join((found.token_a, found.token_b, found.token_c))
            slack.append(SlackSettings(f"https://hooks.slack.com/services/{tokens}"))
        elif scheme == "pagerduty":
            pagerduty.append(PagerDutySettings(found.integration_key))
        else:
            rest.append(url)
    return slack, pagerduty, rest


class AppriseNotifier:
    """Sends to all of a receiver's apprise URLs; a retry leaves out those that succeeded already."""

    per_minute = 30.0
    digests = True

    def __init__(self, urls: Sequence[str], timeout: float = 15.0) -> None:
        self._urls = tuple(urls)
        self._timeout = timeout
        self._done: OrderedDict[str, set[int]] = OrderedDict()

    @cached_property
    def _apprise(self) -> Any:
        return _library()

    async def send(self, notification: Notification, now: float) -> Delivery:
        """Delivers; one apprise object a URL and notification, since a kept one sleeps between sends."""
        done = self._done.setdefault(notification.id, set())
        failed: list[str] = []
        for index, url in enumerate(self._urls):
            if index in done:
                continue
            if await self._one(url, notification):
                done.add(index)
            else:
                failed.append(url.partition(":")[0])
        while len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        if failed:
            return Delivery(False, "server_error", detail=f"apprise could not deliver to {', '.join(failed)}")
        del self._done[notification.id]
        return SENT

    async def _one(self, url: str, notification: Notification) -> bool:
        target = self._apprise.Apprise()
        added = target.add(url)
        if not added:
            return False
        body = clean(notification.body)
        links = "\n".join(f"{label}: {link}" for label, link in notification.links.items())
        result = await target.async_notify(
            body=f"{body}\n{links}"[:_LONGEST],
            title=clean(notification.title)[:1000],
            notify_type=self._type(notification),
            body_format=self._apprise.NotifyFormat.TEXT,
            timeout=self._timeout,
        )
        return bool(result)

    def _type(self, notification: Notification) -> Any:
        kinds = self._apprise.NotifyType
        if notification.action is Action.RESOLVE:
            return kinds.SUCCESS
        if notification.action in (Action.ACKNOWLEDGE, Action.TEST) or notification.severity is Severity.INFO:
            return kinds.INFO
        return kinds.WARNING if notification.severity is Severity.WARNING else kinds.FAILURE
