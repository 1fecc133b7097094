"""Is it us or everyone? The newest verdict of every route, who is to blame, and what cannot be seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.config.alert_settings import maintenance
from agent.config.models import Config
from agent.reports.alerts import mute_text
from agent.store import canaries, members, reputation, rows
from agent.store.members import Member
from agent.store.reputation import SweepState
from agent.store.tables import alerts, listings
from agent.store.views import views_of, words
from alerts.muting import Muting, maintenance_of
from probes.blocklists.judge import Reason
from probes.canary.state import Canary
from probes.clock import rfc3339
from probes.outcome import Outcome, combine


@dataclass(frozen=True, slots=True)
class RouteStatus:
    """A route's newest verdict; outcome None: no canary has come back yet."""

    sender: str
    seed: str
    provider: str
    outcome: Outcome | None
    placement: str
    reason: str
    at: float | None
    latency: float | None
    maintenance: str = ""
    """The window it is in now: measured all the same, and nobody is told."""

    def to_json(self) -> dict[str, Any]:
        return {
            "sender": self.sender,
            "seed": self.seed,
            "provider": self.provider,
            "outcome": self.outcome.value if self.outcome else None,
            "placement": self.placement or None,
            "reason": self.reason,
            "at": rfc3339(self.at) if self.at else None,
            "latency_seconds": self.latency,
            "maintenance": self.maintenance or None,
        }


@dataclass(frozen=True, slots=True)
class Status:
    """Everything at a glance. faults: what of ours does not work, name to text."""

    at: float
    outcome: Outcome
    summary: str
    routes: tuple[RouteStatus, ...]
    alerts: tuple[Mapping[str, Any], ...]
    listings: tuple[Mapping[str, Any], ...]
    faults: Mapping[str, str]
    paused: bool
    agents: tuple[Member, ...]
    sweep: SweepState | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": "mailcanary.status/1",
            "at": rfc3339(self.at),
            "outcome": self.outcome.value,
            "summary": self.summary,
            "routes": [route.to_json() for route in self.routes],
            "alerts": list(self.alerts),
            "listings": list(self.listings),
            "faults": dict(self.faults),
            "paused": self.paused,
            "agents": [agent.name for agent in self.agents],
            "sweep": _sweep_json(self.sweep) if self.sweep else None,
        }


AGENT_SILENT = 90.0
"""Seconds without a heartbeat after which an agent counts as gone."""


def agents_now(conn: Connection, now: float) -> list[Member]:
    """The agents that work on the store, as their heartbeats show, newest first."""
    found = [one for one in members.every(conn) if one.heartbeat_at >= now - AGENT_SILENT]
    return sorted((one for one in found if one.state != members.LOST), key=lambda one: -one.heartbeat_at)


def read_status(conn: Connection, config: Config, now: float) -> Status:
    """The state of the whole installation as the store has it."""
    pairs = [(route.sender, route.seed) for route in config.routes_resolved]
    latest = {(c.sender, c.seed): c for c in canaries.latest_settled(conn, pairs)}
    muting = Muting(maintenance=maintenance(config))
    routes = tuple(
        _in_window(
            _route(config, route.sender, route.seed, latest.get((route.sender, route.seed))), muting, now
        )
        for route in config.routes_resolved
    )
    outcome = combine(route.outcome or Outcome.UNKNOWN for route in routes)
    return Status(
        at=now,
        outcome=outcome,
        summary=summarise(routes),
        routes=routes,
        alerts=tuple(_firing(conn)),
        listings=tuple(_listed(conn)) if config.blocklists else (),
        faults=dict(_faults(conn, config)),
        paused=bool(rows.setting(conn, rows.PAUSED)),
        agents=tuple(agents_now(conn, now)),
        sweep=reputation.sweep(conn) if config.blocklists else None,
    )


def _sweep_json(sweep: SweepState) -> dict[str, Any]:
    return {
        "started_at": rfc3339(sweep.started_at),
        "ended_at": rfc3339(sweep.ended_at) if sweep.ended_at else None,
        "resolver": sweep.resolver,
        "pairs": sweep.total,
        "done": sweep.done,
        "listed": sweep.listed,
        "unknown": sweep.unknown,
    }


def sweep_line(sweep: SweepState) -> str:
    """How far the blocklist sweep is, in one line."""
    when = f"ended {rfc3339(sweep.ended_at)}" if sweep.ended_at else f"since {rfc3339(sweep.started_at)}"
    share = f"{sweep.done / sweep.total:.0%} of {sweep.total}" if sweep.total else "nothing"
    found = f"{sweep.listed} listed, {sweep.unknown} could not be seen"
    return f"blocklist sweep {when}: {share} pairs looked up, {found}"


def _in_window(route: RouteStatus, muting: Muting, now: float) -> RouteStatus:
    name = maintenance_of(route.sender, route.seed, route.provider, muting, now) if muting.maintenance else ""
    return replace(route, maintenance=name) if name else route


