"""From the file's `alerts:` section to what the alerts floor takes: defaults filled in, secrets revealed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.config import alerting
from agent.config.models import Config
from agent.secrets import Secret
from alerts import settings
from alerts.settings import AlertSettings
from probes.outcome import Severity


def alert_settings(config: Config) -> AlertSettings:
    """The settings of the alerts floor. Raises SecretUnavailable where a secret cannot be read."""
    alerts = config.alerts
    return AlertSettings(
        receivers={name: _receiver(receiver) for name, receiver in alerts.receivers.items()},
        rules=_rules(alerts),
        routes=tuple(
            settings.RouteSettings(
                route.receivers, _match(route.match), route.escalate_to, route.escalate_after
            )
            for route in alerts.routes
        ),
        maintenance=maintenance(config),
        heartbeat=_heartbeat(alerts.heartbeat),
        external_url=config.agent.external_url or "",
        runbook_url=alerts.runbook_url or "",
        agent=config.agent.name,
    )


def maintenance(config: Config) -> tuple[settings.MaintenanceSettings, ...]:
    """The planned windows; reads no secret."""
    return tuple(map(_window, config.alerts.maintenance))


def _rules(alerts: alerting.Alerts) -> settings.RuleSet:
    rules = {
        kind: replace(default, **_given(getattr(alerts.rules, kind.value)))
        for kind, default in settings.default_rules().items()
    }
    return settings.RuleSet(
        rules=rules,
        cause_window=alerts.cause_window,
        join_window=alerts.join_window,
        reopen_within=alerts.reopen_within,
        flap_limit=alerts.flap_limit,
        flap_hold=alerts.flap_hold,
        reminder_interval=alerts.reminder_interval,
        max_reminders=alerts.max_reminders,
    )


def _given(rule: alerting.Rule) -> dict[str, Any]:
    """What the file says of one rule; all else keeps the default of its kind."""
    given: dict[str, Any] = {name: getattr(rule, name) for name in rule.model_fields_set}
    given = {name: value for name, value in given.items() if value is not None}
    if "severity" in given:
        given["severity"] = Severity(given["severity"])
    return given


def _match(match: alerting.Match) -> settings.Match:
    words = {name: getattr(match, name) for name in type(match).model_fields}
    return settings.Match(**{**words, "min_severity": Severity(match.min_severity)})


def _window(window: alerting.Maintenance) -> settings.MaintenanceSettings:
    return settings.MaintenanceSettings(
        name=window.name,
        cron=window.cron or "",
        duration=window.duration,
        time_zone=window.time_zone,
        starts=window.starts,
        ends=window.ends,
        match=_match(window.match),
    )


def _heartbeat(heartbeat: alerting.Heartbeat | None) -> settings.HeartbeatSettings | None:
    if heartbeat is None:
        return None
    url = _revealed(heartbeat.url)
    return settings.HeartbeatSettings(url, heartbeat.every, heartbeat.within, heartbeat.watchdog)


def _revealed(secret: Secret | None) -> str:
    return secret.reveal() if secret else ""


def _receiver(receiver: alerting.Receiver) -> settings.ReceiverSettings:
    return settings.ReceiverSettings(
        **_service(receiver),
        send_resolved=receiver.send_resolved,
        send_updates=receiver.send_updates,
        per_minute=receiver.per_minute,
        digest_over=receiver.digest_over,
        timeout=receiver.timeout,
        template=settings.TemplateSettings(receiver.template.title, receiver.template.body),
    )


def _service(receiver: alerting.Receiver) -> dict[str, Any]:
    """The one service of a receiver, as keyword arguments."""
    if slack := receiver.slack:
        return {"slack": settings.SlackSettings(slack.url.reveal())}
    if duty := receiver.pagerduty:
        return {"pagerduty": settings.PagerDutySettings(duty.routing_key.reveal(), duty.url)}
    if manager := receiver.alertmanager:
        password = _revealed(manager.password)
        service = settings.AlertmanagerSettings(
            manager.url, manager.resend, manager.username, password, manager.labels
        )
        return {"alertmanager": service}
    if hook := receiver.webhook:
        headers = {name: value.reveal() for name, value in hook.headers.items()}
        return {"webhook": settings.WebhookSettings(hook.url.reveal(), _revealed(hook.secret), headers)}
    return {"apprise": tuple(url.reveal() for url in receiver.apprise)}
