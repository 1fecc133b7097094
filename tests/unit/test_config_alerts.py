"""The `alerts:` section and alerts/settings.py say the same things, with the same defaults."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from agent.config import alerting
from agent.config.alert_settings import alert_settings
from agent.config.load import parse
from agent.secrets import SecretUnavailable
from alerts import settings
from alerts.settings import AlertKind
from probes.outcome import Severity

ENV = {"U": "https://hooks.example/x", "K": "key"}


def settings_of(text: str) -> settings.AlertSettings:
    return alert_settings(parse(("records: {}\n" + text).encode(), "mail.yaml", ENV))


def test_nothing_written_is_the_defaults() -> None:
    assert settings_of("") == settings.AlertSettings()


PAIRS: list[tuple[Any, Any]] = [
    (alerting.Rule, settings.RuleSettings),
    (alerting.Match, settings.Match),
    (alerting.Slack, settings.SlackSettings),
    (alerting.PagerDuty, settings.PagerDutySettings),
    (alerting.Alertmanager, settings.AlertmanagerSettings),
    (alerting.Webhook, settings.WebhookSettings),
    (alerting.Template, settings.TemplateSettings),
    (alerting.Receiver, settings.ReceiverSettings),
    (alerting.AlertRoute, settings.RouteSettings),
    (alerting.Maintenance, settings.MaintenanceSettings),
    (alerting.Heartbeat, settings.HeartbeatSettings),
]


@pytest.mark.parametrize(("model", "mirrored"), PAIRS, ids=lambda one: one.__name__)
def test_every_field_is_mirrored(model: Any, mirrored: Any) -> None:
    assert set(model.model_fields) == {field.name for field in fields(mirrored)}


def test_every_kind_has_a_rule() -> None:
    assert set(alerting.Rules.model_fields) == set(map(str, AlertKind))


def test_every_field_of_the_rule_set_is_mirrored() -> None:
    names = {field.name for field in fields(settings.RuleSet)}
    assert names <= set(alerting.Alerts.model_fields)


def test_a_rule_keeps_the_defaults_of_its_kind() -> None:
    found = settings_of("alerts: {rules: {listed: {severity: critical}, spam: {failures: 0}}}").rules
    default = settings.default_rules()[AlertKind.LISTED]
    assert found.rule(AlertKind.LISTED) == replace(default, severity=Severity.CRITICAL)
    assert found.rule(AlertKind.SPAM).failures == 0


def test_receivers_routes_windows_and_heartbeat() -> None:
    found = settings_of(
        "alerts:\n"
        "  receivers:\n"
        "    a: {slack: {url: {env: U}}, per_minute: 5, template: {title: t}}\n"
        "    b: {pagerduty: {routing_key: {env: K}}}\n"
        "    c: {alertmanager: {url: 'http://127.0.0.1:9093', password: {env: K}, labels: {team: mail}}}\n"
        "    d: {webhook: {url: {env: U}, secret: {env: K}, headers: {X-A: {env: K}}}}\n"
        "    e: {apprise: [{env: U}]}\n"
        "  routes: [{receivers: [a], match: {min_severity: error, own: true}, escalate_to: [b]}]\n"
        "  maintenance: [{name: w, starts: 2027-01-01T00:00:00Z, ends: 2027-01-01T01:00:00+01:00}]\n"
        "  heartbeat: {url: {env: U}, watchdog: [c]}\n"
    )
    assert found.receivers["a"] == settings.ReceiverSettings(
        slack=settings.SlackSettings(ENV["U"]), per_minute=5.0, template=settings.TemplateSettings("t")
    )
    assert found.receivers["b"].pagerduty == settings.PagerDutySettings("key")
    assert found.receivers["c"].alertmanager == settings.AlertmanagerSettings(
        "http://127.0.0.1:9093", password="key", labels={"team": "mail"}
    )
    assert found.receivers["d"].webhook == settings.WebhookSettings(ENV["U"], "key", {"X-A": "key"})
    assert found.receivers["e"].apprise == (ENV["U"],)
    match = settings.Match(min_severity=Severity.ERROR, own=True)
    assert found.routes == (settings.RouteSettings(("a",), match, ("b",)),)
    assert (found.maintenance[0].starts, found.maintenance[0].ends) == (1798761600.0, 1798761600.0)
    assert found.heartbeat == settings.HeartbeatSettings(ENV["U"], watchdog=("c",))


def test_a_secret_that_is_gone_names_its_place() -> None:
    with pytest.raises(
        SecretUnavailable, match=r"mail.yaml:4:22: alerts.receivers.a.slack.url: the env"
    ) as caught:
        settings_of("alerts:\n  receivers:\n    a: {slack: {url: {env: GONE}}}\n")
    assert "GONE" in str(caught.value)
