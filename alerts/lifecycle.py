"""An alert's life: pending, firing, resolved; members come and go, severity only rises. Pure, JSON-ready.

The key is fixed when the alert is made, from its first scope and its start, and never changes however the
alert grows: it is the deduplication key of every notification about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from alerts.causes import Scope, ScopeKind
from alerts.settings import AlertKind, RuleSet
from probes.outcome import Severity


class AlertState(StrEnum):
    """Where an alert is in its life."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class TransitionKind(StrEnum):
    """What changed."""

    PENDING = "pending"
    FIRED = "fired"
    UPDATED = "updated"
    REMINDER = "reminder"
    ACKNOWLEDGED = "acknowledged"
    MUTED = "muted"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Member:
    """One failing thing an alert holds: a route ("app/gmail-1") or a condition ("listed 192.0.2.1 zen...").

    since: epoch seconds of its first failure; text: its newest failure; reply: the SMTP reply, if one.
    """

    kind: AlertKind
    since: float
    sender: str = ""
    seed: str = ""
    provider: str = ""
    zone: str = ""
    text: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class LikelyCause:
    """A change shortly before or during the failures. code: a closed word; at: when it was seen."""

    code: str
    text: str
    at: float
    url: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """One incident: what fails, since when, why probably, and what people were told.

    started: first failure; fired_at: when it first fired; changed_at: of the present state; peak: most
    members at once; senders, seeds, providers: how many of each the members span; code: the diagnosis, a
    closed word; told: severity last told ("" never told), told_as: what was told, told_at: when; muted: why
    nobody is told now ("" not muted); good_since: without failing members since; ended_by: note of the end.
    """

    key: str
    kind: AlertKind
    scope: Scope
    started: float
    state: AlertState = AlertState.PENDING
    severity: Severity = Severity.WARNING
    members: Mapping[str, Member] = field(default_factory=dict)
    causes: tuple[LikelyCause, ...] = ()
    code: str = ""
    senders: int = 0
    seeds: int = 0
    providers: int = 0
    peak: int = 0
    last: Member | None = None
    changed_at: float = 0.0
    fired_at: float | None = None
    resolved_at: float | None = None
    good_since: float | None = None
    relapses: int = 0
    reminders: int = 0
    told: str = ""
    told_at: float = 0.0
    told_as: str = ""
    acked_by: str = ""
    acked_at: float | None = None
    muted: str = ""
    ended_by: str = ""

    @property
    def own(self) -> bool:
        """Whether it is the agent's own fault, told to its own receivers."""
        return self.kind.own

    @property
    def open(self) -> bool:
        """Pending or firing."""
        return self.state is not AlertState.RESOLVED


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of an alert, with the alert as it is after it. notify: whether people are to be told."""

    kind: TransitionKind
    alert: Alert
    at: float
    notify: bool = False
    note: str = ""


def make_key(scope: Scope, kind: AlertKind, started: float) -> str:
    """The deterministic key: the same facts give the same key, after a crash too."""
    family = "own" if kind.own else ("mail" if scope.kind is not ScopeKind.SUBJECT else "watch")
    return f"mailcanary/{family}/{str(scope)[:160]}/{int(started)}"


def raised(severity: Severity, steps: int) -> Severity:
    """The severity some steps up, at most critical."""
    order = list(Severity)
    return order[min(severity.rank + steps, len(order) - 1)]


def worst(first: Severity, second: Severity) -> Severity:
    """The worse of two."""
    return max(first, second, key=lambda s: s.rank)


def fire(alert: Alert, now: float) -> Alert:
    """The alert, firing from now on (again, where it was resolved)."""
    again = alert.state is AlertState.RESOLVED
    return replace(
        alert,
        state=AlertState.FIRING,
        changed_at=now,
        fired_at=now if alert.fired_at is None else alert.fired_at,
        resolved_at=None,
        good_since=None,
        ended_by="",
        relapses=alert.relapses + (1 if again else 0),
        acked_by="" if again else alert.acked_by,
        acked_at=None if again else alert.acked_at,
        reminders=0 if again else alert.reminders,
        told="" if again else alert.told,
    )


def resolve(alert: Alert, now: float, note: str) -> Alert:
    """The alert, over."""
    return replace(alert, state=AlertState.RESOLVED, changed_at=now, resolved_at=now, ended_by=note)


def hold(alert: Alert, rules: RuleSet) -> float:
    """Seconds without failing members before it may resolve: none, until it has relapsed too often."""
    return rules.flap_hold if alert.relapses >= rules.flap_limit else 0.0


def reminder_due(alert: Alert, rules: RuleSet, now: float) -> bool:
    """Whether it is time to remind people of a firing alert that nobody acknowledged or muted."""
    if alert.state is not AlertState.FIRING or alert.acked_at is not None or alert.muted or not alert.told:
        return False
    if rules.reminder_interval <= 0 or alert.reminders >= rules.max_reminders:
        return False
    return now - alert.told_at >= rules.reminder_interval
