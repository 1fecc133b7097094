"""Watched records: what is known of each domain, and what happened to its records, as history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store import rows
from agent.store.database import upsert
from agent.store.tables import record_events, record_states
from probes.records.drift import Event, Key, Known

ANNOUNCED = "records.announced"
"""The setting that holds changes announced over the API."""


@dataclass(frozen=True, slots=True)
class RecordState:
    """A domain after its last look. records: by name and type; faults: "CODE NAME" to the fault
    (probes.records.faults), of those that are there; selectors: of DKIM, to when they were first seen;
    report: as `mailcanary records --json` tells it.
    """

    domain: str
    at: float
    outcome: str
    records: Mapping[Key, Known] = field(default_factory=dict)
    faults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    selectors: Mapping[str, float] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


def get_state(conn: Connection, domain: str) -> RecordState | None:
    """What is known of a domain."""
    row = conn.execute(sa.select(record_states).where(record_states.c.domain == domain)).mappings().first()
    return _state(dict(row)) if row is not None else None


def states(conn: Connection) -> list[RecordState]:
    """What is known of every domain."""
    query = sa.select(record_states).order_by(record_states.c.domain)
    return [_state(dict(row)) for row in conn.execute(query).mappings()]


def _state(row: Mapping[str, Any]) -> RecordState:
    found = {(item["name"], item["rdtype"]): _known(item) for item in row["records"]}
    facts = {name: row[name] for name in ("domain", "at", "outcome", "faults", "selectors", "report")}
    return RecordState(records=found, **facts)


def _known(item: Mapping[str, Any]) -> Known:
    pending = item.get("pending")
    return Known(
        tuple(item["records"]),
        tuple(item["baseline"]),
        None if pending is None else tuple(pending),
        int(item.get("split", 0)),
    )


def put_state(conn: Connection, state: RecordState) -> None:
    """Writes what is known of a domain."""
    found = [
        {"name": name, "rdtype": rdtype, **asdict(known)} for (name, rdtype), known in state.records.items()
    ]
    values = {
        "domain": state.domain,
        "at": state.at,
        "outcome": state.outcome,
        "records": found,
        "faults": dict(state.faults),
        "selectors": dict(state.selectors),
        "report": dict(state.report),
    }
    upsert(conn, record_states, ["domain"], values)


def drop_states(conn: Connection, wanted: Iterable[str]) -> list[RecordState]:
    """Forgets domains that nobody wants watched any more; returns what was known of them."""
    keep = set(wanted)
    gone = [state for state in states(conn) if state.domain not in keep]
    for state in gone:
        conn.execute(sa.delete(record_states).where(record_states.c.domain == state.domain))
    return gone


def add_event(conn: Connection, domain: str, event: Event, at: float, senders: Sequence[str] = ()) -> None:
    """Remembers what happened to a record. senders: whose mail it concerns."""
    facts = asdict(event)
    for name in ("before", "after", "servers", "others"):
        facts[name] = list(facts[name])
    conn.execute(sa.insert(record_events).values(at=at, domain=domain, senders=list(senders), **facts))


def events_since(
    conn: Connection, since: float, domains: Sequence[str] | None = None, limit: int = 200
) -> list[dict[str, Any]]:
    """What happened since then, newest first; of all domains where None are named."""
    query = sa.select(record_events).where(record_events.c.at >= since)
    if domains is not None:
        query = query.where(record_events.c.domain.in_(domains))
    query = query.order_by(record_events.c.at.desc(), record_events.c.id.desc()).limit(limit)
    return [dict(row) for row in conn.execute(query).mappings()]


def announced(conn: Connection, now: float) -> list[dict[str, Any]]:
    """Changes announced over the API that still hold: name, type, value or None, until (epoch seconds)."""
    return [item for item in rows.setting(conn, ANNOUNCED) or [] if item["until"] > now]


def announce(conn: Connection, item: Mapping[str, Any], now: float) -> None:
    """Adds an announced change; those that are over go."""
    rows.set_setting(conn, ANNOUNCED, [*announced(conn, now), dict(item)])
