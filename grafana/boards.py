"""What each dashboard shows."""

# ruff: noqa: E501 - a query is read best on one line

from __future__ import annotations

from build import BLUE, GREEN, GREY, PAIR, RED, ROUTE, SCOPE, YELLOW, Dashboard, Panel, Query

RATIO = ((RED, None), (YELLOW, 0.95), (GREEN, 0.99))
BAD_IF_ANY = ((GREEN, None), (RED, 1.0))
UPDOWN = (("0", "fail", RED), ("1", "pass", GREEN))
PLACEMENTS = (
    ("inbox", GREEN),
    ("tab", "light-green"),
    ("spam", RED),
    ("missing", "dark-red"),
    ("rejected", "purple"),
    ("bounced", "light-purple"),
    ("deferred", YELLOW),
    ("other", "orange"),
    ("unknown", GREY),
)
RESULTS = "mailcanary_canary_results_total"


def share(by: str, window: str, scope: str = PAIR) -> str:
    """The share of judged canaries that passed."""
    passed = f'sum by ({by}) (increase({RESULTS}{{{scope},outcome="pass"}}[{window}]))'
    judged = f'(sum by ({by}) (increase({RESULTS}{{{scope},outcome=~"pass|fail"}}[{window}])) > 0)'
    return f"{passed} / {judged}"


