"""What can be set about alerts, named as the YAML `alerts:` section names it. Durations are seconds.

Every field has a default that works: an empty section still tells of missing, spam, failed authentication,
slow, rejected, bounced and deferred canaries, of listings and record drift, and of the agent's own faults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from probes.outcome import Severity

MINUTE = 60.0
HOUR = 3600.0


class AlertKind(StrEnum):
    """Every kind of alert; the key of a rule and the name of its runbook page."""

    MISSING = "missing"
    SPAM = "spam"
    REJECTED = "rejected"
    BOUNCED = "bounced"
    DEFERRED = "deferred"
    AUTHENTICATION = "authentication"
    SLOW = "slow"
    LISTED = "listed"
    RECORD_DRIFT = "record_drift"
    SEED_UNREADABLE = "seed_unreadable"
    SENDER_UNREACHABLE = "sender_unreachable"
    RESOLVER = "resolver"
    STORE = "store"
    CLOCK = "clock"
    NO_RUNS = "no_runs"
    AGENT = "agent"

    @property
    def own(self) -> bool:
        """Whether this kind tells of a fault of the agent itself, not of mail."""
        return self in OWN_KINDS


ROUTE_KINDS = (
    AlertKind.REJECTED,
    AlertKind.BOUNCED,
    AlertKind.MISSING,
    AlertKind.DEFERRED,
    AlertKind.SPAM,
    AlertKind.AUTHENTICATION,
    AlertKind.SLOW,
)
"""Kinds found on a route, worst first."""

OWN_KINDS = frozenset(
    {
        AlertKind.SEED_UNREADABLE,
        AlertKind.SENDER_UNREACHABLE,
        AlertKind.RESOLVER,
        AlertKind.STORE,
        AlertKind.CLOCK,
        AlertKind.NO_RUNS,
        AlertKind.AGENT,
    }
)


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """One rule, in plain words. It is true when any of its three thresholds is.

    failure_threshold: failures in a row. success_threshold: passes in a row that end it.
    failures, out_of: this many failures among the last so many results (m of n; failures 0: off).
    failure_rate, rate_over: the failure rate over the last so many results, taken at its lower 99 percent
    confidence bound, is above this (rate_over 0: off). max_chance: how probable it may be at most that the
    usual noise explains it (1: no such bound; None: 4e-8, and no bound where failure_threshold is below 3).
    after: seconds a state (listing, own fault) must last before it counts. severity: where it starts.
    slow_factor, slow_at_least: slow means longer than this many times the route's own baseline and longer
    than so many seconds. methods: the authentication methods that must pass. tabs: tab categories that count
    as spam (for example promotions).
    """

    enabled: bool = True
    failure_threshold: int = 3
    success_threshold: int = 2
    failures: int = 5
    out_of: int = 8
    failure_rate: float = 0.1
    rate_over: int = 24
    max_chance: float | None = None
    after: float = 0.0
    severity: Severity = Severity.ERROR
    slow_factor: float = 4.0
    slow_at_least: float = 60.0
    methods: tuple[str, ...] = ("spf", "dkim", "dmarc")
    tabs: tuple[str, ...] = ()


def default_rules() -> dict[AlertKind, RuleSettings]:
    """The rules as they are when nothing is written."""
    warn, crit = Severity.WARNING, Severity.CRITICAL
    return {
        AlertKind.MISSING: RuleSettings(),
        AlertKind.SPAM: RuleSettings(),
        AlertKind.REJECTED: RuleSettings(),
        AlertKind.BOUNCED: RuleSettings(),
        AlertKind.DEFERRED: RuleSettings(severity=warn),
        AlertKind.AUTHENTICATION: RuleSettings(severity=warn),
        AlertKind.SLOW: RuleSettings(failure_threshold=4, severity=warn),
        AlertKind.LISTED: RuleSettings(failure_threshold=1, success_threshold=1, severity=warn),
        AlertKind.RECORD_DRIFT: RuleSettings(failure_threshold=1, success_threshold=1, severity=warn),
        AlertKind.SEED_UNREADABLE: RuleSettings(after=15 * MINUTE, severity=warn),
        AlertKind.SENDER_UNREACHABLE: RuleSettings(after=10 * MINUTE, severity=Severity.ERROR),
        AlertKind.RESOLVER: RuleSettings(after=5 * MINUTE, severity=warn),
        AlertKind.STORE: RuleSettings(after=MINUTE, severity=crit),
        AlertKind.CLOCK: RuleSettings(after=0.0, severity=warn),
        AlertKind.NO_RUNS: RuleSettings(after=HOUR, severity=Severity.ERROR),
        AlertKind.AGENT: RuleSettings(after=MINUTE, severity=Severity.ERROR),
    }


_DEFAULTS = default_rules()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """All rules, and what holds for all of them.

    cause_window: a listing, drift or authentication change at most this long before the first failure is
    attached as likely cause. join_window: an incident younger than this may still grow into a wider scope.
    reopen_within: a relapse this soon after the resolve reopens the same incident. flap_limit: after so many
    relapses an incident needs flap_hold seconds of good results to resolve. reminder_interval,
    max_reminders: reminders while firing and not acknowledged (interval 0: none).
    """

    rules: Mapping[AlertKind, RuleSettings] = field(default_factory=default_rules)
    cause_window: float = 6 * HOUR
    join_window: float = HOUR
    reopen_within: float = HOUR
    flap_limit: int = 2
    flap_hold: float = 2 * HOUR
    reminder_interval: float = 4 * HOUR
    max_reminders: int = 6

    def rule(self, kind: AlertKind) -> RuleSettings:
        """The rule of that kind, or its default where none is written."""
        found = self.rules.get(kind)
        return found if found is not None else _DEFAULTS[kind]


@dataclass(frozen=True, slots=True)
class SlackSettings:
    """Slack incoming webhook. url is a secret."""

    url: str


@dataclass(frozen=True, slots=True)
class PagerDutySettings:
    """PagerDuty Events v2. routing_key is a secret; url changes only for other regions and tests."""

    routing_key: str
    url: str = "https://events.pagerduty.com/v2/enqueue"


@dataclass(frozen=True, slots=True)
class AlertmanagerSettings:
    """Prometheus Alertmanager v2 (its base URL); resent every `resend` seconds while firing."""

    url: str
    resend: float = 60.0
    username: str = ""
    password: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Any HTTP receiver. secret, where given, signs the body (HMAC-SHA256 over time and body)."""

    url: str
    secret: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TemplateSettings:
    """Jinja2 texts that replace the built-in ones; empty keeps the built-in."""

    title: str = ""
    body: str = ""


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """Where notifications go: exactly one of slack, pagerduty, alertmanager, webhook, apprise.

    apprise: URLs of any other service (mailto://, opsgenie://, workflows://, ...); secrets. per_minute: at
    most so many requests a minute; None is the service's own limit. digest_over: more waiting notifications
    than this leave as one digest (0: never). timeout: seconds for one delivery.
    """

    slack: SlackSettings | None = None
    pagerduty: PagerDutySettings | None = None
    alertmanager: AlertmanagerSettings | None = None
    webhook: WebhookSettings | None = None
    apprise: tuple[str, ...] = ()
    send_resolved: bool = True
    send_updates: bool = True
    per_minute: float | None = None
    digest_over: int = 10
    timeout: float = 15.0
    template: TemplateSettings = field(default_factory=TemplateSettings)


