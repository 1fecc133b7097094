"""Takes observations into the engine's memory: routes (cells) and conditions. Pure, one at a time."""

from __future__ import annotations

from dataclasses import replace

from alerts import rules as rule
from alerts.causes import Cell
from alerts.observation import CanaryResult, ListingSeen, OwnState, RecordSeen, Reply
from alerts.rules import GOOD, KEEP
from alerts.settings import AlertKind, RuleSet
from alerts.state import Condition
from probes.outcome import Severity

_TEXT = 300
_CLEAN = 8
_BEGINS = 3


def canary(cell: Cell | None, result: CanaryResult, rules: RuleSet) -> Cell:
    """The route after one more canary. An unknown result changes nothing."""
    if cell is None or (cell.provider, cell.relay) != (result.provider, result.relay):
        fresh = Cell(result.sender, result.seed, result.provider, result.relay)
        cell = fresh if cell is None else cell._replace(provider=result.provider, relay=result.relay)
    mark = rule.symbol(result, cell.base, rules)
    if mark is None:
        return cell
    recent = (cell.recent + mark)[-KEEP:]
    base = cell.base
    if result.latency is not None and result.latency >= 0:
        base = rule.learn(base, result.latency, mark == "L")
    bad_auth = (
        rule.not_passing(result, rules.rule(AlertKind.AUTHENTICATION)) if result.authentication else None
    )
    authentication = cell.authentication if bad_auth is None else bad_auth
    started = result.sent_at if result.sent_at is not None else result.at
    auth_since = cell.auth_since
    if bad_auth is not None and bool(bad_auth) != bool(cell.authentication):
        auth_since = started if bad_auth else 0.0
    if mark == GOOD:
        return _good(cell, result.at, recent, base, (authentication, auth_since))
    return cell._replace(
        recent=recent,
        at=result.at,
        onset=cell.onset if cell.onset and rule.good_streak(cell.recent) < _BEGINS else started,
        run=cell.run + 1,
        text=describe(result, mark),
        reply=reply_text(result.reply),
        authentication=authentication,
        auth_since=auth_since,
        base=base,
    )


def _good(cell: Cell, at: float, recent: str, base: rule.Baseline, authentication: tuple[str, float]) -> Cell:
    clean = rule.good_streak(recent) >= _CLEAN
    return cell._replace(
        recent=recent,
        at=at,
        onset=0.0 if clean else cell.onset,
        run=0 if clean or not cell.run else cell.run + 1,
        authentication=authentication[0],
        auth_since=authentication[1],
        base=base,
    )


def reply_text(reply: Reply | None) -> str:
    """An SMTP reply in one line: 550 5.7.26 (unauthenticated) "text"."""
    if reply is None:
        return ""
    head = f"{reply.code} {reply.enhanced}".strip()
    meaning = f" ({reply.meaning})" if reply.meaning else ""
    text = " ".join(reply.text.split())
    return f"{head}{meaning}{f' {chr(34)}{text}{chr(34)}' if text else ''}"[:_TEXT]


def describe(result: CanaryResult, mark: str) -> str:
    """The failure of one canary in words."""
    kind = rule.kind_of(mark)
    auth = " ".join(f"{m}={v}" for m, v in sorted(result.authentication.items()) if v != "pass")
    if kind is AlertKind.SLOW:
        words = f"took {result.latency or 0:.0f} s"
    elif kind is AlertKind.AUTHENTICATION:
        words = f"in {result.placement}, {auth}"
    else:
        said = dict.fromkeys((str(result.placement), result.category, result.reason))
        words = " ".join(x for x in said if x)
        words += f", {auth}" if auth else ""
    facts = "; ".join(f"{e.kind}: {e.text}" for e in result.evidence[:3] if e.text not in words)
    return " ".join(f"{words}{'; ' + facts if facts else ''}".split())[:_TEXT]


def listing(known: Condition | None, seen: ListingSeen) -> Condition | None:
    """The listing after one more sweep; None where there is nothing to remember."""
    text = f"{seen.subject} listed at {seen.zone}{': ' + seen.reason if seen.reason else ''}"
    fresh = Condition(
        f"listed {seen.subject} {seen.zone}",
        AlertKind.LISTED,
        seen.subject,
        seen.at,
        seen.at,
        item=seen.zone,
        senders=seen.senders,
        severity=seen.severity,
        text=text[:_TEXT],
        url=seen.delist_url,
    )
    return _step(known, fresh, None if seen.listed is None else not seen.listed)


def record(known: Condition | None, seen: RecordSeen) -> Condition | None:
    """The record after one more look; None where there is nothing to remember."""
    change = f': was "{seen.before[:100]}", is "{seen.after[:100]}"' if seen.before or seen.after else ""
    text = f"{seen.record} of {seen.domain} {seen.reason or 'changed'}{change}"
    fresh = Condition(
        f"record {seen.domain} {seen.record}",
        AlertKind.RECORD_DRIFT,
        seen.domain,
        seen.at,
        seen.at,
        item=seen.record,
        senders=seen.senders,
        severity=seen.severity,
        text=text[:_TEXT],
    )
    return _step(known, fresh, seen.ok)


def own(known: Condition | None, seen: OwnState) -> Condition | None:
    """A part of the agent after one more look; None where there is nothing to remember."""
    text = " ".join(x for x in (seen.reason, seen.text) if x)
    fresh = Condition(
        f"own {seen.kind} {seen.subject}",
        seen.kind,
        seen.subject,
        seen.at,
        seen.at,
        provider=seen.provider,
        severity=Severity.INFO,
        text=text[:_TEXT],
    )
    return _step(known, fresh, seen.ok)


def _step(known: Condition | None, fresh: Condition, good: bool | None) -> Condition | None:
    """One more look: good None (could not look) changes nothing."""
    if good is None or (good and known is None):
        return known
    if known is None:
        return fresh
    if good:
        since = fresh.at if known.bad else known.ok_since
        return replace(known, bad=False, goods=known.goods + 1, count=0, ok_since=since, at=fresh.at)
    # Good for too short a while to be over: the same trouble goes on.
    return replace(fresh, since=known.since, count=known.count + 1)
