"""Every metric there is, in one table: what the families are made from, and the documentation too.

Labels come from config ids and closed enums only. A route (sender and seed) appears in gauges alone, so that
the number of series is bounded by the config (budget.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PREFIX = "mailcanary_"
Type = Literal["counter", "gauge", "histogram"]

# Few buckets: a pair of sender and provider has a series for each of them.
DELIVERY_BUCKETS = (1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
STAGE_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)

PAIR = ("sender", "provider")
ROUTE = ("sender", "seed")


@dataclass(frozen=True, slots=True)
class Spec:
    """One metric. name: without the prefix; example: a query that is of use."""

    name: str
    type: Type
    labels: tuple[str, ...]
    help: str
    example: str
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        """The name as Prometheus sees it."""
        return PREFIX + self.name


CANARIES = Spec(
    "canaries_total",
    "counter",
    (*PAIR, "placement"),
    "Canaries that got their placement, by where they landed.",
    "sum by (provider, placement) (increase(mailcanary_canaries_total[1d]))",
)
RESULTS = Spec(
    "canary_results_total",
    "counter",
    (*PAIR, "outcome"),
    "Canaries by verdict. Unknown is neither pass nor fail: it stays out of every ratio.",
    'sum(increase(mailcanary_canary_results_total{outcome="fail"}[1d]))'
    ' / sum(increase(mailcanary_canary_results_total{outcome=~"pass|fail"}[1d]))',
)
OUTCOME = Spec(
    "canary_outcome",
    "gauge",
    ROUTE,
    "The newest verdict of the route: 1 pass, 0 fail; absent while unknown.",
    "mailcanary_canary_outcome == 0",
)
UNKNOWN = Spec(
    "canary_unknown",
    "gauge",
    (*ROUTE, "reason"),
    "1 where the newest canary of the route could not be judged.",
    "count by (reason) (mailcanary_canary_unknown)",
)
LAST_SUCCESS = Spec(
    "canary_last_success_timestamp_seconds",
    "gauge",
    ROUTE,
    "When a canary of the route was last seen where it should be.",
    "scalar(mailcanary_time_seconds) - mailcanary_canary_last_success_timestamp_seconds",
)
LATE = Spec(
    "canary_late_total",
    "counter",
    PAIR,
    "Canaries that arrived after they were declared missing, or else settled without being seen.",
    "increase(mailcanary_canary_late_total[1d])",
)
DUPLICATES = Spec(
    "canary_duplicates_total",
    "counter",
    PAIR,
    "Further copies of a canary already seen.",
    "increase(mailcanary_canary_duplicates_total[1d]) > 0",
)
DELIVERY = Spec(
    "canary_delivery_seconds",
    "histogram",
    PAIR,
    "From the relay's final reply to the arrival in the mailbox.",
    "histogram_quantile(0.9, sum by (le, provider) (rate(mailcanary_canary_delivery_seconds_bucket[6h])))",
    DELIVERY_BUCKETS,
)
STAGE = Spec(
    "smtp_stage_seconds",
    "histogram",
    ("sender", "stage"),
    "Time each stage of a submission took.",
    "histogram_quantile(0.9, sum by (le, stage) (rate(mailcanary_smtp_stage_seconds_bucket[6h])))",
    STAGE_BUCKETS,
)
REPLIES = Spec(
    "smtp_replies_total",
    "counter",
    (*PAIR, "code", "meaning"),
    "Last SMTP reply of each attempt, by code and what it means.",
    'sum by (provider, code, meaning) (increase(mailcanary_smtp_replies_total{code!~"2.."}[1d]))',
)
AUTHENTICATION = Spec(
    "authentication_results_total",
    "counter",
    (*PAIR, "method", "result"),
    "The seed provider's own authentication verdicts.",
    'sum by (sender, method) (increase(mailcanary_authentication_results_total{result!="pass"}[1d]))',
)
LISTED = Spec(
    "blocklist_listed",
    "gauge",
    ("subject", "zone"),
    "1 for each subject that a zone lists; absent where it is not listed.",
    "count by (subject) (mailcanary_blocklist_listed)",
)
DISAGREEMENT = Spec(
    "blocklist_disagreement",
    "gauge",
    ("subject", "zone", "resolver"),
    "Only where resolvers disagree about a listing: 1 through which it is seen, 0 through which it is not.",
    "count by (subject, zone) (mailcanary_blocklist_disagreement)",
)
LOOKUPS = Spec(
    "blocklist_lookups_total",
    "counter",
    ("zone", "result"),
    "Blocklist lookups by what they found: listed, not-listed, unknown.",
    'sum by (zone) (increase(mailcanary_blocklist_lookups_total{result="unknown"}[6h]))',
)
ZONE_HEALTHY = Spec(
    "blocklist_zone_healthy",
    "gauge",
    ("zone", "resolver"),
    "1 where the zone answered its own test entries as it should (RFC 5782).",
    "mailcanary_blocklist_zone_healthy == 0",
)
RECORD_FINDINGS = Spec(
    "record_findings",
    "gauge",
    ("domain", "kind", "severity"),
    "Findings about a watched domain's DNS records; severity unknown where something could not be seen.",
    'sum by (domain, kind) (mailcanary_record_findings{severity=~"error|critical"}) > 0',
)
RECORD_CHANGES = Spec(
    "record_changes_total",
    "counter",
    ("domain", "kind"),
    "Changes of watched DNS records, announced ones too.",
    "increase(mailcanary_record_changes_total[1d]) > 0",
)
SEED_READABLE = Spec(
    "seed_readable",
    "gauge",
    ("seed",),
    "1 where the seed's mailbox can be read.",
    "mailcanary_seed_readable == 0",
)
SEED_INFO = Spec(
    "seed_info",
    "gauge",
    ("seed", "provider"),
    "Always 1: tells a seed's provider, for joins.",
    "avg by (provider) (mailcanary_canary_outcome * on (seed) group_left (provider) mailcanary_seed_info)",
)
TOKEN_EXPIRY = Spec(
    "oauth_token_expiry_timestamp_seconds",
    "gauge",
    ("seed",),
    "When the OAuth2 access token held for the seed's mailbox ends; it is renewed at 80 percent of its life.",
    "mailcanary_oauth_token_expiry_timestamp_seconds - scalar(mailcanary_time_seconds) < 0",
)
SENDER_USABLE = Spec(
    "sender_usable",
    "gauge",
    ("sender",),
    "1 where the sender's way out answers.",
    "mailcanary_sender_usable == 0",
)
ROUTES = Spec("routes", "gauge", (), "Routes of the config in force.", "mailcanary_routes")
PAUSED = Spec(
    "paused", "gauge", (), "1 while all sending is paused (mailcanary pause).", "mailcanary_paused == 1"
)
CHANGES_OPEN = Spec(
    "changes_open",
    "gauge",
    (),
    "Announced changes between `mailcanary change start` and `finish`.",
    "mailcanary_changes_open > 0",
)
ALERTS_FIRING = Spec(
    "alerts_firing",
    "gauge",
    ("severity",),
    "Alerts of the agent itself that fire.",
    "sum(mailcanary_alerts_firing)",
)
NOTIFICATIONS = Spec(
    "notifications_total",
    "counter",
    ("receiver",),
    "Notifications delivered.",
    "increase(mailcanary_notifications_total[1d])",
)
NOTIFICATION_FAILURES = Spec(
    "notification_failures_total",
    "counter",
    ("receiver", "reason"),
    "Attempts to deliver a notification that failed.",
    "sum by (receiver) (increase(mailcanary_notification_failures_total[1h])) > 0",
)
NOTIFICATION_DELAY = Spec(
    "notification_delay_seconds",
    "histogram",
    ("receiver",),
    "From a notification's creation to its delivery.",
    "histogram_quantile(0.9, sum by (le) (rate(mailcanary_notification_delay_seconds_bucket[1h])))",
    DELIVERY_BUCKETS,
)
NOTIFICATIONS_WAITING = Spec(
    "notifications_waiting",
    "gauge",
    ("receiver",),
    "Notifications in the outbox that are not delivered yet.",
    "mailcanary_notifications_waiting > 0",
)
RELOAD_OK = Spec(
    "config_last_reload_successful",
    "gauge",
    (),
    "1 where the last reload of the config was good.",
    "mailcanary_config_last_reload_successful == 0",
)
RELOAD_AT = Spec(
    "config_last_reload_success_timestamp_seconds",
    "gauge",
    (),
    "When the config in force was loaded.",
    "changes(mailcanary_config_last_reload_success_timestamp_seconds[1h])",
)
BUILD_INFO = Spec(
    "build_info",
    "gauge",
    ("version",),
    "Always 1: tells the version that runs.",
    "count by (version) (mailcanary_build_info)",
)
LOOP_LAG = Spec(
    "loop_lag_seconds",
    "gauge",
    (),
    "How late the event loop last woke up.",
    "max_over_time(mailcanary_loop_lag_seconds[10m])",
)
LEASES_HELD = Spec(
    "leases_held",
    "gauge",
    ("kind",),
    "What this agent holds: mailbox, evaluator, receiver, blocklists, round, upkeep.",
    "sum by (instance, kind) (mailcanary_leases_held)",
)
AGENTS = Spec(
    "agents",
    "gauge",
    ("state",),
    "Agents of the fleet by state: working, visiting, draining, behind, silent, lost. Shown by one of them.",
    'sum(mailcanary_agents{state!="working"}) > 0',
)
TIME = Spec(
    "time_seconds",
    "gauge",
    (),
    "The agent's wall clock at the scrape: ages by it know no skew.",
    "abs(mailcanary_time_seconds - timestamp(mailcanary_time_seconds))",
)
STORE_READABLE = Spec(
    "store_readable",
    "gauge",
    (),
    "Whether the store could be read for this scrape; 0: what is in it is left out.",
    "mailcanary_store_readable == 0",
)
STORE_BYTES = Spec(
    "store_size_bytes",
    "gauge",
    (),
    "Size of the store. Of PostgreSQL: the whole database.",
    "deriv(mailcanary_store_size_bytes[1d])",
)
SERIES = Spec(
    "exposition_series", "gauge", (), "Series of the previous scrape.", "mailcanary_exposition_series"
)
RENDER = Spec(
    "exposition_render_seconds",
    "gauge",
    (),
    "How long the previous scrape took to render.",
    "mailcanary_exposition_render_seconds",
)
REFUSED = Spec(
    "series_refused_total",
    "counter",
    ("metric",),
    "Observations left out because their metric has all the series it may have.",
    "increase(mailcanary_series_refused_total[1h]) > 0",
)

SPECS = tuple(value for value in list(globals().values()) if isinstance(value, Spec))
"""Every metric, in the order above."""

PROCESS = {
    "process_cpu_seconds_total": ("counter", "Total user and system CPU time spent in seconds."),
    "process_max_fds": ("gauge", "Maximum number of open file descriptors."),
    "process_open_fds": ("gauge", "Number of open file descriptors."),
    "process_resident_memory_bytes": ("gauge", "Resident memory size in bytes."),
    "process_start_time_seconds": ("gauge", "Start time of the process since unix epoch in seconds."),
    "process_virtual_memory_bytes": ("gauge", "Virtual memory size in bytes."),
}
"""What prometheus_client's ProcessCollector adds, under its usual names."""