def quantile(q: float, name: str, by: str, scope: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({q}, sum by (le, {by}) (increase({name}_bucket{{{scope}}}[$__range])))"


PROVIDER_OF = f"on (job, instance, seed) group_left (provider) mailcanary_seed_info{{{SCOPE}}}"

OVERVIEW = Dashboard(
    "mailcanary-overview",
    "Mailcanary / Overview",
    "Can we reach the inbox? Per provider and sender, at one look.",
    ("sender", "provider"),
    (
        Panel(
            "Reaching the inbox",
            "Share of the canaries that could be judged and passed, over the time range.",
            "percentunit",
            (Query(share("job", "$__range"), "passed", True),),
            "stat",
            4,
            5,
            RATIO,
            maximum=1,
            decimals=1,
        ),
        Panel(
            "Routes that fail now",
            "Routes whose newest verdict is fail.",
            "short",
            (
                Query(
                    f'count(mailcanary_canary_outcome{{{SCOPE},sender=~"$sender"}} == 0) or vector(0)',
                    "routes",
                    True,
                ),
            ),
            "stat",
            4,
            5,
            BAD_IF_ANY,
        ),
        Panel(
            "Routes unknown now",
            "Routes nobody can tell about: a fault of ours, not of mail.",
            "short",
            (
                Query(
                    f'count(mailcanary_canary_unknown{{{SCOPE},sender=~"$sender"}}) or vector(0)',
                    "routes",
                    True,
                ),
            ),
            "stat",
            4,
            5,
            ((GREEN, None), (YELLOW, 1.0)),
        ),
        Panel(
            "Listed",
            "Subjects that a blocklist lists now.",
            "short",
            (
                Query(
                    f"count(count by (subject) (mailcanary_blocklist_listed{{{SCOPE}}})) or vector(0)",
                    "subjects",
                    True,
                ),
            ),
            "stat",
            4,
            5,
            BAD_IF_ANY,
        ),
        Panel(
            "Alerts of the agent",
            "Alerts that fire, by the agent's own rules.",
            "short",
            (Query(f"sum(mailcanary_alerts_firing{{{SCOPE}}})", "alerts", True),),
            "stat",
            4,
            5,
            BAD_IF_ANY,
        ),
        Panel(
            "Canaries",
            "Canaries that got their placement in the time range.",
            "short",
            (Query(f"sum(increase(mailcanary_canaries_total{{{PAIR}}}[$__range]))", "canaries", True),),
            "stat",
            4,
            5,
            ((BLUE, None),),
            decimals=0,
        ),
        Panel(
            "By provider",
            "Share of judged canaries that passed, over the time range.",
            "percentunit",
            (Query(share("provider", "$__range"), "{{provider}}", True),),
            "bargauge",
            8,
            9,
            RATIO,
            maximum=1,
            decimals=1,
        ),
        Panel(
            "By sender",
            "Share of judged canaries that passed, over the time range.",
            "percentunit",
            (Query(share("sender", "$__range"), "{{sender}}", True),),
            "bargauge",
            8,
            9,
            RATIO,
            maximum=1,
            decimals=1,
        ),
        Panel(
            "Authentication by the providers' word",
            "Share of pass among the verdicts of SPF, DKIM and DMARC.",
            "percentunit",
            (
                Query(
                    f'sum by (method) (increase(mailcanary_authentication_results_total{{{PAIR},result="pass",'
                    'method!="arc"}[$__range])) / sum by (method) '
                    f'(increase(mailcanary_authentication_results_total{{{PAIR},method!="arc"}}[$__range]))',
                    "{{method}}",
                    True,
                ),
            ),
            "bargauge",
            8,
            9,
            RATIO,
            maximum=1,
            decimals=1,
        ),
        Panel(
            "Placement",
            "Canaries by where they landed.",
            "short",
            (
                Query(
                    f"sum by (placement) (increase(mailcanary_canaries_total{{{PAIR}}}[$__rate_interval])) > 0",
                    "{{placement}}",
                ),
            ),
            width=12,
            stack=True,
            bars=True,
            colours=PLACEMENTS,
        ),
        Panel(
            "Passed by provider",
            "Share of judged canaries that passed, over six hours.",
            "percentunit",
            (Query(share("provider", "6h"), "{{provider}}"),),
            width=12,
            maximum=1,
        ),
        Panel(
            "Newest verdicts",
            "Share of each provider's routes whose newest verdict is pass.",
            "percentunit",
            (
                Query(
                    f'avg by (provider) (mailcanary_canary_outcome{{{SCOPE},sender=~"$sender"}} * {PROVIDER_OF})',
                    "{{provider}}",
                ),
            ),
            width=12,
            maximum=1,
        ),
        Panel(
            "Delivery",
            "Median from the relay's final reply to the arrival, over six hours.",
            "s",
            (
                Query(
                    f"histogram_quantile(0.5, sum by (le, provider) "
                    f"(increase(mailcanary_canary_delivery_seconds_bucket{{{PAIR}}}[6h])))",
                    "{{provider}}",
                ),
            ),
            width=12,
        ),
    ),
    annotations=("changes", "incidents", "reloads", "versions", "listings", "drift", "alerts"),
)

ROUTES = Dashboard(
    "mailcanary-route",
    "Mailcanary / Route",
    "One route: where its canaries land, what authentication says, how long each stage takes.",
    ("sender", "provider", "seed"),
    (
        Panel(
            "Verdicts",
            "The newest verdict over time; gaps are unknown.",
            "short",
            (
                Query(
                    f"min by (sender, seed) (mailcanary_canary_outcome{{{ROUTE}}})", "{{sender}} to {{seed}}"
                ),
            ),
            "state-timeline",
            24,
            8,
            ((RED, None), (GREEN, 1.0)),
            maximum=1,
            mappings=UPDOWN,
        ),
        Panel(
            "Since the last success",
            "Age of the newest canary that arrived where it should, by the agent's clock.",
            "s",
            (
                Query(
                    f"mailcanary_time_seconds{{{SCOPE}}} - on (job, instance) group_right () "
                    f"mailcanary_canary_last_success_timestamp_seconds{{{ROUTE}}}",
                    "{{sender}} to {{seed}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Unknown",
            "Why canaries could not be judged.",
            "short",
            (
                Query(
                    f"sum by (reason) (mailcanary_canary_unknown{{{ROUTE}}}) or on () vector(0)", "{{reason}}"
                ),
            ),
            width=12,
            stack=True,
        ),
        Panel(
            "Placement",
            "Canaries of the sender at the provider, by where they landed.",
            "short",
            (
                Query(
                    f"sum by (placement) (increase(mailcanary_canaries_total{{{PAIR}}}[$__rate_interval])) > 0",
                    "{{placement}}",
                ),
            ),
            width=12,
            stack=True,
            bars=True,
            colours=PLACEMENTS,
        ),
        Panel(
            "Late and duplicates",
            "Canaries that came after they were declared missing, and further copies.",
            "short",
            (
                Query(f"sum(increase(mailcanary_canary_late_total{{{PAIR}}}[$__rate_interval]))", "late"),
                Query(
                    f"sum(increase(mailcanary_canary_duplicates_total{{{PAIR}}}[$__rate_interval]))",
                    "duplicates",
                ),
            ),
            width=12,
            bars=True,
        ),
        Panel(
            "Authentication",
            "The provider's own verdicts, over six hours.",
            "short",
            (
                Query(
                    f"sum by (method, result) (increase(mailcanary_authentication_results_total{{{PAIR}}}[6h]))",
                    "{{method}} {{result}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Delivery",
            "From the relay's final reply to the arrival, over six hours.",
            "s",
            tuple(
                Query(
                    f"histogram_quantile({q}, sum by (le) "
                    f"(increase(mailcanary_canary_delivery_seconds_bucket{{{PAIR}}}[6h])))",
                    f"{int(q * 100)} %",
                )
                for q in (0.5, 0.9)
            ),
            width=12,
        ),
        Panel(
            "Stages of the submission",
            "90th percentile of each stage, over the time range.",
            "s",
            (
                Query(
                    quantile(0.9, "mailcanary_smtp_stage_seconds", "stage", f'{SCOPE},sender=~"$sender"'),
                    "{{stage}}",
                    True,
                ),
            ),
            "bargauge",
            12,
            8,
        ),
        Panel(
            "What the servers said",
            "SMTP replies by code and meaning, over the time range.",
            "short",
            (
                Query(
                    f"sum by (sender, provider, code, meaning) (increase(mailcanary_smtp_replies_total{{{PAIR}}}[$__range])) > 0",
                    "{{sender}} {{provider}} {{code}} {{meaning}}",
                    True,
                ),
            ),
            "bargauge",
            12,
            8,
            ((BLUE, None),),
            decimals=0,
        ),
    ),
    annotations=("changes", "incidents", "reloads", "versions", "listings", "drift", "alerts"),
)

REPUTATION = Dashboard(
    "mailcanary-reputation",
    "Mailcanary / Reputation",
    "What blocklists say of our addresses and domains, and whether the lists can be believed.",
    ("zone",),
    (
        Panel(
            "Listed now",
            "Subjects that a zone lists now.",
            "short",
            (Query(f"count(mailcanary_blocklist_listed{{{SCOPE}}}) or vector(0)", "listings", True),),
            "stat",
            6,
            6,
            BAD_IF_ANY,
        ),
        Panel(
            "Zones in good health",
            "Zones that answered their own test entries as they should (RFC 5782).",
            "percentunit",
            (Query(f'avg(mailcanary_blocklist_zone_healthy{{{SCOPE},zone=~"$zone"}})', "healthy", True),),
            "stat",
            6,
            6,
            ((RED, None), (YELLOW, 0.8), (GREEN, 1.0)),
            maximum=1,
        ),
        Panel(
            "Lookups that could not tell",
            "Share of lookups with an unknown result, over the time range.",
            "percentunit",
            (
                Query(
                    f'sum(increase(mailcanary_blocklist_lookups_total{{{SCOPE},zone=~"$zone",result="unknown"}}[$__range]))'
                    f' / (sum(increase(mailcanary_blocklist_lookups_total{{{SCOPE},zone=~"$zone"}}[$__range])) > 0) or vector(0)',
                    "unknown",
                    True,
                ),
            ),
            "stat",
            6,
            6,
            ((GREEN, None), (YELLOW, 0.05), (RED, 0.2)),
            maximum=1,
            decimals=1,
        ),
        Panel(
            "Lookups",
            "Lookups in the time range.",
            "short",
            (
                Query(
                    f'sum(increase(mailcanary_blocklist_lookups_total{{{SCOPE},zone=~"$zone"}}[$__range]))',
                    "lookups",
                    True,
                ),
            ),
            "stat",
            6,
            6,
            ((BLUE, None),),
            decimals=0,
        ),
        Panel(
            "Listings",
            "Each listing as long as it lasted.",
            "short",
            (Query(f'mailcanary_blocklist_listed{{{SCOPE},zone=~"$zone"}}', "{{subject}} in {{zone}}"),),
            "state-timeline",
            24,
            10,
            ((RED, None),),
            maximum=1,
            mappings=(("1", "listed", RED),),
        ),
        Panel(
            "Health of the zones",
            "Whether each zone's word counts.",
            "short",
            (
                Query(
                    f'min by (zone) (mailcanary_blocklist_zone_healthy{{{SCOPE},zone=~"$zone"}})', "{{zone}}"
                ),
            ),
            "state-timeline",
            24,
            12,
            ((RED, None), (GREEN, 1.0)),
            maximum=1,
            mappings=(("0", "unknown", RED), ("1", "healthy", GREEN)),
        ),
        Panel(
            "Results of lookups",
            "Lookups by what they found.",
            "short",
            (
                Query(
                    f'sum by (result) (increase(mailcanary_blocklist_lookups_total{{{SCOPE},zone=~"$zone"}}[$__rate_interval]))',
                    "{{result}}",
                ),
            ),
            width=24,
            stack=True,
            bars=True,
            colours=(("listed", RED), ("not-listed", GREEN), ("unknown", GREY)),
        ),
        Panel(
            "Findings about records",
            "Faults of the DNS records that mail depends on; unknown where something could not be seen.",
            "short",
            (
                Query(
                    f"sum by (domain, kind, severity) (mailcanary_record_findings{{{SCOPE}}}) > 0",
                    "{{domain}} {{kind}} {{severity}}",
                ),
            ),
            width=12,
            stack=True,
        ),
        Panel(
            "Changes of records",
            "Changes of watched records, announced ones too, over six hours.",
            "short",
            (
                Query(
                    f"sum by (domain, kind) (increase(mailcanary_record_changes_total{{{SCOPE}}}[6h]))",
                    "{{domain}} {{kind}}",
                ),
            ),
            width=12,
            bars=True,
        ),
    ),
    "now-7d",
    annotations=("changes", "listings", "drift", "reloads"),
)

CHANGE = Dashboard(
    "mailcanary-change",
    "Mailcanary / Change",
    "Before and after: zoom so that the change lies in the middle; the left half is compared with the right.",
    ("sender", "provider"),
    (
        Panel(
            "Passed, last hour",
            "Share of judged canaries that passed in the last hour.",
            "percentunit",
            (Query(share("job", "1h"), "now", True),),
            "stat",
            6,
            5,
            RATIO,
            maximum=1,
            decimals=1,
        ),
        Panel(
            "Passed, the day before",
            "The same of the 24 hours before that hour.",
            "percentunit",
            (
                Query(
                    share("job", "1d offset 1h").replace("[1d offset 1h]", "[1d] offset 1h"), "before", True
                ),
            ),
            "stat",
            6,
            5,
            RATIO,
            maximum=1,
            decimals=1,
        ),
        Panel(
            "Delivery, last hour",
            "Median from the relay's final reply to the arrival.",
            "s",
            (
                Query(
                    f"histogram_quantile(0.5, sum by (le) (increase(mailcanary_canary_delivery_seconds_bucket{{{PAIR}}}[1h])))",
                    "now",
                    True,
                ),
            ),
            "stat",
            6,
            5,
            ((BLUE, None),),
        ),
        Panel(
            "Delivery, the day before",
            "The same of the 24 hours before that hour.",
            "s",
            (
                Query(
                    f"histogram_quantile(0.5, sum by (le) (increase(mailcanary_canary_delivery_seconds_bucket{{{PAIR}}}[1d] offset 1h)))",
                    "before",
                    True,
                ),
            ),
            "stat",
            6,
            5,
            ((BLUE, None),),
        ),
        Panel(
            "Placement around the change",
            "Canaries by where they landed.",
            "short",
            (
                Query(
                    f"sum by (placement) (increase(mailcanary_canaries_total{{{PAIR}}}[$__rate_interval])) > 0",
                    "{{placement}}",
                ),
            ),
            width=24,
            stack=True,
            bars=True,
            colours=PLACEMENTS,
        ),
        Panel(
            "Passed, by sender",
            "Share over one hour.",
            "percentunit",
            (Query(share("sender", "1h"), "{{sender}}"),),
            width=12,
            maximum=1,
        ),
        Panel(
            "Passed, by provider",
            "Share over one hour.",
            "percentunit",
            (Query(share("provider", "1h"), "{{provider}}"),),
            width=12,
            maximum=1,
        ),
        Panel(
            "Authentication that did not pass",
            "The providers' own verdicts other than pass, over one hour.",
            "short",
            (
                Query(
                    f'sum by (sender, method, result) (increase(mailcanary_authentication_results_total{{{PAIR},result!="pass",method!="arc"}}[1h])) or on () vector(0)',
                    "{{sender}} {{method}} {{result}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Refusals",
            "SMTP replies other than 2xx, over one hour.",
            "short",
            (
                Query(
                    f'sum by (provider, code, meaning) (increase(mailcanary_smtp_replies_total{{{PAIR},code!~"2.."}}[1h])) or on () vector(0)',
                    "{{provider}} {{code}} {{meaning}}",
                ),
            ),
            width=12,
        ),
    ),
    "now-6h",
    annotations=("changes", "reloads", "versions", "listings", "drift", "incidents", "alerts"),
)

AGENT = Dashboard(
    "mailcanary-agent",
    "Mailcanary / Agent",
    "The agent's own health: what it can see, send, tell, and what it costs.",
    (),
    (
        Panel(
            "Running",
            "Agents that answer.",
            "short",
            (
                Query(
                    f"sum(up{{{SCOPE}}} * on (job, instance) group_left () mailcanary_build_info)", "up", True
                ),
            ),
            "stat",
            4,
            5,
            ((RED, None), (GREEN, 1.0)),
        ),
        Panel(
            "Config",
            "Whether the last reload was good.",
            "short",
            (Query(f"min(mailcanary_config_last_reload_successful{{{SCOPE}}})", "config", True),),
            "stat",
            4,
            5,
            ((RED, None), (GREEN, 1.0)),
            mappings=(("0", "refused", RED), ("1", "loaded", GREEN)),
        ),
        Panel(
            "Sending",
            "Whether sending is paused.",
            "short",
            (Query(f"max(mailcanary_paused{{{SCOPE}}})", "paused", True),),
            "stat",
            4,
            5,
            ((GREEN, None), (YELLOW, 1.0)),
            mappings=(("0", "sending", GREEN), ("1", "paused", YELLOW)),
        ),
        Panel(
            "Seeds readable",
            "Share of the mailboxes that can be read.",
            "percentunit",
            (Query(f"avg(mailcanary_seed_readable{{{SCOPE}}})", "readable", True),),
            "stat",
            4,
            5,
            RATIO,
            maximum=1,
        ),
        Panel(
            "Senders usable",
            "Share of the senders whose way out answers.",
            "percentunit",
            (Query(f"avg(mailcanary_sender_usable{{{SCOPE}}})", "usable", True),),
            "stat",
            4,
            5,
            RATIO,
            maximum=1,
        ),
        Panel(
            "Routes",
            "Routes of the config in force.",
            "short",
            (Query(f"sum(mailcanary_routes{{{SCOPE}}})", "routes", True),),
            "stat",
            4,
            5,
            ((BLUE, None),),
        ),
        Panel(
            "Mailboxes",
            "Whether each seed can be read.",
            "short",
            (Query(f"min by (seed) (mailcanary_seed_readable{{{SCOPE}}})", "{{seed}}"),),
            "state-timeline",
            12,
            8,
            ((RED, None), (GREEN, 1.0)),
            maximum=1,
            mappings=(("0", "unreadable", RED), ("1", "readable", GREEN)),
        ),
        Panel(
            "Senders",
            "Whether each sender's way out answers.",
            "short",
            (Query(f"min by (sender) (mailcanary_sender_usable{{{SCOPE}}})", "{{sender}}"),),
            "state-timeline",
            12,
            8,
            ((RED, None), (GREEN, 1.0)),
            maximum=1,
            mappings=(("0", "unusable", RED), ("1", "usable", GREEN)),
        ),
        Panel(
            "Notifications",
            "Delivered and failed attempts, by receiver, and what waits.",
            "short",
            (
                Query(
                    f"sum by (receiver) (increase(mailcanary_notifications_total{{{SCOPE}}}[$__rate_interval]))",
                    "{{receiver}} delivered",
                ),
                Query(
                    f"sum by (receiver, reason) (increase(mailcanary_notification_failures_total{{{SCOPE}}}[$__rate_interval]))",
                    "{{receiver}} failed: {{reason}}",
                ),
                Query(
                    f"sum by (receiver) (mailcanary_notifications_waiting{{{SCOPE}}})", "{{receiver}} waiting"
                ),
            ),
            width=12,
        ),
        Panel(
            "Delay of notifications",
            "90th percentile from creation to delivery, over six hours.",
            "s",
            (
                Query(
                    f"histogram_quantile(0.9, sum by (le, receiver) (increase(mailcanary_notification_delay_seconds_bucket{{{SCOPE}}}[6h])))",
                    "{{receiver}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Event loop",
            "How late the loop wakes up.",
            "s",
            (Query(f"max by (instance) (mailcanary_loop_lag_seconds{{{SCOPE}}})", "{{instance}}"),),
            width=8,
        ),
        Panel(
            "CPU",
            "CPU seconds a second.",
            "percentunit",
            (
                Query(
                    f"rate(process_cpu_seconds_total{{{SCOPE}}}[$__rate_interval]) and on (job, instance) mailcanary_build_info",
                    "{{instance}}",
                ),
            ),
            width=8,
        ),
        Panel(
            "Memory",
            "Resident memory.",
            "bytes",
            (
                Query(
                    f"process_resident_memory_bytes{{{SCOPE}}} and on (job, instance) mailcanary_build_info",
                    "{{instance}}",
                ),
            ),
            width=8,
        ),
        Panel(
            "Open files",
            "Open file descriptors beside their limit.",
            "short",
            (
                Query(
                    f"process_open_fds{{{SCOPE}}} and on (job, instance) mailcanary_build_info",
                    "{{instance}} open",
                ),
            ),
            width=8,
        ),
        Panel(
            "Store",
            "Size of the store.",
            "bytes",
            (Query(f"mailcanary_store_size_bytes{{{SCOPE}}}", "{{instance}}"),),
            width=8,
        ),
        Panel(
            "Clock",
            "The agent's clock beside that of Prometheus.",
            "s",
            (
                Query(
                    f"mailcanary_time_seconds{{{SCOPE}}} - timestamp(mailcanary_time_seconds{{{SCOPE}}})",
                    "{{instance}}",
                ),
            ),
            width=8,
            minimum=None,
        ),
        Panel(
            "Series",
            "Series of a scrape, and those refused.",
            "short",
            (
                Query(f"mailcanary_exposition_series{{{SCOPE}}}", "{{instance}}"),
                Query(
                    f"sum by (metric) (increase(mailcanary_series_refused_total{{{SCOPE}}}[$__rate_interval]))",
                    "refused: {{metric}}",
                ),
            ),
            width=12,
        ),
        Panel(
            "Cost of a scrape",
            "How long rendering took.",
            "s",
            (Query(f"mailcanary_exposition_render_seconds{{{SCOPE}}}", "{{instance}}"),),
            width=12,
        ),
    ),
    annotations=("reloads", "versions", "incidents"),
)

BOARDS = (OVERVIEW, ROUTES, REPUTATION, CHANGE, AGENT)