def _route(config: Config, sender: str, seed: str, canary: Canary | None) -> RouteStatus:
    provider = config.seeds[seed].provider
    if canary is None:
        return RouteStatus(sender, seed, provider, None, "", "no verdict yet", None, None)
    placement = canary.placement.value if canary.placement else ""
    if canary.category:
        placement = f"{placement} ({canary.category})"
    return RouteStatus(
        sender,
        seed,
        provider,
        canary.outcome,
        placement,
        canary.reason,
        canary.settled_at or canary.seen_at or canary.created.wall,
        canary.latency,
    )


def summarise(routes: Iterable[RouteStatus]) -> str:
    """One sentence: is it us, one sender, one provider, or everyone?"""
    known = list(routes)
    judged = [route for route in known if route.outcome in (Outcome.PASS, Outcome.FAIL)]
    failing = [route for route in judged if route.outcome is Outcome.FAIL]
    unknown = len(known) - len(judged)
    tail = f" {unknown} of {len(known)} routes could not be judged." if unknown else ""
    if not judged:
        return f"No route can be judged yet.{tail}" if known else "There are no routes."
    if not failing:
        return f"All {len(judged)} judged routes pass.{tail}"
    return f"{_pattern(judged, failing)}{tail}"


def _pattern(judged: list[RouteStatus], failing: list[RouteStatus]) -> str:
    if len(failing) == len(judged):
        return f"All {len(judged)} judged routes fail: it is us, or what all of them share."
    for what, field in (("sender", "sender"), ("seed", "seed"), ("provider", "provider")):
        names = {getattr(route, field) for route in failing}
        if len(names) != 1:
            continue
        name = names.pop()
        mine = [route for route in judged if getattr(route, field) == name]
        if len(mine) == len(failing) and len(mine) > 1:
            return f"Every route of {what} {name} fails ({len(mine)}), all others pass: it is {what} {name}."
    names_text = ", ".join(sorted(f"{route.sender}/{route.seed}" for route in failing)[:5])
    more = f" and {len(failing) - 5} more" if len(failing) > 5 else ""
    return f"{len(failing)} of {len(judged)} judged routes fail: {names_text}{more}."


def _firing(conn: Connection) -> Iterable[Mapping[str, Any]]:
    query = sa.select(alerts).where(alerts.c.status == "firing").order_by(alerts.c.since)
    for row in conn.execute(query).mappings():
        yield {
            "key": row["key"],
            "severity": row["severity"],
            "title": row["title"],
            "since": rfc3339(row["since"]),
            "muted": mute_text(row["body"].get("muted", "")),
            "acknowledged_by": row["body"].get("acked_by", ""),
        }


def _listed(conn: Connection) -> Iterable[Mapping[str, Any]]:
    query = sa.select(listings).where(listings.c.delisted_at.is_(None)).order_by(listings.c.since)
    for row in conn.execute(query).mappings():
        yield {
            "subject": row["subject"],
            "zone": row["zone"],
            "since": rfc3339(row["since"]),
            "severity": row["severity"],
            "codes": row["codes"],
            "meaning": row["meaning"],
            "txt": row["txt"],
            "delist_url": row["delist_url"],
            "disagreement": words(views_of(row["views"])),
        }


def _faults(conn: Connection, config: Config) -> Iterable[tuple[str, str]]:
    for seed, row in rows.mailbox_rows(conn).items():
        if seed in config.seeds and not row["readable"]:
            yield f"seed {seed}", f"{row['reason']} {row['detail']}".strip()
    for sender, row in rows.sender_rows(conn).items():
        if sender in config.senders and not row["usable"]:
            yield f"sender {sender}", row["detail"]
    if config.blocklists is not None:
        yield from _sweep_faults(conn, 2 * config.blocklists.every)


def _sweep_faults(conn: Connection, lately: float) -> Iterable[tuple[str, str]]:
    """Zones whose answers do not count through any resolver that was asked lately (seconds), a resolver
    through which all fail, subjects that could not be worked out."""
    every = reputation.zone_rows(conn)
    newest = {row["zone"]: row["swept_at"] for row in every}  # they come in this order
    found = [row for row in every if row["swept_at"] >= newest[row["zone"]] - lately]
    seen = {row["zone"] for row in found if row["healthy"]}
    for row in found:
        if row["healthy"] or row["zone"] in seen:
            continue
        if row["reason"].startswith(f"{Reason.RESOLVER}: "):
            yield f"resolver {row['resolver']}", row["reason"].partition(": ")[2]
        else:
            yield f"blocklist {row['zone']}", f"{row['reason']} (asked through {row['resolver']})"
    sweep = reputation.sweep(conn)
    for subject, fault in sweep.faults.items() if sweep else ():
        yield f"blocklist subject {subject}", fault
