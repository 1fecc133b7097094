"""A route's timeline: its canaries, their verdicts and evidence, listings and record changes meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.store import canaries, records
from agent.store.tables import listings, transitions
from probes.canary.state import Canary
from probes.clock import rfc3339


def canary_json(canary: Canary) -> dict[str, Any]:
    """All that is known of a canary, JSON-ready; its token is left out."""
    reply = canary.reply
    return {
        "schema": "mailcanary.canary/1",
        "id": canary.id,
        "sender": canary.sender,
        "seed": canary.seed,
        "provider": canary.provider,
        "round": canary.round or None,
        "created_at": rfc3339(canary.created.wall),
        "accepted_at": rfc3339(canary.accepted.wall) if canary.accepted else None,
        "seen_at": rfc3339(canary.seen_at) if canary.seen_at else None,
        "settled_at": rfc3339(canary.settled_at) if canary.settled_at else None,
        "state": canary.state.value,
        "outcome": canary.outcome.value if canary.outcome else None,
        "placement": canary.placement.value if canary.placement else None,
        "category": canary.category or None,
        "reason": canary.reason,
        "late": canary.late,
        "duplicates": canary.duplicates,
        "attempts": canary.attempts,
        "latency_seconds": canary.latency,
        "folder": canary.folder or None,
        "authentication": dict(canary.verdicts),
        "stages_seconds": dict(canary.stages),
        "reply": {
            "code": reply.code,
            "enhanced": reply.enhanced,
            "text": reply.text,
            "stage": reply.stage,
            "meaning": reply.meaning,
        }
        if reply
        else None,
        "message_id": canary.message_id,
        "evidence": [
            {"kind": e.kind, "text": e.text, "at": rfc3339(e.at) if e.at else None} for e in canary.evidence
        ],
    }


def read_why(conn: Connection, sender: str, seed: str, limit: int = 20) -> list[dict[str, Any]]:
    """The route's events, newest first: each has `at`, `kind` and its facts."""
    found = canaries.of_route(conn, sender, seed, limit)
    oldest = found[-1].created.wall if found else 0.0
    events: list[dict[str, Any]] = [
        {"at": canary.created.wall, "kind": "canary", "canary": canary_json(canary)} for canary in found
    ]
    events += _listing_events(conn, oldest)
    events += _record_events(conn, sender, oldest)
    events += _alert_events(conn, sender, seed, oldest)
    return sorted(events, key=lambda event: float(event["at"]), reverse=True)


def _listing_events(conn: Connection, since: float) -> Iterable[dict[str, Any]]:
    changed = sa.or_(listings.c.since >= since, listings.c.delisted_at >= since)
    for row in conn.execute(sa.select(listings).where(changed)).mappings():
        facts = {"subject": row["subject"], "zone": row["zone"], "meaning": row["meaning"]}
        if row["since"] >= since:
            yield {"at": row["since"], "kind": "listed", **facts}
        if row["delisted_at"] and row["delisted_at"] >= since:
            yield {"at": row["delisted_at"], "kind": "delisted", **facts}


def _record_events(conn: Connection, sender: str, since: float) -> Iterable[dict[str, Any]]:
    """What happened to records that the sender's mail depends on."""
    for row in records.events_since(conn, since):
        if sender not in row["senders"]:
            continue
        before, after = (" | ".join(row[name]) or "nothing" for name in ("before", "after"))
        yield {
            "at": row["at"],
            "kind": f"record {row['kind']}",
            "title": f"{row['rdtype']} {row['name']}: was {before}, is {after}",
            "domain": row["domain"],
            "name": row["name"],
            "type": row["rdtype"],
            "before": row["before"],
            "after": row["after"],
            "ttl_seconds": row["ttl"],
            "servers": row["servers"],
            "others": row["others"],
            "expected": row["expected"],
        }


def _alert_events(conn: Connection, sender: str, seed: str, since: float) -> Iterable[dict[str, Any]]:
    route = f"{sender}/{seed}"
    for row in conn.execute(sa.select(transitions).where(transitions.c.at >= since)).mappings():
        members = row["body"].get("members") or ()
        if route in members or not members:
            yield {"at": row["at"], "kind": f"alert {row['kind']}", "title": row["title"], "key": row["key"]}
