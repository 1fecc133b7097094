"""Models of the `alerts:` section, as alerts/settings.py has them, with secrets still as references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from agent.config.base import Fault, Section, refuse
from agent.config.fields import Duration, DurationOrZero, Instant, Line, Name, Url
from agent.secrets import Secret
from alerts.cron import parse_cron
from probes.errors import ConfigError

SeverityWord = Literal["info", "warning", "error", "critical"]
Method = Literal["spf", "dkim", "dmarc", "arc"]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
RECEIVER_KINDS = ("slack", "pagerduty", "alertmanager", "webhook", "apprise")


def _cron(value: str) -> str:
    try:
        parse_cron(value)
    except ConfigError:
        right = "write minute hour day month weekday, as in `0 2 * * sun`"
        raise refuse("not a cron expression", right) from None
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        raise refuse("not a time zone", "write its IANA name, as in Europe/Berlin") from None
    return value


class Rule(Section):
    """When one kind of alert fires and resolves. What is left out keeps the kind's own default."""

    enabled: bool | None = Field(default=None, description="false: never fires.")
    failure_threshold: Positive | None = Field(
        default=None, description="Fires after so many failures in a row."
    )
    success_threshold: Positive | None = Field(
        default=None, description="Resolves after so many passes in a row."
    )
    failures: Count | None = Field(default=None, description="Or fires after so many failures ... (0: off)")
    out_of: Positive | None = Field(default=None, description="... among the last so many results.")
    failure_rate: Rate | None = Field(
        default=None, description="Or fires when the failure rate is surely above this ..."
    )
    rate_over: Count | None = Field(default=None, description="... over the last so many results. (0: off)")
    max_chance: Rate | None = Field(
        default=None,
        description="Not while the usual noise explains it with more than this probability. (1: no bound)",
    )
    after: DurationOrZero | None = Field(
        default=None, description="A state must last so long before it counts."
    )
    severity: SeverityWord | None = Field(default=None, description="Severity it starts with.")
    slow_factor: Annotated[float, Field(gt=1)] | None = Field(
        default=None, description="Slow: longer than so many times the route's own baseline ..."
    )
    slow_at_least: DurationOrZero | None = Field(default=None, description="... and longer than this.")
    methods: tuple[Method, ...] | None = Field(
        default=None, min_length=1, description="Authentication methods that must pass."
    )
    tabs: tuple[Name, ...] | None = Field(default=None, description="Tab categories that count as spam.")


class Rules(Section):
    """The rules by kind of alert."""

    missing: Rule = Field(default_factory=Rule, description="Not seen by the deadline.")
    spam: Rule = Field(default_factory=Rule, description="In the junk folder.")
    rejected: Rule = Field(default_factory=Rule, description="Refused for good (5xx).")
    bounced: Rule = Field(default_factory=Rule, description="Accepted, then returned.")
    deferred: Rule = Field(default_factory=Rule, description="Refused for now (4xx) until the deadline.")
    authentication: Rule = Field(default_factory=Rule, description="SPF, DKIM or DMARC did not pass.")
    slow: Rule = Field(default_factory=Rule, description="Much slower than usual.")
    listed: Rule = Field(default_factory=Rule, description="An IP or domain is in a blocklist.")
    record_drift: Rule = Field(default_factory=Rule, description="A record changed that nobody announced.")
    seed_unreadable: Rule = Field(
        default_factory=Rule, description="Our fault: a seed mailbox cannot be read."
    )
    sender_unreachable: Rule = Field(default_factory=Rule, description="Our fault: a relay cannot be used.")
    resolver: Rule = Field(default_factory=Rule, description="Our fault: the DNS resolver does not answer.")
    store: Rule = Field(default_factory=Rule, description="Our fault: results cannot be stored.")
    clock: Rule = Field(default_factory=Rule, description="Our fault: the clock jumped.")
    no_runs: Rule = Field(default_factory=Rule, description="Our fault: nothing was sent for a while.")
    agent: Rule = Field(default_factory=Rule, description="Our fault: an agent of the fleet has gone.")


