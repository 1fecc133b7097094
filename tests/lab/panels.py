"""What each panel of the dashboards has to show, worked out from the store's rows.

A counter that is asked for at the moment of a scrape, over a time that begins before its first one, is told
by increase() without any extrapolation: the numbers are equal, not alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.config.models import Config
from agent.metrics.process import METHODS, STAGES
from agent.metrics.specs import DELIVERY_BUCKETS, STAGE_BUCKETS
from agent.store import canaries, records, rows
from agent.store.tables import alerts, listings, outbox, record_events, zones
from probes.canary.state import Canary
from probes.records.drift import kind_of

Shown = dict[str, float]
"""What a panel shows: legend to value."""
Row = Mapping[str, Any]
Key = tuple[str, str, int]
"""Dashboard, panel, and number of its query."""


@dataclass(frozen=True)
class Truth:
    """The store at a moment when nothing is under way. zones: as each sweep left them, one entry a sweep and
    zone, the newest last."""

    config: Config
    canaries: Sequence[Canary]
    listed: Sequence[Row]
    zones: Sequence[Row]
    alerts: Sequence[Row]
    outbox: Sequence[Row]
    findings: Mapping[str, int]
    changes: Mapping[str, int]
    readable: Shown
    usable: Shown
    size: float
    grows: float
    """How much the store may have grown between two looks: PostgreSQL grows by itself."""

    def newest(self) -> dict[str, Canary]:
        """By route, the canary that speaks for it."""
        judged = (c for c in self.canaries if c.outcome is not None)
        return {c.route: c for c in sorted(judged, key=lambda c: c.created.wall)}

    def healthy(self) -> Shown:
        """By zone, as the newest sweep found it."""
        return {row["zone"]: float(row["healthy"]) for row in self.zones}


def read(conn: Connection, config: Config, earlier: Iterable[Row] = ()) -> Truth:
    """The truth of a store; earlier: the zones' rows of the sweeps before the last."""

    def every(table: sa.Table, *where: Any) -> list[Row]:
        return [dict(row) for row in conn.execute(sa.select(table).where(*where)).mappings()]

    def level(item: Row) -> str:
        return "unknown" if item["outcome"] == "unknown" else str(item["severity"])

    boxes = rows.mailbox_rows(conn)
    reports = [(state.domain, state.report) for state in records.states(conn)]
    return Truth(
        config,
        [c for r in config.routes_resolved for c in canaries.of_route(conn, r.sender, r.seed, 1000)],
        every(listings, listings.c.delisted_at.is_(None)),
        [*earlier, *every(zones)],
        every(alerts, alerts.c.status == "firing"),
        every(outbox),
        Counter(
            f"{domain} {item['kind']} {level(item)}"
            for domain, report in reports
            for item in (*report.get("findings", ()), *report.get("notes", ()))
        ),
        Counter(f"{row['domain']} {kind_of(row['name'], row['rdtype'])}" for row in every(record_events)),
        {name: float(boxes[name]["readable"]) for name in config.seeds if name in boxes},
        {name: float(row["usable"]) for name, row in rows.sender_rows(conn).items()},
        rows.store_size(conn),
        0.0 if conn.dialect.name == "sqlite" else float(1 << 20),
    )


def quantile(q: float, values: Sequence[float], bounds: Sequence[float]) -> float:
    """As histogram_quantile() reads it from the buckets these values are in."""
    counts = [0] * (len(bounds) + 1)
    for value in values:
        counts[bisect_left(bounds, value)] += 1
    upto = list(accumulate(counts))
    rank = q * len(values)
    at = next(n for n, count in enumerate(upto) if count >= rank)
    if at == len(bounds):
        return bounds[-1]
    low, below = (bounds[at - 1], upto[at - 1]) if at else (0.0, 0)
    return low + (bounds[at] - low) * (rank - below) / counts[at]


def _share(truth: Truth, name: str) -> Shown:
    passed = [c.outcome == "pass" for c in truth.canaries if c.outcome in ("pass", "fail")]
    return {name: sum(passed) / len(passed)}


