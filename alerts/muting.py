"""Who is not told, and why: silences, maintenance windows, inhibition. Measuring goes on. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from alerts.causes import ScopeKind
from alerts.cron import last_start, parse_cron
from alerts.lifecycle import Alert, Member
from alerts.settings import AlertKind, MaintenanceSettings, Match
from probes.outcome import Severity


@dataclass(frozen=True, slots=True)
class Silence:
    """An ad hoc mute between two times (epoch seconds), with who asked for it and why."""

    id: str
    match: Match
    starts: float
    ends: float
    author: str = ""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Muting:
    """All that mutes."""

    silences: Sequence[Silence] = ()
    maintenance: Sequence[MaintenanceSettings] = field(default_factory=tuple)


def _fits(patterns: Sequence[str], value: str) -> bool:
    if not patterns:
        return True
    return any(value.startswith(p[:-1]) if p.endswith("*") else value == p for p in patterns)


def _member_fits(match: Match, member: Member) -> bool:
    route = f"{member.sender}/{member.seed}" if member.sender and member.seed else ""
    return (
        _fits(match.senders, member.sender)
        and _fits(match.seeds, member.seed)
        and _fits(match.providers, member.provider)
        and _fits(match.zones, member.zone)
        and _fits(match.routes, route)
        and _fits(match.kinds, member.kind)
    )


def members_of(alert: Alert) -> Iterable[Member]:
    """Its present members, or the last one where none is left."""
    return alert.members.values() or ((alert.last,) if alert.last else ())


def _alert_fits(match: Match, alert: Alert) -> bool:
    if not _fits(match.keys, alert.key) or (match.own is not None and match.own is not alert.own):
        return False
    return alert.severity.rank >= match.min_severity.rank


def matches_all(match: Match, alert: Alert) -> bool:
    """Whether the match covers the whole alert: each of its members (for silences and maintenance)."""
    return _alert_fits(match, alert) and all(_member_fits(match, m) for m in members_of(alert))


def matches_any(match: Match, alert: Alert) -> bool:
    """Whether the match touches the alert: one member is enough (for routing to receivers)."""
    whole = _alert_fits(match, alert)
    return whole and (any(_member_fits(match, m) for m in members_of(alert)) or match == Match(own=match.own))


def in_maintenance(window: MaintenanceSettings, now: float) -> bool:
    """Whether the window is open at that time."""
    if window.cron:
        return last_start(parse_cron(window.cron), window.time_zone, now, window.duration) is not None
    starts = window.starts if window.starts is not None else now + 1
    ends = window.ends if window.ends is not None else starts + window.duration
    return starts <= now < ends


def muted(alert: Alert, muting: Muting, now: float) -> str:
    """Why nobody is to be told of this alert now, or "": "silence ID" or "maintenance NAME"."""
    for silence in muting.silences:
        if silence.starts <= now < silence.ends and matches_all(silence.match, alert):
            return f"silence {silence.id}"
    for window in muting.maintenance:
        if matches_all(window.match, alert) and in_maintenance(window, now):
            return f"maintenance {window.name}"
    return ""


def maintenance_of(sender: str, seed: str, provider: str, muting: Muting, now: float) -> str:
    """The name of the maintenance window a route is in now, or ""; for pages that show it."""
    member = Member(AlertKind.MISSING, now, sender, seed, provider)
    for window in muting.maintenance:
        bare = Match(
            routes=window.match.routes,
            senders=window.match.senders,
            seeds=window.match.seeds,
            providers=window.match.providers,
            zones=window.match.zones,
        )
        if _member_fits(bare, member) and in_maintenance(window, now):
            return window.name
    return ""


_BY_CLOCK = frozenset({AlertKind.MISSING, AlertKind.DEFERRED, AlertKind.SLOW})
_BY_RESOLVER = frozenset({AlertKind.LISTED, AlertKind.RECORD_DRIFT})


def _inhibits(fault: Alert, alert: Alert) -> bool:
    """Whether this fault of our own makes that alert unworthy of belief."""
    if alert.own:
        return False
    members = tuple(members_of(alert))
    match fault.kind:
        case AlertKind.RESOLVER:
            return all(m.kind in _BY_RESOLVER for m in members)
        case AlertKind.CLOCK:
            return all(m.kind in _BY_CLOCK for m in members)
        case AlertKind.STORE:
            return True
        case AlertKind.SEED_UNREADABLE:
            names = {f.seed for f in members_of(fault)}
            return all(m.seed in names for m in members)
        case AlertKind.SENDER_UNREACHABLE:
            names = {f.sender for f in members_of(fault)}
            return all(m.sender in names for m in members)
        case _:
            return False


def inhibited(alert: Alert, alerts: Iterable[Alert]) -> str:
    """The key of the fault of our own that inhibits this alert, or "". Pending faults inhibit too."""
    for fault in alerts:
        if fault.own and fault.open and _inhibits(fault, alert):
            return f"inhibited by {fault.kind} {fault.scope.name}".rstrip()
    return ""


def broad(alert: Alert) -> int:
    """How many steps the scope raises an alert's severity: everything two, more than one route one."""
    if alert.scope.kind is ScopeKind.ALL:
        return 2
    wide = (ScopeKind.SENDER, ScopeKind.PROVIDER, ScopeKind.RELAY)
    return 1 if alert.scope.kind in wide and alert.severity is not Severity.INFO else 0