class Match(Section):
    """What a route or window is about: every list given must match. An entry may end with `*`."""

    keys: tuple[Line, ...] = Field(default=(), description="Keys of alerts.")
    kinds: tuple[Line, ...] = Field(default=(), description="Kinds of alerts, as under alerts.rules.")
    routes: tuple[Line, ...] = Field(default=(), description="Routes, as SENDER/SEED.")
    senders: tuple[Line, ...] = Field(default=(), description="Senders.")
    seeds: tuple[Line, ...] = Field(default=(), description="Seeds.")
    providers: tuple[Line, ...] = Field(default=(), description="Providers.")
    zones: tuple[Line, ...] = Field(default=(), description="Blocklist zones.")
    min_severity: SeverityWord = Field(default="info", description="At least this severe.")
    own: bool | None = Field(
        default=None, description="true: only our own faults; false: only mail's. Left out: both."
    )


class Slack(Section):
    """A Slack incoming webhook."""

    url: Secret = Field(description="The webhook's URL.", examples=["{env: SLACK_WEBHOOK}"])


class PagerDuty(Section):
    """A PagerDuty service, by Events API v2."""

    routing_key: Secret = Field(description="Integration key.", examples=["{env: PAGERDUTY_KEY}"])
    url: Url = Field(
        default="https://events.pagerduty.com/v2/enqueue", description="Other service regions differ."
    )


