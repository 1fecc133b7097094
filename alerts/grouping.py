"""Route alerts: which routes each alert holds, new groups, growth, merging."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from alerts import rules as rule
from alerts.causes import Cell, Group, Matrix, Scope, ScopeKind, find_groups
from alerts.diagnosis import failing_method
from alerts.draft import Draft
from alerts.lifecycle import Alert, AlertState, LikelyCause, Member, fire, make_key, resolve
from alerts.settings import AlertKind

_SENDER_SIDE = (ScopeKind.SENDER, ScopeKind.SENDER_PROVIDER, ScopeKind.ROUTE, ScopeKind.RELAY)


def update_routes(draft: Draft, dirty: Iterable[str]) -> None:
    """Brings all route alerts up to the newest results; dirty are the routes that have new ones."""
    claims = draft.claims()
    changes: dict[str, dict[str, Member | None]] = {}
    for name in dirty:
        cell = draft.cells[name]
        key = claims.get(name)
        if key is not None:
            member = None if _recovered(draft, cell) else _member(draft, cell)
            if member != draft.alerts[key].members[name]:
                changes.setdefault(key, {})[name] = member
            if member is None:
                draft.set_cell(_cleared(cell))
        elif cell.recent[-1:] not in ("", rule.GOOD) and (home := _home(draft, cell)) is not None:
            changes.setdefault(home, {})[name] = _member(draft, cell)
            claims[name] = home
    for key, members in changes.items():
        draft.put(with_members(draft.alerts[key], members))
        _note_authentication(draft, key)
    _hand_over(draft, claims)
    if any(name not in claims for name in draft.hot):
        _regroup(draft, claims)


def _hand_over(draft: Draft, claims: dict[str, str]) -> None:
    """What is left of an almost recovered alert belongs to another whose scope it is in as well."""
    open_alerts = [a for a in draft.open_alerts() if not a.own]
    for alert in open_alerts:
        routes = _routes(alert)
        if not routes or len(routes) * 4 > alert.peak:
            continue
        for name in routes:
            scopes = draft.cells[name].scopes()
            for other in open_alerts:
                if other.key != alert.key and other.scope in scopes and len(other.members) > len(routes):
                    draft.put(with_members(draft.alerts[other.key], {name: alert.members[name]}))
                    draft.put(with_members(draft.alerts[alert.key], {name: None}))
                    claims[name] = other.key
                    break


def forget_gone(draft: Draft) -> None:
    """Takes routes and conditions that are no longer known out of the alerts."""
    for alert in list(draft.alerts.values()):
        gone: dict[str, Member | None] = {
            name: None for name in alert.members if name not in draft.cells and name not in draft.conditions
        }
        if gone:
            draft.put(with_members(alert, gone))


def with_members(alert: Alert, changes: Mapping[str, Member | None]) -> Alert:
    """The alert with members put in, or taken out where None."""
    members = dict(alert.members)
    last = alert.last
    for name, member in changes.items():
        if member is None:
            last = members.pop(name, last)
        else:
            members[name] = member
    return replace(
        alert,
        members=members,
        last=last or next(iter(members.values()), None),
        peak=max(alert.peak, len(members)),
        senders=max(alert.senders, len({m.sender for m in members.values() if m.sender})),
        seeds=max(alert.seeds, len({m.seed for m in members.values() if m.seed})),
        providers=max(alert.providers, len({m.provider for m in members.values() if m.provider})),
    )


def _recovered(draft: Draft, cell: Cell) -> bool:
    goods = rule.good_streak(cell.recent)
    if not goods:
        return False
    trouble = cell.recent[-cell.run :].rstrip(rule.GOOD) if cell.run else ""
    worst = rule.kind_of(trouble[-1]) if trouble else AlertKind.MISSING
    return goods >= rule.goods_needed(trouble, draft.rules.rule(worst).success_threshold)


def _cleared(cell: Cell) -> Cell:
    """A recovered route starts afresh: its past trouble must not count against it again."""
    return cell._replace(recent=cell.recent[len(cell.recent.rstrip(rule.GOOD)) :], onset=0.0, run=0)


def _member(draft: Draft, cell: Cell) -> Member:
    marks = cell.recent.rstrip(rule.GOOD)
    kind = rule.condition(cell.recent, draft.rules) or rule.kind_of(marks[-1])
    since = cell.onset or cell.at
    return Member(kind, since, cell.sender, cell.seed, cell.provider, "", cell.text, cell.reply)


def _failing(cell: Cell) -> bool:
    """Failing for more than one result: enough to join an alert whose scope it is in."""
    return rule.bad_in(cell.recent, 3) >= 2


def _home(draft: Draft, cell: Cell) -> str | None:
    """The oldest open alert whose scope this failing route is in."""
    if not _failing(cell):
        return None
    scopes = cell.scopes()
    for alert in draft.open_alerts():
        if not alert.own and alert.scope.kind is not ScopeKind.ROUTE and alert.scope in scopes:
            return alert.key
    return None


def _regroup(draft: Draft, claims: dict[str, str]) -> None:
    """Looks for the cause of failing routes that no alert holds, together with the routes of young alerts."""
    young = {a.key for a in draft.open_alerts() if _young(draft, a)}
    claimed = Matrix(
        draft.cells[name] for name, key in claims.items() if key not in young and name in draft.cells
    )
    suspects = [
        draft.cells[name]
        for name in sorted(draft.suspects | {n for n, k in claims.items() if k in young})
        if name in draft.cells and (name not in claims or claims[name] in young)
    ]
    for group in find_groups(suspects, draft.matrix(), claimed, draft.noise.rate):
        _settle(draft, group, claims, young)


def _young(draft: Draft, alert: Alert) -> bool:
    return not alert.own and draft.now - (alert.fired_at or draft.now) <= draft.rules.join_window


def _settle(draft: Draft, group: Group, claims: dict[str, str], young: set[str]) -> None:
    """Gives a group to the young alert it continues, or makes it an alert if its evidence suffices."""
    names = {c.route for c in group.cells}
    held = Counter(claims[n] for n in names if n in claims and claims[n] in young)
    ours = [k for k, n in held.items() if n >= len(_routes(draft.alerts[k])) / 2]
    fresh = [c for c in group.cells if c.route not in claims]
    hot = [c for c in fresh if c.route in draft.hot]
    if not hot:
        return
    key = min(ours, key=lambda k: (draft.alerts[k].started, k)) if ours else _watch_of(draft, group)
    if key is None:
        if group.weight < min(_needed(draft, c) for c in hot):
            return
        key = _opened(draft, group, hot)
    elif group.scope.kind is not ScopeKind.ROUTE:
        draft.put(replace(draft.alerts[key], scope=_wider(draft.alerts[key].scope, group)))
    for other in ours:
        if other != key:
            _merge(draft, other, key, claims)
    joining = [c for c in fresh if c.route in draft.hot or _failing(c)]
    draft.put(with_members(draft.alerts[key], {c.route: _member(draft, c) for c in joining}))
    claims.update({c.route: key for c in joining})
    _note_authentication(draft, key)


def _routes(alert: Alert) -> list[str]:
    return [n for n, m in alert.members.items() if m.sender and m.seed]


def _needed(draft: Draft, cell: Cell) -> float:
    kind = rule.condition(cell.recent, draft.rules) or AlertKind.MISSING
    return rule.weight_needed(draft.rules.rule(kind))


def _wider(old: Scope, group: Group) -> Scope:
    """An alert never narrows: people were told of the wider scope."""
    if old.kind is ScopeKind.SUBJECT or old.kind is ScopeKind.ROUTE:
        return group.scope
    return old if all(c.within(old) for c in group.cells) else group.scope


def _watch_of(draft: Draft, group: Group) -> str | None:
    """An alert about a listing or record of these senders, recent enough to be the beginning of this."""
    senders = {c.sender for c in group.cells}
    for alert in draft.open_alerts():
        if alert.scope.kind is not ScopeKind.SUBJECT or draft.now - alert.started > draft.rules.cause_window:
            continue
        known = {s for c in draft.conditions_of(alert) for s in c.senders}
        if senders <= known and (group.scope.kind in _SENDER_SIDE or len(senders) > 1):
            return alert.key
    return None


def _opened(draft: Draft, group: Group, hot: list[Cell]) -> str:
    """A new alert for the group, or the one that ended a short while ago, opened again."""
    since = draft.now - draft.rules.reopen_within
    for alert in draft.alerts.values():
        if not alert.open and alert.scope == group.scope and (alert.resolved_at or 0.0) >= since:
            draft.put(fire(alert, draft.now))
            return alert.key
    onsets = sorted(c.onset or c.at for c in group.cells if c in hot or _failing(c))
    started = onsets[len(onsets) // 5]  # some of many had a lone loss just before
    kind = _member(draft, hot[0]).kind
    alert = Alert(make_key(group.scope, kind, started), kind, group.scope, started, changed_at=draft.now)
    if alert.key in draft.alerts:
        alert = replace(alert, key=f"{alert.key}-{int(draft.now)}")
    draft.put(alert)
    return alert.key


def _merge(draft: Draft, other: str, key: str, claims: dict[str, str]) -> None:
    """The younger alert turns out to be part of the older: its members move, and it ends."""
    source = draft.alerts[other]
    draft.put(with_members(draft.alerts[key], source.members))
    draft.put(replace(draft.alerts[key], causes=draft.alerts[key].causes + source.causes))
    claims.update(dict.fromkeys(source.members, key))
    if source.state is AlertState.PENDING:
        draft.drop(other)
    else:
        draft.put(resolve(replace(source, members={}), draft.now, f"part of {key}"))


def _note_authentication(draft: Draft, key: str) -> None:
    """An authentication verdict that changed before or with the failures is a likely cause."""
    alert = draft.alerts[key]
    cells = [draft.cells[n] for n in _routes(alert)]
    if not any(c.authentication for c in cells):
        return
    bad = [c for c in cells if c.authentication and c.auth_since >= alert.started - draft.rules.cause_window]
    method = failing_method([c.authentication for c in cells] if len(bad) * 2 >= len(cells) else [])
    code = method if method != "dns" else "authentication"
    if not method or any(c.code == code for c in alert.causes):
        return
    first = min(bad, key=lambda c: (c.auth_since, c.route))
    text = f"{first.authentication} at {first.provider} ({len(bad)} of {len(cells)} failing routes)"
    draft.put(replace(alert, causes=(*alert.causes, LikelyCause(code, text, first.auth_since))))