def _placements(truth: Truth) -> Shown:
    return _floats(Counter(str(c.placement) for c in truth.canaries))


def _floats(counts: Mapping[str, float]) -> Shown:
    return {name: float(count) for name, count in counts.items()}


def _verdicts(truth: Truth, form: str, *, passed: bool = True) -> Shown:
    return _floats(
        Counter(
            form.format(sender=c.sender, method=method, result=c.verdicts[method])
            for c in truth.canaries
            for method in METHODS
            if not c.late
            and method in c.verdicts
            and (passed or (method != "arc" and c.verdicts[method] != "pass"))
        )
    )


def _authentic(truth: Truth) -> Shown:
    seen = [c.verdicts for c in truth.canaries if not c.late]
    told = {method: [v[method] for v in seen if method in v] for method in METHODS if method != "arc"}
    return {method: results.count("pass") / len(results) for method, results in told.items() if results}


def _delivery(truth: Truth, q: float, name: str) -> Shown:
    arrived = [c.latency for c in truth.canaries if c.latency is not None and not c.late]
    return {name: quantile(q, arrived, DELIVERY_BUCKETS)}


def _stages(truth: Truth) -> Shown:
    seen = {stage: [c.stages[stage] for c in truth.canaries if stage in c.stages] for stage in STAGES}
    return {stage: quantile(0.9, values, STAGE_BUCKETS) for stage, values in seen.items() if values}


def _replies(truth: Truth, form: str, *, refused: bool = False) -> Shown:
    said = [(c, c.reply) for c in truth.canaries if c.reply is not None]
    return _floats(
        Counter(
            form.format(sender=c.sender, provider=c.provider, code=reply.code, meaning=reply.meaning)
            for c, reply in said
            if not (refused and 200 <= reply.code < 300)
        )
    )


def _outcomes(truth: Truth) -> Shown:
    return {
        f"{c.sender} to {c.seed}": float(c.outcome == "pass")
        for c in truth.newest().values()
        if c.outcome != "unknown"
    }


def _unknown(truth: Truth) -> Shown:
    return _floats(Counter(c.reason for c in truth.newest().values() if c.outcome == "unknown"))


def _lookups(truth: Truth) -> Shown:
    words = {"listed": "listed", "not_listed": "not-listed", "unknown": "unknown"}
    counts: Counter[str] = Counter()
    for row in truth.zones:
        counts.update({word: row["counts"][name] for name, word in words.items()})
    return _floats(counts)


def _sent(truth: Truth) -> Counter[str]:
    return Counter(row["receiver"] for row in truth.outbox if row["sent_at"] is not None)


def _waiting(truth: Truth) -> Shown:
    counts = Counter(row["receiver"] for row in truth.outbox if row["due_at"] is not None)
    return {f"{name} waiting": float(counts[name]) for name in truth.config.alerts.receivers}


def _failed(truth: Truth) -> Shown:
    """Attempts in vain, each for the reason of the last."""
    counts: Counter[str] = Counter()
    for row in (row for row in truth.outbox if row["attempts"]):
        counts[f"{row['receiver']} failed: {row['error'].split()[0]}"] += row["attempts"]
    return _floats(counts)


def _delays(truth: Truth) -> Shown:
    took: dict[str, list[float]] = {}
    for row in truth.outbox:
        if row["sent_at"] is not None:
            took.setdefault(row["receiver"], []).append(row["sent_at"] - row["created_at"])
    return {name: quantile(0.9, values, DELIVERY_BUCKETS) for name, values in took.items()}


def _mean(values: Mapping[str, float]) -> float:
    return sum(values.values()) / len(values)


def _nothing(_truth: Truth) -> Shown:
    """There was no yesterday."""
    return {}


Work = Callable[[Truth], Shown]
OVERVIEW, ROUTE, REPUTATION, CHANGE, AGENT = (
    f"mailcanary-{name}" for name in ("overview", "route", "reputation", "change", "agent")
)

