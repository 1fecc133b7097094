"""The gauges of a scrape, rebuilt from the store each time: a series goes when its object goes."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from prometheus_client.core import Metric
from sqlalchemy.engine import Connection

from agent.config.models import Config
from agent.metrics import gauge
from agent.store import canaries, rows
from agent.store.tables import alerts, listings, zones
from probes.canary.state import Canary
from probes.outcome import Outcome, Severity

STALE_ROUNDS = 3
"""A route's series vanish after so many intervals without a verdict."""

UNKNOWN_REASONS = frozenset(
    "seed-unreadable unconfirmed seed-fault sender-unreachable contaminated ambiguous scan-incomplete "
    "clock junk-folder-gone".split()
)


def collect(conn: Connection, config: Config, now: float) -> Iterable[Metric]:
    """Every family whose truth is in the store."""
    yield from _routes(conn, config, now)
    yield from _parties(conn, config)
    yield from _blocklists(conn)
    yield gauge("alerts_firing", "Alerts that fire.", ("severity",), _firing(conn))


def _routes(conn: Connection, config: Config, now: float) -> Iterable[Metric]:
    every = {(route.sender, route.seed): route.every for route in config.routes_resolved}
    latest = [c for c in canaries.latest_settled(conn) if _fresh(c, every.get((c.sender, c.seed)), now)]
    success = canaries.last_success(conn)
    route = ("sender", "seed")
    yield gauge(
        "canary_outcome",
        "The newest verdict of the route: 1 pass, 0 fail; absent while unknown.",
        route,
        (
            ((c.sender, c.seed), float(c.outcome is Outcome.PASS))
            for c in latest
            if c.outcome is not Outcome.UNKNOWN
        ),
    )
    yield gauge(
        "canary_unknown",
        "1 where the newest canary of the route could not be judged.",
        (*route, "reason"),
        (((c.sender, c.seed, _reason(c)), 1.0) for c in latest if c.outcome is Outcome.UNKNOWN),
    )
    yield gauge(
        "canary_last_success_timestamp_seconds",
        "When a canary of the route was last seen where it should be.",
        route,
        ((key, at) for key, at in success.items() if key in every),
    )


def _fresh(canary: Canary, every: float | None, now: float) -> bool:
    return every is not None and now - canary.created.wall < STALE_ROUNDS * every + canary.deadline


def _reason(canary: Canary) -> str:
    return canary.reason if canary.reason in UNKNOWN_REASONS else "other"


def _parties(conn: Connection, config: Config) -> Iterable[Metric]:
    boxes, senders = rows.mailbox_rows(conn), rows.sender_rows(conn)
    yield gauge(
        "seed_readable",
        "1 where the seed's mailbox can be read.",
        ("seed",),
        (((name,), float(box["readable"])) for name, box in boxes.items() if name in config.seeds),
    )
    yield gauge(
        "sender_usable",
        "1 where the sender's way out answers.",
        ("sender",),
        (((name,), float(row["usable"])) for name, row in senders.items() if name in config.senders),
    )


def _blocklists(conn: Connection) -> Iterable[Metric]:
    listed = sa.select(listings.c.subject, listings.c.zone).where(listings.c.delisted_at.is_(None))
    yield gauge(
        "blocklist_listed",
        "1 for each subject that a zone lists.",
        ("subject", "zone"),
        (((subject, zone), 1.0) for subject, zone in conn.execute(listed)),
    )
    health = sa.select(zones.c.zone, zones.c.resolver, zones.c.healthy)
    yield gauge(
        "blocklist_zone_healthy",
        "1 where the zone answered its own test entries as it should (RFC 5782).",
        ("zone", "resolver"),
        (((zone, resolver), float(healthy)) for zone, resolver, healthy in conn.execute(health)),
    )


def _firing(conn: Connection) -> list[tuple[tuple[str, ...], float]]:
    query = sa.select(alerts.c.severity, sa.func.count()).where(alerts.c.status == "firing")
    counts: dict[str, int] = dict(conn.execute(query.group_by(alerts.c.severity)).tuples().all())
    return [((severity.value,), float(counts.get(severity.value, 0))) for severity in Severity]
