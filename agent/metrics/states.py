"""The gauges that are read from the store at each scrape: few rows, whatever the history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.engine import Connection

from agent.config.models import Config
from agent.metrics import specs
from agent.metrics.routes import STALE_ROUNDS, Routes, Verdict
from agent.metrics.specs import Spec
from agent.records_plan import domains_of
from agent.reports.agents import STATES, read_agents
from agent.store import outbox, records, rounds, rows, verdicts
from agent.store.tables import alerts, listings, zones
from agent.store.views import differ, views_of
from probes.outcome import Outcome, Severity

Rows = Iterable[tuple[tuple[str, ...], float]]


def gauge(spec: Spec, samples: Rows) -> GaugeMetricFamily:
    """A gauge family with its samples."""
    family = GaugeMetricFamily(spec.full_name, spec.help, labels=spec.labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def collect(conn: Connection, config: Config, now: float) -> Iterable[Metric]:
    """Every family whose truth is in the store, the routes aside."""
    yield from _parties(conn, config)
    yield from _blocklists(conn, config)
    yield from _records(conn, config)
    yield gauge(specs.CHANGES_OPEN, [((), float(rounds.count_open(conn)))])
    yield gauge(specs.ALERTS_FIRING, _firing(conn))
    waiting = outbox.backlog(conn)
    receivers = sorted({*config.alerts.receivers, *waiting})
    yield gauge(specs.NOTIFICATIONS_WAITING, (((name,), float(waiting.get(name, 0))) for name in receivers))
    yield gauge(specs.AGENTS, _agents(conn, now))
    yield gauge(specs.PAUSED, [((), float(bool(rows.setting(conn, rows.PAUSED))))])
    yield gauge(specs.ROUTES, [((), float(len(config.routes_resolved)))])
    yield gauge(specs.TIME, [((), now)])
    yield gauge(specs.STORE_BYTES, _size(conn))


def _parties(conn: Connection, config: Config) -> Iterable[Metric]:
    boxes, senders = rows.mailbox_rows(conn), rows.sender_rows(conn)
    yield gauge(
        specs.SEED_READABLE,
        (((name,), float(box["readable"])) for name, box in boxes.items() if name in config.seeds),
    )
    yield gauge(specs.SEED_INFO, (((name, seed.provider), 1.0) for name, seed in config.seeds.items()))
    yield gauge(
        specs.SENDER_USABLE,
        (((name,), float(row["usable"])) for name, row in senders.items() if name in config.senders),
    )


def _blocklists(conn: Connection, config: Config) -> Iterable[Metric]:
    watched = config.blocklists is not None
    columns = (listings.c.subject, listings.c.zone, listings.c.views)
    listed = sa.select(*columns).where(listings.c.delisted_at.is_(None))
    found = conn.execute(listed).all() if watched else []
    yield gauge(specs.LISTED, (((subject, zone), 1.0) for subject, zone, _ in found))
    yield gauge(specs.DISAGREEMENT, _disagreements(found))
    health = sa.select(zones.c.zone, zones.c.resolver, zones.c.healthy)
    known = conn.execute(health).all() if watched else []
    yield gauge(specs.ZONE_HEALTHY, (((zone, resolver), float(healthy)) for zone, resolver, healthy in known))


def _disagreements(found: Iterable[Any]) -> Rows:
    for subject, zone, said in found:
        views = views_of(said)
        if differ(views):
            for resolver, view in sorted(views.items()):
                yield (subject, zone, resolver), float(view.says is True)


def _records(conn: Connection, config: Config) -> Iterable[Metric]:
    wanted = frozenset(domains_of(config))
    counts: Counter[tuple[str, ...]] = Counter()
    for state in records.states(conn):
        if state.domain not in wanted:
            continue
        for item in (*state.report.get("findings", ()), *state.report.get("notes", ())):
            level = "unknown" if item["outcome"] == Outcome.UNKNOWN else item["severity"]
            counts[state.domain, item["kind"], level] += 1
    yield gauge(specs.RECORD_FINDINGS, ((labels, float(count)) for labels, count in sorted(counts.items())))


def _firing(conn: Connection) -> list[tuple[tuple[str, ...], float]]:
    query = sa.select(alerts.c.severity, sa.func.count()).where(alerts.c.status == "firing")
    counts = {row[0]: row[1] for row in conn.execute(query.group_by(alerts.c.severity))}
    return [((severity.value,), float(counts.get(severity.value, 0))) for severity in Severity]


def _agents(conn: Connection, now: float) -> list[tuple[tuple[str, ...], float]]:
    counts = Counter(one.state for one in read_agents(conn, now))
    return [((state,), float(counts[state])) for state in STATES]


def _size(conn: Connection) -> list[tuple[tuple[str, ...], float]]:
    return [((), rows.store_size(conn))]


def load(conn: Connection, config: Config, routes: Routes, now: float) -> None:
    """Fills the routes' gauges from what the store knows. Looks at recent canaries alone, and further back
    only for routes that had no success lately."""
    lives = (STALE_ROUNDS * route.every + route.deadline for route in config.routes_resolved)
    since = now - max(lives, default=0.0)
    for page in verdicts.verdicts_since(conn, since):
        for verdict in map(_verdict, page):
            routes.note(verdict)
        if routes.all_succeeded:  # the newest came first
            return
    if verdicts.older(conn, since):
        for key, at in verdicts.last_seen(conn, routes.without_success()).items():
            routes.success(key, at)


def _verdict(row: verdicts.VerdictRow) -> Verdict:
    return Verdict(*row)