COUNTED: Mapping[Key, Work] = {
    (OVERVIEW, "Reaching the inbox", 0): lambda t: _share(t, "passed"),
    (OVERVIEW, "Canaries", 0): lambda t: {"canaries": float(len(t.canaries))},
    (OVERVIEW, "By provider", 0): lambda t: _share(t, "dovecot"),
    (OVERVIEW, "By sender", 0): lambda t: _share(t, "direct"),
    (OVERVIEW, "Authentication by the providers' word", 0): _authentic,
    (OVERVIEW, "Placement", 0): _placements,
    (OVERVIEW, "Passed by provider", 0): lambda t: _share(t, "dovecot"),
    (OVERVIEW, "Delivery", 0): lambda t: _delivery(t, 0.5, "dovecot"),
    (ROUTE, "Placement", 0): _placements,
    (ROUTE, "Late and duplicates", 0): lambda t: {"late": float(sum(c.late for c in t.canaries))},
    (ROUTE, "Late and duplicates", 1): lambda t: {"duplicates": float(sum(c.duplicates for c in t.canaries))},
    (ROUTE, "Authentication", 0): lambda t: _verdicts(t, "{method} {result}"),
    (ROUTE, "Delivery", 0): lambda t: _delivery(t, 0.5, "50 %"),
    (ROUTE, "Delivery", 1): lambda t: _delivery(t, 0.9, "90 %"),
    (ROUTE, "Stages of the submission", 0): _stages,
    (ROUTE, "What the servers said", 0): lambda t: _replies(t, "{sender} {provider} {code} {meaning}"),
    (REPUTATION, "Lookups that could not tell", 0): lambda t: {
        "unknown": _lookups(t)["unknown"] / sum(_lookups(t).values())
    },
    (REPUTATION, "Lookups", 0): lambda t: {"lookups": sum(_lookups(t).values())},
    (REPUTATION, "Results of lookups", 0): _lookups,
    (REPUTATION, "Changes of records", 0): lambda t: _floats(t.changes),
    (CHANGE, "Passed, last hour", 0): lambda t: _share(t, "now"),
    (CHANGE, "Passed, the day before", 0): _nothing,
    (CHANGE, "Delivery, last hour", 0): lambda t: _delivery(t, 0.5, "now"),
    (CHANGE, "Delivery, the day before", 0): _nothing,
    (CHANGE, "Placement around the change", 0): _placements,
    (CHANGE, "Passed, by sender", 0): lambda t: _share(t, "direct"),
    (CHANGE, "Passed, by provider", 0): lambda t: _share(t, "dovecot"),
    (CHANGE, "Authentication that did not pass", 0): lambda t: _verdicts(
        t, "{sender} {method} {result}", passed=False
    ),
    (CHANGE, "Refusals", 0): lambda t: _replies(t, "{provider} {code} {meaning}", refused=True),
    (AGENT, "Notifications", 0): lambda t: {f"{name} delivered": float(n) for name, n in _sent(t).items()},
    (AGENT, "Notifications", 1): _failed,
    (AGENT, "Delay of notifications", 0): _delays,
    (AGENT, "Series", 1): _nothing,
}
"""By dashboard, panel and number of its query: what is counted. What stands at 0 may be shown or not."""

