"""A message to one receiver about one change of one alert: JSON-ready, complete in itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from alerts import codec
from alerts.lifecycle import Alert, AlertState, Transition, TransitionKind
from alerts.muting import matches_any
from alerts.settings import ReceiverSettings, RouteSettings
from alerts.texts import Pages, details, resolved_sections, sections, title
from probes.outcome import Severity


class Action(StrEnum):
    """What the receiver is to do with it."""

    TRIGGER = "trigger"
    UPDATE = "update"
    REMINDER = "reminder"
    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"
    DIGEST = "digest"
    TEST = "test"


class Gate(StrEnum):
    """When the outbox may send it: always; only after this receiver was told of the alert (or only before);
    only while the alert is still firing and nobody acknowledged it."""

    ALWAYS = "always"
    IF_TOLD = "if-told"
    IF_NOT_TOLD = "if-not-told"
    IF_OPEN = "if-open"


@dataclass(frozen=True, slots=True)
class Section:
    """A named paragraph of a notification."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Notification:
    """One message. id: the same facts give the same id; at, started, ended, not_before: epoch seconds.

    title, sections: for people; details: for machines; links: label to URL; agent: who says so.
    """

    id: str
    receiver: str
    dedup_key: str
    action: Action
    severity: Severity
    title: str
    sections: tuple[Section, ...]
    at: float
    started: float
    kind: str = ""
    scope: str = ""
    own: bool = False
    ended: float | None = None
    not_before: float = 0.0
    gate: Gate = Gate.ALWAYS
    details: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    agent: str = "mailcanary"

    @property
    def body(self) -> str:
        """The sections as plain text."""
        return "\n".join(f"{s.name}: {s.text}" if s.name else s.text for s in self.sections)


def to_json(notification: Notification) -> dict[str, Any]:
    """The notification as a JSON object, for the outbox and webhooks."""
    return {"schema": "mailcanary.notification/1", **codec.to_json(notification)}


def from_json(data: Mapping[str, Any]) -> Notification:
    """The notification that to_json wrote. Raises DataError."""
    return codec.from_json(Notification, data)


_ACTIONS = {
    TransitionKind.FIRED: Action.TRIGGER,
    TransitionKind.UPDATED: Action.UPDATE,
    TransitionKind.REMINDER: Action.REMINDER,
    TransitionKind.ACKNOWLEDGED: Action.ACKNOWLEDGE,
    TransitionKind.RESOLVED: Action.RESOLVE,
}


def notifications(
    transition: Transition,
    receivers: Mapping[str, ReceiverSettings],
    routes: Sequence[RouteSettings] = (),
    pages: Pages | None = None,
) -> list[Notification]:
    """The messages a transition gives: one for each receiver to be told, and later ones to escalate."""
    if not transition.notify or transition.kind not in _ACTIONS:
        return []
    action, alert = _ACTIONS[transition.kind], transition.alert
    pages = pages or Pages()
    if action in (Action.RESOLVE, Action.ACKNOWLEDGE):
        names = [n for n, r in receivers.items() if r.send_resolved or action is Action.ACKNOWLEDGE]
        return [_message(transition, action, n, pages, Gate.IF_TOLD) for n in names]
    found: dict[str, Notification] = {}
    for name in _first(alert, receivers, routes):
        quiet = action is Action.UPDATE and not receivers[name].send_updates
        found[name] = _message(transition, action, name, pages, Gate.IF_NOT_TOLD if quiet else Gate.ALWAYS)
    if action is Action.TRIGGER:
        for name, after in _second(alert, receivers, routes).items():
            if name not in found:
                found[name] = _message(transition, action, name, pages, Gate.IF_OPEN, after)
    return list(found.values())


def _first(
    alert: Alert, receivers: Mapping[str, ReceiverSettings], routes: Sequence[RouteSettings]
) -> list[str]:
    if not routes:
        return list(receivers)
    named = [n for r in routes if matches_any(r.match, alert) for n in r.receivers]
    return [n for n in dict.fromkeys(named) if n in receivers]


def _second(
    alert: Alert, receivers: Mapping[str, ReceiverSettings], routes: Sequence[RouteSettings]
) -> dict[str, float]:
    after: dict[str, float] = {}
    for route in routes:
        if matches_any(route.match, alert):
            for name in route.escalate_to:
                after[name] = min(route.escalate_after, after.get(name, route.escalate_after))
    return {name: seconds for name, seconds in after.items() if name in receivers}


def listeners(
    alert: Alert, receivers: Mapping[str, ReceiverSettings], routes: Sequence[RouteSettings], now: float
) -> list[str]:
    """Who hears of a firing alert by now: those it is routed to, and those it was escalated to."""
    found = _first(alert, receivers, routes)
    for name, after in _second(alert, receivers, routes).items():
        at = (alert.fired_at or now) + after
        if now >= at and (alert.acked_at is None or alert.acked_at > at) and name not in found:
            found.append(name)
    return found


def _message(
    transition: Transition, action: Action, receiver: str, pages: Pages, gate: Gate, after: float = 0.0
) -> Notification:
    alert = transition.alert
    over = alert.state is AlertState.RESOLVED
    parts = resolved_sections(alert, pages) if over else sections(alert, pages, transition.at)
    if transition.note and not over:
        parts = [("Why now", transition.note), *parts]
    return Notification(
        f"{alert.key} {action} {int(transition.at * 1000)} {receiver}",
        receiver,
        alert.key,
        action,
        alert.severity,
        title(alert, action),
        tuple(Section(n, t) for n, t in parts),
        transition.at,
        alert.started,
        str(alert.kind),
        str(alert.scope),
        alert.own,
        alert.resolved_at,
        transition.at + after,
        gate,
        details(alert),
        pages.links(alert),
        pages.agent,
    )


def sample(receiver: str, now: float, agent: str = "mailcanary") -> Notification:
    """A marked test, for `mailcanary alerts test RECEIVER`: it says that nothing is wrong."""
    text = "This is a test of the receiver, sent by hand. Nothing is wrong and nothing needs to be done."
    return Notification(
        f"mailcanary/test/{receiver}/{int(now * 1000)}",
        receiver,
        f"mailcanary/test/{receiver}",
        Action.TEST,
        Severity.INFO,
        f"[TEST] Mailcanary reaches the receiver {receiver}",
        (Section("What", text),),
        now,
        now,
        kind="test",
        agent=agent,
    )


def digest(found: Sequence[Notification], now: float) -> Notification:
    """Many waiting notifications to one receiver as one message, worst first."""
    ordered = sorted(found, key=lambda n: (-n.severity.rank, n.at, n.id))
    ended = sum(n.action is Action.RESOLVE for n in found)
    lines = [f"{n.title} (since {Pages.time(n.started)})" for n in ordered[:60]]
    if len(ordered) > 60:
        lines.append(f"and {len(ordered) - 60} more: mailcanary alerts list")
    return Notification(
        f"digest {ordered[0].receiver} {int(now * 1000)}",
        ordered[0].receiver,
        f"mailcanary/digest/{ordered[0].receiver}",
        Action.DIGEST,
        ordered[0].severity,
        f"[DIGEST] {len(found)} notifications: {len(found) - ended} failing, {ended} resolved",
        (Section("", "\n".join(lines)),),
        now,
        min(n.started for n in found),
        kind="digest",
        agent=ordered[0].agent,
    )
