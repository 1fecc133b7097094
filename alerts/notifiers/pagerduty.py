"""PagerDuty Events v2. Limits: dedup_key 255, summary 1024 characters, 512 KB an event; 202 means queued."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from alerts.delivery import Delivery, judge
from alerts.http import HttpPoster
from alerts.notification import Action, Notification
from alerts.settings import PagerDutySettings
from alerts.texts import clean
from probes.clock import rfc3339
from probes.errors import HttpUnavailable

MAX_KEY = 255
MAX_SUMMARY = 1024
MAX_BYTES = 512 * 1024
_ROOM = 64 * 1024
_FIELD = 4096
_ACTIONS = {Action.RESOLVE: "resolve", Action.ACKNOWLEDGE: "acknowledge"}


def dedup_key(key: str) -> str:
    """The key as it is, or shortened to 255 characters with a hash that keeps it unique."""
    if len(key) <= MAX_KEY:
        return key
    return f"{key[: MAX_KEY - 33]}-{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:32]}"


def payload(notification: Notification, routing_key: str) -> dict[str, Any]:
    """The event's JSON."""
    action = _ACTIONS.get(notification.action, "trigger")
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": action,
        "dedup_key": dedup_key(notification.dedup_key),
    }
    if action != "trigger":
        return event
    event["client"] = clean(notification.agent)
    if "Alert" in notification.links:
        event["client_url"] = notification.links["Alert"]
    event["links"] = [{"href": url, "text": clean(label)} for label, url in notification.links.items()]
    event["payload"] = {
        "summary": clean(notification.title)[:MAX_SUMMARY],
        "source": clean(notification.agent)[:MAX_SUMMARY],
        "severity": str(notification.severity),
        "timestamp": rfc3339(notification.started),
        "component": clean(notification.scope)[:MAX_SUMMARY],
        "group": "own" if notification.own else "mail",
        "class": notification.kind,
        "custom_details": _details(notification),
    }
    return event


def _details(notification: Notification) -> dict[str, Any]:
    """Sections, then machine details while they fit; what does not is named."""
    found: dict[str, Any] = {s.name or "Text": clean(s.text)[:_FIELD] for s in notification.sections}
    left = MAX_BYTES - _ROOM - _size(found)
    dropped = []
    for name, value in notification.details.items():
        size = _size({name: value})
        if size > left:
            dropped.append(name)
            continue
        found[name] = value
        left -= size
    return found | ({"left_off": dropped} if dropped else {})


def _size(value: object) -> int:
    return len(json.dumps(value))


class PagerDutyNotifier:
    """Sends events to one integration. Resolve and acknowledge carry the trigger's dedup key."""

    per_minute = 60.0
    digests = False

    def __init__(self, settings: PagerDutySettings, http: HttpPoster, timeout: float = 15.0) -> None:
        self._settings = settings
        self._http = http
        self._timeout = timeout

    async def send(self, notification: Notification, now: float) -> Delivery:
        """Delivers; a test is triggered and resolved at once, so that nobody is left with it."""
        event = payload(notification, self._settings.routing_key)
        try:
            reply = await self._http.post(self._settings.url, json=event, timeout=self._timeout)
            if notification.action is Action.TEST and reply.status == 202:
                end = {k: event[k] for k in ("routing_key", "dedup_key")} | {"event_action": "resolve"}
                reply = await self._http.post(self._settings.url, json=end, timeout=self._timeout)
        except HttpUnavailable as error:
            return Delivery(False, "unreachable", detail=error.detail)
        found = judge(reply, now)
        return found if found.ok or not found.detail else _redacted(found, self._settings.routing_key)


def _redacted(found: Delivery, secret: str) -> Delivery:
    detail = found.detail.replace(secret, "[redacted]") if secret else found.detail
    return Delivery(found.ok, found.reason, found.permanent, found.retry_after, detail)