STATES: Mapping[Key, Work] = {
    (OVERVIEW, "Routes that fail now", 0): lambda t: {
        "routes": float(list(_outcomes(t).values()).count(0.0)),
    },
    (OVERVIEW, "Routes unknown now", 0): lambda t: {"routes": sum(_unknown(t).values())},
    (OVERVIEW, "Listed", 0): lambda t: {"subjects": float(len({row["subject"] for row in t.listed}))},
    (OVERVIEW, "Alerts of the agent", 0): lambda t: {"alerts": float(len(t.alerts))},
    (OVERVIEW, "Newest verdicts", 0): lambda t: {"dovecot": _mean(_outcomes(t))},
    (ROUTE, "Verdicts", 0): _outcomes,
    (ROUTE, "Unknown", 0): _unknown,
    (REPUTATION, "Listed now", 0): lambda t: {"listings": float(len(t.listed))},
    (REPUTATION, "Zones in good health", 0): lambda t: {"healthy": _mean(t.healthy())},
    (REPUTATION, "Listings", 0): lambda t: {f"{row['subject']} in {row['zone']}": 1.0 for row in t.listed},
    (REPUTATION, "Health of the zones", 0): lambda t: t.healthy(),
    (REPUTATION, "Findings about records", 0): lambda t: _floats(t.findings),
    (AGENT, "Running", 0): lambda _: {"up": 1.0},
    (AGENT, "Config", 0): lambda _: {"config": 1.0},
    (AGENT, "Sending", 0): lambda _: {"paused": 0.0},
    (AGENT, "Seeds readable", 0): lambda t: {"readable": _mean(t.readable)},
    (AGENT, "Senders usable", 0): lambda t: {"usable": _mean(t.usable)},
    (AGENT, "Routes", 0): lambda t: {"routes": float(len(t.config.routes_resolved))},
    (AGENT, "Mailboxes", 0): lambda t: t.readable,
    (AGENT, "Senders", 0): lambda t: t.usable,
    (AGENT, "Notifications", 2): _waiting,
}
"""What is as it is: shown in full, a 0 too. A legend of "" is the agent's instance."""


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096.0


def _open_files() -> float:
    return float(len(list(Path("/proc/self/fd").iterdir())))


def since(truth: Truth, now: float) -> Shown:
    """Seconds since each route's last success."""
    good = sorted((c for c in truth.canaries if c.outcome == "pass"), key=lambda c: c.seen_at or 0.0)
    return {f"{c.sender} to {c.seed}": now - (c.seen_at or 0.0) for c in good}


MEASURED: Mapping[Key, Callable[[Truth, float], tuple[Shown, float]]] = {
    (ROUTE, "Since the last success", 0): lambda t, now: (since(t, now), 1.0),
    (AGENT, "Event loop", 0): lambda _t, _now: ({"": 0.0}, 2.0),
    (AGENT, "CPU", 0): lambda _t, _now: ({"": 1.0}, 1.0),
    (AGENT, "Memory", 0): lambda _t, _now: ({"": _resident()}, 0.3 * _resident()),
    (AGENT, "Open files", 0): lambda _t, _now: ({"open": _open_files()}, 20.0),
    (AGENT, "Store", 0): lambda t, _now: ({"": t.size}, t.grows),
    (AGENT, "Clock", 0): lambda _t, _now: ({"": 0.0}, 2.0),
    (AGENT, "Cost of a scrape", 0): lambda _t, _now: ({"": 0.25}, 0.25),
}
"""What moves by itself: the value that the process or the clock tells (now: the moment that is asked for,
epoch seconds), and how far off it may be."""

ELSEWHERE = frozenset({(AGENT, "Series", 0)})
"""Compared with what Prometheus itself counts."""


def complaints(key: Key, shown: Shown, truth: Truth, now: float) -> list[str]:
    """What a panel shows that is not what it has to show."""
    if key in ELSEWHERE:
        return []
    if key in MEASURED:
        wanted, off = MEASURED[key](truth, now)
    else:
        wanted, off = (COUNTED if key in COUNTED else STATES)[key](truth), 1e-6
    if key in COUNTED:  # a word that never came may have a series that stands at 0
        shown = {name: value for name, value in shown.items() if value or name in wanted}
        wanted = {name: value for name, value in wanted.items() if value or name in shown}
    elif not wanted:
        return [f"{key}: nothing to compare with"]
    alike = shown.keys() == wanted.keys() and all(abs(shown[name] - wanted[name]) <= off for name in wanted)
    return [] if alike else [f"{key}: shows {shown}, it is {wanted}"]
