"""Alerts about the agent itself: what it cannot tell anybody when it is dead, and what it owns up to."""

from __future__ import annotations

from agent.prometheus.rule import Rule, alert
from agent.prometheus.shape import Shape
from agent.prometheus.windows import duration

MINUTE = 60.0
OURS = 'job=~".*mailcanary.*"'
"""The scrape job has the product's name in its own."""


def agent_alerts(shape: Shape) -> list[Rule]:
    """The agent's own health; the agent cannot raise most of these itself."""
    return [_down(shape), _absent(shape), _no_verdicts(shape), _restarts(shape), _reload(shape), _lag(shape),
            _skew(shape), _refused(shape), _undelivered(shape)]  # fmt: skip


def party_alerts(shape: Shape) -> list[Rule]:
    """Mailboxes, senders and zones that cannot be used: the agent tells of these too."""
    found = [_seed(shape), _sender(shape)]
    return [*found, _zone(shape)] if shape.sweep is not None else found


def _down(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryDown",
        f"up{{{OURS}}} == 0",
        severity="critical",
        lasting=5 * MINUTE,
        summary="The agent {{ $labels.instance }} cannot be scraped",
        description="Nobody watches mail while the agent is down; nothing is known of deliverability.",
        runbook="no_runs",
        dashboard="agent",
    )


def _absent(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryAbsent",
        "absent(mailcanary_build_info)",
        severity="critical",
        lasting=10 * MINUTE,
        summary="No agent is scraped at all",
        description="Prometheus has no mailcanary target, or none that answers.",
        runbook="no_runs",
        dashboard="agent",
    )


def _no_verdicts(shape: Shape) -> Rule:
    seconds = 2 * shape.slowest + shape.patience + 300.0
    window = duration(seconds)
    return alert(
        shape,
        "MailcanaryNoVerdicts",
        f"sum by (job) (increase(mailcanary_canary_results_total[{window}])) == 0\n"
        f"and on (job) max by (job) (mailcanary_time_seconds - process_start_time_seconds) > {seconds:g}\n"
        "and on (job) max by (job) (mailcanary_routes) > 0\n"
        "unless on (job) max by (job) (mailcanary_paused) == 1",
        severity="critical",
        lasting=5 * MINUTE,
        summary="The agent runs, but judges no canary",
        description=f"Not one canary got a verdict for {window}: whether mail arrives is unknown.",
        runbook="no_runs",
        dashboard="agent",
    )


def _restarts(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryRestarts",
        f"changes(process_start_time_seconds{{{OURS}}}[1h]) > 3",
        severity="warning",
        summary="The agent {{ $labels.instance }} keeps restarting",
        description="It started {{ $value }} times within an hour.",
        runbook="no_runs",
        dashboard="agent",
    )


def _reload(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryReloadFailed",
        "mailcanary_config_last_reload_successful == 0",
        severity="warning",
        lasting=5 * MINUTE,
        summary="The agent {{ $labels.instance }} refused its new config",
        description="The old config stays in force; `mailcanary check-config` tells what is wrong.",
        runbook="no_runs",
        dashboard="agent",
    )


def _lag(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryLoopLag",
        "min_over_time(mailcanary_loop_lag_seconds[10m]) > 0.5",
        severity="warning",
        lasting=5 * MINUTE,
        summary="The agent {{ $labels.instance }} is overloaded",
        description="Its event loop comes {{ $value | humanizeDuration }} late: latencies are not exact.",
        runbook="clock",
        dashboard="agent",
    )


def _skew(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryClockSkew",
        "abs(mailcanary_time_seconds - timestamp(mailcanary_time_seconds)) > 30",
        severity="warning",
        lasting=5 * MINUTE,
        summary="The clock of {{ $labels.instance }} is wrong",
        description="It differs from Prometheus' own by {{ $value | humanizeDuration }}.",
        runbook="clock",
        dashboard="agent",
    )


def _refused(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanarySeriesRefused",
        "sum by (job, instance, metric) (increase(mailcanary_series_refused_total[1h])) > 0",
        severity="info",
        summary="{{ $labels.metric }} has all the series it may have",
        description="Further label values are not counted; see How many series in METRICS.md.",
        runbook="no_runs",
        dashboard="agent",
    )


def _undelivered(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryNotificationsWaiting",
        "min_over_time(mailcanary_notifications_waiting[15m]) > 0\n"
        "and on (job, instance, receiver)\n"
        "sum by (job, instance, receiver) (increase(mailcanary_notification_failures_total[15m])) > 0",
        severity="warning",
        summary="Notifications to {{ $labels.receiver }} are not delivered",
        description="{{ $value }} wait in the outbox of {{ $labels.instance }}; they will be tried again.",
        runbook="no_runs",
        dashboard="agent",
    )


def _seed(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanarySeedUnreadable",
        "max by (job, seed) (mailcanary_seed_readable) == 0",
        severity="warning",
        lasting=15 * MINUTE,
        summary="The mailbox of {{ $labels.seed }} cannot be read",
        description="Its canaries are unknown meanwhile, not lost.",
        runbook="seed_unreadable",
        dashboard="agent",
    )


def _sender(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanarySenderUnusable",
        "max by (job, sender) (mailcanary_sender_usable) == 0",
        severity="warning",
        lasting=10 * MINUTE,
        summary="{{ $labels.sender }} cannot send",
        description="Its way out does not answer, or refuses the login.",
        runbook="sender_unreachable",
        dashboard="agent",
    )


def _zone(shape: Shape) -> Rule:
    return alert(
        shape,
        "MailcanaryZoneUnhealthy",
        "max by (job, zone) (mailcanary_blocklist_zone_healthy) == 0",
        severity="info",
        lasting=3 * (shape.sweep or 0.0),
        summary="{{ $labels.zone }} does not answer its own test entries",
        description="What it would say of our addresses is unknown (RFC 5782).",
        runbook="resolver",
        dashboard="reputation",
    )
