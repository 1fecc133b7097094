"""The one entry from observations to transitions: evaluate(). Pure: same state and facts, same answer.

The agent feeds it each batch of committed results and stores the new state, the notifications and
the end of what it observed in one commit; a crash in between evaluates again and arrives at the same keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from alerts import absorb
from alerts import rules as rule
from alerts.conditions import update_conditions
from alerts.diagnosis import diagnose, failing_method, main_kind
from alerts.draft import Draft
from alerts.grouping import forget_gone, update_routes
from alerts.lifecycle import (
    Alert,
    AlertState,
    Transition,
    TransitionKind,
    fire,
    hold,
    raised,
    reminder_due,
    resolve,
    worst,
)
from alerts.muting import Muting, broad, inhibited, muted
from alerts.observation import CanaryResult, Expected, ListingSeen, Observation, OwnState, RecordSeen
from alerts.settings import RuleSet
from alerts.state import Condition, EngineState
from probes.outcome import Severity

_UPDATE_PAUSE = 600.0
_FORGET = 300.0
_ALWAYS = Expected()


def evaluate(
    state: EngineState,
    observations: Sequence[Observation],
    now: float,
    rules: RuleSet,
    muting: Muting | None = None,
    expected: Expected | None = _ALWAYS,
) -> tuple[EngineState, list[Transition]]:
    """Takes the observations in (oldest first) and says what changed by now (epoch seconds).

    Call it with no observations too, at least every minute: time alone ends, reminds and finds absence.
    expected: None where no canary results are to come: nothing is scheduled, or sending is paused.
    """
    draft = Draft(state, rules, now, expected)
    dirty = _absorb(draft, observations)
    forget_gone(draft)
    update_routes(draft, dirty)
    update_conditions(draft)
    transitions: list[Transition] = []
    for key in sorted(draft.alerts):
        transitions += _advance(draft, draft.alerts[key])
    for key in sorted(draft.alerts):
        transitions += _tell(draft, draft.alerts[key], muting or Muting())
    _forget(draft)
    return draft.done(), transitions


def acknowledge(state: EngineState, key: str, by: str, now: float) -> tuple[EngineState, list[Transition]]:
    """Somebody takes the alert on: no reminders, no escalation. An unknown or ended key changes nothing."""
    alert = state.alerts.get(key)
    if alert is None or not alert.open or alert.acked_at is not None:
        return state, []
    alert = replace(alert, acked_by=by, acked_at=now)
    transition = Transition(TransitionKind.ACKNOWLEDGED, alert, now, bool(alert.told), f"by {by}")
    return replace(state, alerts={**state.alerts, key: alert}), [transition]


def _absorb(draft: Draft, observations: Sequence[Observation]) -> list[str]:
    dirty: dict[str, None] = {}
    judged = lone = 0
    claims = draft.claims()
    for seen in observations:
        if isinstance(seen, CanaryResult):
            name = f"{seen.sender}/{seen.seed}"
            old = draft.cells.get(name)
            cell = absorb.canary(old, seen, draft.rules)
            draft.last_run = max(draft.last_run, seen.at)
            if cell is old:
                continue
            draft.set_cell(cell)
            dirty[name] = None
            if name not in claims:
                judged += 1
                recent = cell.recent[-3:]
                lone += recent[0::2] == rule.GOOD * 2 and recent[1] != rule.GOOD
        else:
            _absorb_condition(draft, seen)
    if judged:
        draft.noise = draft.noise.seen(judged, lone)
    return list(dirty)


def _absorb_condition(draft: Draft, seen: ListingSeen | RecordSeen | OwnState) -> None:
    new: Condition | None
    if isinstance(seen, ListingSeen):
        name = f"listed {seen.subject} {seen.zone}"
        new = absorb.listing(draft.conditions.get(name), seen)
    elif isinstance(seen, RecordSeen):
        name = f"record {seen.domain} {seen.record}"
        new = absorb.record(draft.conditions.get(name), seen)
    else:
        name = f"own {seen.kind} {seen.subject}"
        new = absorb.own(draft.conditions.get(name), seen)
    if new is not None:
        draft.conditions[name] = new


def _advance(draft: Draft, alert: Alert) -> list[Transition]:
    """Pending to firing, firing to resolved; severity and diagnosis brought up to the members."""
    now = draft.now
    before = draft.before.alerts.get(alert.key)
    if not alert.open:
        if before is not None and before.open:
            return [_ended(draft, alert)]
        return []
    if not alert.members:
        return _emptied(draft, alert)
    alert = _judged(draft, replace(alert, good_since=None))
    draft.put(alert)
    out: list[Transition] = []
    if alert.state is AlertState.PENDING:
        if now - alert.started >= _after(draft, alert) and _still(draft, alert):
            alert = fire(alert, now)
            draft.put(alert)
        elif before is None:
            out.append(Transition(TransitionKind.PENDING, alert, now))
    return out


def _after(draft: Draft, alert: Alert) -> float:
    return min(draft.rules.rule(m.kind).after for m in alert.members.values())


def _still(draft: Draft, alert: Alert) -> bool:
    """Whether a member is bad now: a fault that is over and only not yet settled is not worth waking for."""
    return any(name not in draft.conditions or draft.conditions[name].bad for name in alert.members)


def _emptied(draft: Draft, alert: Alert) -> list[Transition]:
    """No failing member is left: over, unless it has flapped, then only after a while without any."""
    if alert.state is AlertState.PENDING:
        draft.drop(alert.key)
        return []
    since = draft.now if alert.good_since is None else alert.good_since
    if draft.now - since < hold(alert, draft.rules):
        draft.put(replace(alert, good_since=since))
        return []
    draft.put(resolve(alert, draft.now, "all good again"))
    return [_ended(draft, draft.alerts[alert.key])]


def _ended(draft: Draft, alert: Alert) -> Transition:
    draft.put(replace(alert, muted=""))
    return Transition(TransitionKind.RESOLVED, alert, draft.now, bool(alert.told), alert.ended_by)


def _judged(draft: Draft, alert: Alert) -> Alert:
    """Kind, severity (it only rises) and diagnosis from the present members."""
    routes = [m for m in alert.members.values() if m.sender and m.seed]
    members = routes or list(alert.members.values())
    if alert.code and len(alert.members) * 2 < alert.peak:
        return alert  # The last few to recover no longer show what it was.
    kind = main_kind(members)
    alert = replace(alert, kind=kind)
    base = worst(_listed_severity(draft, alert), draft.rules.rule(kind).severity)
    cells = [draft.cells[n] for n in alert.members if n in draft.cells]
    code = diagnose(alert.scope, members, alert.causes, failing_method([c.authentication for c in cells]))
    severity = worst(alert.severity, base) if alert.fired_at or alert.told else base
    alert = replace(alert, severity=severity, code=code)
    return replace(alert, severity=worst(severity, raised(base, broad(alert)) if routes else base))


def _listed_severity(draft: Draft, alert: Alert) -> Severity:
    found = [c.severity for c in draft.conditions_of(alert) if not c.kind.own]
    return max(found, key=lambda s: s.rank, default=Severity.INFO)


def _tell(draft: Draft, alert: Alert, muting: Muting) -> list[Transition]:
    """What people are to hear of a firing alert now."""
    if alert.state is not AlertState.FIRING:
        return []
    now, before = draft.now, draft.before.alerts.get(alert.key)
    reason = muted(alert, muting, now) or ("" if alert.told else inhibited(alert, draft.alerts.values()))
    was_muted, alert = alert.muted, replace(alert, muted=reason)
    draft.put(alert)
    newly = before is None or before.state is not AlertState.FIRING
    if newly or (not alert.told and not reason):
        if reason:
            return [Transition(TransitionKind.FIRED, alert, now, False, reason)]
        note = f"still failing after {was_muted}" if was_muted else ("again" if alert.relapses else "")
        return [_told(draft, alert, TransitionKind.FIRED, note)]
    if reason:
        return [] if was_muted else [Transition(TransitionKind.MUTED, alert, now, False, reason)]
    return _news(draft, alert)


def _news(draft: Draft, alert: Alert) -> list[Transition]:
    """An update where the alert told of has become worse, wider or clearer; else a reminder."""
    rose = alert.severity.rank > Severity(alert.told).rank
    if rose or (_picture(alert) != alert.told_as and draft.now - alert.told_at >= _UPDATE_PAUSE):
        note = f"severity rose to {alert.severity}" if rose else "more is known"
        return [_told(draft, alert, TransitionKind.UPDATED, note)]
    if reminder_due(alert, draft.rules, draft.now):
        alert = replace(alert, reminders=alert.reminders + 1)
        return [_told(draft, alert, TransitionKind.REMINDER, f"reminder {alert.reminders}")]
    return []


def _picture(alert: Alert) -> str:
    """What an update would tell anew: scope, diagnosis and likely causes."""
    return f"{alert.scope} {alert.code} {len(alert.causes)}"


def _told(draft: Draft, alert: Alert, kind: TransitionKind, note: str) -> Transition:
    alert = replace(alert, told=str(alert.severity), told_at=draft.now, told_as=_picture(alert))
    draft.put(alert)
    return Transition(kind, alert, draft.now, True, note)


def _forget(draft: Draft) -> None:
    """Ended alerts are kept only as long as they may reopen."""
    keep = max(_FORGET, draft.rules.reopen_within)
    for key, alert in list(draft.alerts.items()):
        if alert.resolved_at is not None and draft.now - alert.resolved_at > keep:
            draft.drop(key)
