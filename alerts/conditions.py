"""Alerts about listings, drifted records and faults of our own; and listings attached to what they caused."""

from __future__ import annotations

from dataclasses import replace

from alerts.causes import Scope, ScopeKind
from alerts.draft import Draft
from alerts.grouping import with_members
from alerts.lifecycle import Alert, LikelyCause, Member, fire, make_key
from alerts.settings import AlertKind, RuleSettings
from alerts.state import Condition

_OWN_SETTLES = 120.0
_SENDER_SIDE = (ScopeKind.SENDER, ScopeKind.SENDER_PROVIDER, ScopeKind.ROUTE, ScopeKind.RELAY)


def update_conditions(draft: Draft) -> None:
    """Brings all alerts up to the conditions' newest state."""
    _watch_runs(draft)
    claims = draft.claims()
    for condition in sorted(draft.conditions.values(), key=lambda c: (c.since, c.id)):
        rule = draft.rules.rule(condition.kind)
        key = claims.get(condition.id)
        if key is not None:
            over = _over(draft, condition, rule)
            draft.put(with_members(draft.alerts[key], {condition.id: None if over else _member(condition)}))
            if over:
                del draft.conditions[condition.id]
        elif not condition.bad:
            del draft.conditions[condition.id]
        elif rule.enabled and condition.count >= min(rule.failure_threshold, 1 if condition.kind.own else 99):
            _place(draft, condition)


def _watch_runs(draft: Draft) -> None:
    """The absence of canary results is a fault of our own, found by nothing but the clock."""
    name = f"own {AlertKind.NO_RUNS} canaries"
    known = draft.conditions.get(name)
    since = _silent_since(draft)
    if since is not None:
        text = f"no canary came to a verdict for {(draft.now - since) / 60:.0f} min"
        fresh = Condition(name, AlertKind.NO_RUNS, "canaries", since, draft.now, text=text)
        draft.conditions[name] = fresh if known is None else replace(known, bad=True, goods=0)
    elif known is not None and known.bad:
        draft.conditions[name] = replace(known, bad=False, goods=99, ok_since=draft.now)


def _silent_since(draft: Draft) -> float | None:
    """Since when results should have come and none did, where that is too long."""
    rule, expected = draft.rules.rule(AlertKind.NO_RUNS), draft.expected
    if not rule.enabled or expected is None:
        return None
    since = max(draft.last_run, expected.since)
    return since if since and draft.now - since >= max(rule.after, expected.at_least) else None


def _over(draft: Draft, condition: Condition, rule: RuleSettings) -> bool:
    if condition.bad:
        return False
    settled = condition.kind.own and draft.now - condition.ok_since >= _OWN_SETTLES
    return settled or condition.goods >= rule.success_threshold


def _member(condition: Condition) -> Member:
    sender = condition.subject if condition.kind is AlertKind.SENDER_UNREACHABLE else ""
    seed = condition.subject if condition.kind is AlertKind.SEED_UNREADABLE else ""
    if not sender and len(condition.senders) == 1:
        sender = condition.senders[0]
    zone = condition.item if condition.kind is AlertKind.LISTED else ""
    text = condition.text or condition.subject
    return Member(condition.kind, condition.since, sender, seed, condition.provider, zone, text)


def _place(draft: Draft, condition: Condition) -> None:
    """Finds or makes the alert that this condition belongs to."""
    if condition.kind.own:
        alert = _own_home(draft, condition)
    else:
        alert = _caused(draft, condition) or _same_subject(draft, condition)
    if alert is None:
        alert = _opened(draft, condition)
    alert = with_members(alert, {condition.id: _member(condition)})
    if condition.kind.own:
        alert = replace(alert, scope=_own_scope(alert))
    else:
        alert = replace(alert, causes=(*alert.causes, likely_cause(condition))[-10:])
    draft.put(alert)


def likely_cause(condition: Condition) -> LikelyCause:
    """A listing or drifted record as likely cause, with its time."""
    code = "listed" if condition.kind is AlertKind.LISTED else "dns"
    return LikelyCause(code, condition.text, condition.since, condition.url)


def _caused(draft: Draft, condition: Condition) -> Alert | None:
    """The open alert whose failures this listing or record explains."""
    names = set(condition.senders)
    for alert in draft.open_alerts():
        members = [m for m in alert.members.values() if m.sender and m.seed]
        if alert.own or not members or condition.since < alert.started - draft.rules.cause_window:
            continue
        senders = {m.sender for m in members}
        if alert.scope.kind in _SENDER_SIDE and senders & names:
            return alert
        if len(senders) > 1 and senders <= names:
            return alert
    return None


def _same_subject(draft: Draft, condition: Condition) -> Alert | None:
    """The open alert about the same subject, or about the same senders' and begun a short while ago."""
    at_zone: list[Alert] = []
    for alert in draft.open_alerts():
        held = draft.conditions_of(alert)
        if any(c.subject == condition.subject and c.kind is condition.kind for c in held):
            return alert
        near = condition.since - alert.started <= draft.rules.join_window
        shared = any(set(c.senders) & set(condition.senders) for c in held)
        if near and shared and alert.scope.kind is ScopeKind.SUBJECT:
            return alert
        if near and alert.scope.kind is ScopeKind.SUBJECT and any(_same_zone(c, condition) for c in held):
            at_zone.append(alert)
    # The third subject at one zone within the hour: a range was listed, and that is one cause.
    return at_zone[0] if len(at_zone) >= 2 or (at_zone and len(at_zone[0].members) >= 3) else None


def _same_zone(one: Condition, other: Condition) -> bool:
    return one.kind is other.kind is AlertKind.LISTED and one.item == other.item


def _own_home(draft: Draft, condition: Condition) -> Alert | None:
    """The open alert about faults of the same kind that began a short while ago."""
    for alert in draft.open_alerts():
        if alert.kind is condition.kind and condition.since - alert.started <= draft.rules.join_window:
            return alert
    return None


def _own_scope(alert: Alert) -> Scope:
    """One seed, the seeds of one provider, or all of that kind."""
    members = list(alert.members.values())
    names = sorted({m.seed or m.sender for m in members} - {""})
    if len(names) <= 1:
        return alert.scope
    providers = {m.provider for m in members}
    where = f"{providers.pop()}" if len(providers) == 1 and "" not in providers else "several"
    return Scope(ScopeKind.OWN, f"{alert.kind}/{where}")


def _opened(draft: Draft, condition: Condition) -> Alert:
    """A new alert, or the one about the same that ended a short while ago, opened again."""
    if condition.kind.own:
        scope = Scope(ScopeKind.OWN, f"{condition.kind}/{condition.subject}")
    else:
        scope = Scope(ScopeKind.SUBJECT, condition.subject)
    since = draft.now - draft.rules.reopen_within
    for alert in draft.alerts.values():
        same = alert.scope == scope and alert.kind is condition.kind
        if not alert.open and same and (alert.resolved_at or 0.0) >= since:
            return fire(alert, draft.now)
    key = make_key(scope, condition.kind, condition.since)
    if key in draft.alerts:
        key = f"{key}-{int(draft.now)}"
    return Alert(key, condition.kind, scope, condition.since, changed_at=draft.now)