@dataclass(frozen=True, slots=True)
class Match:
    """What a route, silence, or maintenance window is about: every list given must match; empty matches all.

    Entries may end with `*`. own: True only the agent's own faults, False only the others, None both.
    """

    keys: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    min_severity: Severity = Severity.INFO
    own: bool | None = None


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """Which receivers hear of what. All routes that match are used; without any, every receiver hears all.

    escalate_to: second receivers, told where the incident is still firing and not acknowledged, or the
    first delivery has not succeeded, escalate_after seconds later.
    """

    receivers: tuple[str, ...]
    match: Match = field(default_factory=Match)
    escalate_to: tuple[str, ...] = ()
    escalate_after: float = 30 * MINUTE


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """A planned window: measuring goes on, nobody is told. cron is minute hour day month weekday.

    Either cron with duration (seconds) in time_zone (IANA name), or starts and ends (epoch seconds).
    """

    name: str
    cron: str = ""
    duration: float = HOUR
    time_zone: str = "UTC"
    starts: float | None = None
    ends: float | None = None
    match: Match = field(default_factory=Match)


@dataclass(frozen=True, slots=True)
class HeartbeatSettings:
    """Dead man's switch: url is pinged every `every` seconds while a canary was read back within `within`.

    url is a secret (healthchecks-style, one GET or POST). watchdog: Alertmanager receivers that get an
    always-firing Watchdog alert on the same condition.
    """

    url: str = ""
    every: float = MINUTE
    within: float = 45 * MINUTE
    watchdog: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """The whole `alerts:` section.

    external_url: where people reach the agent's pages ("" if nowhere); runbook_url: base of the runbook
    pages, by default external_url + "/runbooks"; agent: the agent's name as notifications state it.
    """

    receivers: Mapping[str, ReceiverSettings] = field(default_factory=dict)
    rules: RuleSet = field(default_factory=RuleSet)
    routes: tuple[RouteSettings, ...] = ()
    maintenance: tuple[MaintenanceSettings, ...] = ()
    heartbeat: HeartbeatSettings | None = None
    external_url: str = ""
    runbook_url: str = ""
    agent: str = "mailcanary"