class Alertmanager(Section):
    """A Prometheus Alertmanager, by API v2."""

    url: Url = Field(description="Its base URL.", examples=["http://127.0.0.1:9093"])
    resend: Duration = Field(default=60.0, description="Sent again this often while firing.")
    username: str = Field(default="", description="Basic authentication, where it has one.")
    password: Secret | None = Field(default=None, description="Its password.")
    labels: dict[Annotated[str, Field(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")], Line] = Field(
        default_factory=dict, description="Further labels of each alert."
    )


class Webhook(Section):
    """Any HTTP receiver of JSON."""

    url: Secret = Field(description="Its URL.", examples=["{env: WEBHOOK_URL}"])
    secret: Secret | None = Field(
        default=None, description="Signs the body (HMAC-SHA256 over time and body)."
    )
    headers: dict[Line, Secret] = Field(default_factory=dict, description="Further request headers.")


class Template(Section):
    """Texts of your own (Jinja2, sandboxed). A bad one falls back to the built-in."""

    title: str = Field(default="", description="Title. Left out: built-in.")
    body: str = Field(default="", description="Body. Left out: built-in.")


class Receiver(Section):
    """Where notifications go: exactly one of slack, pagerduty, alertmanager, webhook, apprise."""

    slack: Slack | None = Field(default=None, description="A Slack incoming webhook.")
    pagerduty: PagerDuty | None = Field(default=None, description="A PagerDuty service.")
    alertmanager: Alertmanager | None = Field(default=None, description="A Prometheus Alertmanager.")
    webhook: Webhook | None = Field(default=None, description="Any HTTP receiver of JSON.")
    apprise: tuple[Secret, ...] = Field(
        default=(), description="Apprise URLs of any other service: mailto://, opsgenie://, workflows://, ..."
    )
    send_resolved: bool = Field(default=True, description="Also tell when it is over.")
    send_updates: bool = Field(default=True, description="Also tell when an incident grows or shrinks.")
    per_minute: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Most requests a minute. Left out: the service's own limit."
    )
    digest_over: Count = Field(
        default=10, description="More waiting than this leave as one digest. (0: never)"
    )
    timeout: Duration = Field(default=15.0, description="Longest wait for one delivery.")
    template: Template = Field(default_factory=Template, description="Texts of your own.")

    @property
    def kind(self) -> str:
        """Which of the five it is."""
        return next(kind for kind in RECEIVER_KINDS if getattr(self, kind))

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        kinds = [kind for kind in RECEIVER_KINDS if kind in given]
        if not kinds:
            words = ", ".join(RECEIVER_KINDS[:-1])
            yield Fault("", "the receiver has no service", f"add one of {words} or {RECEIVER_KINDS[-1]}")
        for extra in kinds[1:]:
            yield Fault(extra, f"`{kinds[0]}` and `{extra}` in one receiver", "make it two receivers")


class AlertRoute(Section):
    """Which receivers hear of what. All that match are used."""

    receivers: tuple[Name, ...] = Field(
        min_length=1, description="Names of receivers.", examples=[["oncall"]]
    )
    match: Match = Field(default_factory=Match, description="What it is about. Left out: everything.")
    escalate_to: tuple[Name, ...] = Field(
        default=(), description="Told too where it still fires and nobody acknowledged it ..."
    )
    escalate_after: Duration = Field(default=1800.0, description="... after so long.")


class Maintenance(Section):
    """A planned window: measuring goes on, nobody is told. Either cron, or starts and ends."""

    name: Line = Field(description="What it is for.", examples=["weekly patch window"])
    cron: Annotated[str, AfterValidator(_cron)] | None = Field(
        default=None, description="When it begins: minute hour day month weekday."
    )
    duration: Duration = Field(default=3600.0, description="How long it lasts, with cron.")
    time_zone: Annotated[str, AfterValidator(_zone)] = Field(
        default="UTC", description="Time zone of cron (IANA)."
    )
    starts: Instant | None = Field(default=None, description="Or: once, from this time ...")
    ends: Instant | None = Field(default=None, description="... to this.")
    match: Match = Field(default_factory=Match, description="What it is about. Left out: everything.")

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        once = [key for key in ("starts", "ends") if key in given]
        if "cron" in given and once:
            yield Fault(once[0], f"`cron` and `{once[0]}` are both given", "keep one of them")
        elif "cron" not in given and len(once) < 2:
            yield Fault("", "the window has no time", "give `cron`, or both `starts` and `ends`")


class Heartbeat(Section):
    """Dead man's switch: told only while canaries are really sent and read back."""

    url: Secret | None = Field(default=None, description="Pinged by GET, healthchecks style.")
    every: Duration = Field(default=60.0, description="How often.")
    within: Duration = Field(default=2700.0, description="Only while a canary was read back within this.")
    watchdog: tuple[Name, ...] = Field(
        default=(), description="Alertmanager receivers that get a Watchdog alert."
    )

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        if "url" not in given and "watchdog" not in given:
            yield Fault("", "the heartbeat has neither `url` nor `watchdog`", "give one of them")


class Alerts(Section):
    """From results to people."""

    receivers: dict[Name, Receiver] = Field(
        default_factory=dict, description="Where notifications go, by name."
    )
    rules: Rules = Field(
        default_factory=Rules, description="What fires; the defaults work with none written."
    )
    routes: tuple[AlertRoute, ...] = Field(
        default=(), description="Who hears of what. Left out: all hear all."
    )
    maintenance: tuple[Maintenance, ...] = Field(default=(), description="Planned windows.")
    heartbeat: Heartbeat | None = Field(default=None, description="Dead man's switch.")
    runbook_url: Url | None = Field(
        default=None, description="Base of the runbooks. Left out: the agent's own pages."
    )
    objective: Annotated[float, Field(ge=0.5, lt=1)] = Field(
        default=0.99,
        description="Share of canaries that must arrive where they should; for `mailcanary rules`.",
    )
    cause_window: Duration = Field(
        default=21600.0,
        description="A listing, drift or change at most this long before is attached as likely cause.",
    )
    join_window: Duration = Field(
        default=3600.0, description="An incident younger than this may still grow wider."
    )
    reopen_within: Duration = Field(
        default=3600.0, description="A relapse this soon reopens the same incident."
    )
    flap_limit: Count = Field(default=2, description="After so many relapses it needs longer to resolve:")
    flap_hold: DurationOrZero = Field(default=7200.0, description="so long of good results.")
    reminder_interval: DurationOrZero = Field(
        default=14400.0, description="Reminders while it fires. (0s: none)"
    )
    max_reminders: Count = Field(default=6, description="Most reminders of one incident.")
