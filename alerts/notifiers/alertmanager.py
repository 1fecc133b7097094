"""Prometheus Alertmanager, API v2: re-sent while firing with explicit endsAt, resolved for 5 minutes."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from alerts.delivery import SENT, Delivery, judge
from alerts.http import HttpPoster
from alerts.lifecycle import Alert, AlertState
from alerts.notification import Action, Notification, Section
from alerts.settings import AlertmanagerSettings
from alerts.texts import Pages, clean, resolved_sections, sections, title
from probes.clock import rfc3339
from probes.errors import HttpUnavailable
from probes.outcome import Severity

RESOLVED_FOR = 300.0
_FAMILY = {"mail": "MailcanaryDelivery", "watch": "MailcanaryWatch", "own": "MailcanaryOwnFault"}
_BATCH = 200


def severity_label(severity: Severity) -> str:
    """Prometheus rules know info, warning and critical."""
    return "critical" if severity is Severity.ERROR else str(severity)


def _labels(key: str, severity: Severity, agent: str, extra: Mapping[str, str]) -> dict[str, str]:
    family = key.split("/")[1] if key.count("/") >= 2 else "mail"
    return {
        **extra,
        "alertname": _FAMILY.get(family, "MailcanaryTest"),
        "incident": clean(key),
        "severity": severity_label(severity),
        "agent": agent,
    }


def from_notification(n: Notification, settings: AlertmanagerSettings, now: float) -> dict[str, Any]:
    """One alert of the API from a notification."""
    over = n.action in (Action.RESOLVE, Action.TEST)
    ends = (n.ended or now) if over else now + 4 * settings.resend
    return _api(
        _labels(n.dedup_key, n.severity, n.agent, settings.labels),
        n.title,
        n.sections,
        n.links,
        (n.started, ends),
    )


def from_alert(alert: Alert, settings: AlertmanagerSettings, pages: Pages, now: float) -> dict[str, Any]:
    """One alert of the API from the engine's own: firing ends four re-sends from now, unless re-sent."""
    over = alert.state is AlertState.RESOLVED
    ends = (alert.resolved_at or now) if over else now + 4 * settings.resend
    parts = resolved_sections(alert, pages) if over else sections(alert, pages, now)
    labels = _labels(alert.key, alert.severity, pages.agent, settings.labels)
    text = title(alert, "resolve" if over else "trigger")
    return _api(labels, text, [Section(*p) for p in parts], pages.links(alert), (alert.started, ends))


def _api(
    labels: Mapping[str, str],
    text: str,
    parts: Iterable[Section],
    links: Mapping[str, str],
    span: tuple[float, float],
) -> dict[str, Any]:
    return {
        "labels": dict(labels),
        "annotations": {
            "summary": clean(text),
            "description": "\n".join(f"{p.name}: {clean(p.text)}" for p in parts),
            "runbook_url": links.get("Runbook", ""),
        },
        "startsAt": rfc3339(span[0]),
        "endsAt": rfc3339(max(span[1], span[0])),
        "generatorURL": links.get("Alert", ""),
    }


class AlertmanagerNotifier:
    """Posts alerts to one Alertmanager: single ones at once, all firing ones again and again (`feed`)."""

    per_minute = 600.0
    digests = False

    def __init__(self, settings: AlertmanagerSettings, http: HttpPoster, timeout: float = 15.0) -> None:
        self._settings = settings
        self._http = http
        self._timeout = timeout
        self._shown: dict[str, tuple[dict[str, Any], float | None]] = {}

    async def send(self, notification: Notification, now: float) -> Delivery:
        """Delivers one."""
        return await self._post([from_notification(notification, self._settings, now)], now)

    async def feed(self, alerts: Iterable[Alert], pages: Pages, now: float) -> Delivery:
        """Delivers all told alerts as they are now; call every `resend` seconds with the engine's alerts.

        What was shown and is no longer (ended, muted, another severity now) is shown as ended for 5 minutes.
        """
        current = {
            str(sorted(found["labels"].items())): found
            for a in alerts
            if a.state is AlertState.FIRING and a.told and not a.muted
            for found in (from_alert(a, self._settings, pages, now),)
        }
        for name, (found, ended) in list(self._shown.items()):
            if name in current:
                continue
            if ended is None:
                self._shown[name] = ({**found, "endsAt": rfc3339(now)}, now)
            elif now - ended > RESOLVED_FOR:
                del self._shown[name]
        self._shown |= {name: (found, None) for name, found in current.items()}
        batch = [found for found, _ in self._shown.values()]
        for start in range(0, len(batch), _BATCH):
            delivery = await self._post(batch[start : start + _BATCH], now)
            if not delivery.ok:
                return delivery
        return SENT

    async def watchdog(self, agent: str, now: float) -> Delivery:
        """The always-firing Watchdog alert, for as long as the heartbeat's condition holds."""
        labels = {
            **self._settings.labels,
            "alertname": "MailcanaryWatchdog",
            "severity": "info",
            "agent": agent,
        }
        text = "The mail canary's send-and-read loop works; an outside rule should page when this is absent."
        ends = now + 4 * self._settings.resend
        return await self._post([_api(labels, text, (), {}, (now, ends))], now)

    async def _post(self, found: list[dict[str, Any]], now: float) -> Delivery:
        headers = {}
        if self._settings.username:
            pair = f"{self._settings.username}:{self._settings.password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        url = f"{self._settings.url.rstrip('/')}/api/v2/alerts"
        try:
            reply = await self._http.post(url, json=found, headers=headers, timeout=self._timeout)
        except HttpUnavailable as error:
            return Delivery(False, "unreachable", detail=error.detail)
        return judge(reply, now)
