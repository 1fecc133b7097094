"""A round for people and programs: its canaries, what is waited for, the baseline, the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from sqlalchemy.engine import Connection

from agent.config.models import Config
from agent.reports.why import canary_json
from agent.runner.mailboxes import preset_of
from agent.store import canaries, rounds, rows
from agent.store.rounds import RoundRow
from probes.canary.state import Canary, State
from probes.change.around import Around, around_from_json
from probes.change.facts import Facts, facts_of
from probes.change.verdict import State as Known
from probes.clock import rfc3339
from probes.errors import DataError
from probes.headers.trust import NOBODY, TrustRule

LAST_GOOD, LAST_DAY = "last-good", "24h"
DAY = 86400.0
_GONE_WRONG = frozenset({"fail", "softfail", "permerror", "temperror", "ambiguous", "policy"})
MOST_OF_A_DAY = 60
"""Canaries of a route that a day's baseline looks at."""


def facts_in(conn: Connection, config: Config, found: Iterable[Canary]) -> list[Facts]:
    """The canaries' facts, with what their kept headers say."""
    rules: dict[str, TrustRule] = {}
    told = []
    for canary in found:
        seed = config.seeds.get(canary.seed)
        if canary.seed not in rules:
            rules[canary.seed] = preset_of(seed).trust if seed else NOBODY
        header = next(iter(canaries.headers(conn, canary.id)), None)
        told.append(facts_of(canary, header, rules[canary.seed]))
    return told


def by_route(found: Iterable[Facts]) -> dict[str, list[Facts]]:
    """Facts by route, oldest first."""
    routes: dict[str, list[Facts]] = {}
    for facts in sorted(found, key=lambda f: f.at):
        routes.setdefault(facts.route, []).append(facts)
    return routes


def read_state(conn: Connection, config: Config, row: RoundRow) -> Known:
    """What a round saw."""
    found = facts_in(conn, config, canaries.of_round(conn, row.id))
    return Known(by_route(found), row.held, _around(row))


def _around(row: RoundRow) -> dict[str, Around]:
    return {sender: around_from_json(data) for sender, data in row.around.items()}


def read_baseline(conn: Connection, config: Config, row: RoundRow) -> Known | None:
    """What the round is compared with, as its params name it; None where it asks for nothing."""
    name = row.params.get("baseline") or ""
    if not name:
        return None
    if name not in (LAST_GOOD, LAST_DAY):
        other = rounds.get_round(conn, name)
        if other is None:
            raise DataError(f"there is no round {name!r}")
        return read_state(conn, config, other)
    found: list[Canary] = []
    for route in row.routes:
        sender, _, seed = route.partition("/")
        found += _earlier(conn, sender, seed, row, name)
    return Known(by_route(facts_in(conn, config, found)), {}, _last_around(conn, row))


def _earlier(conn: Connection, sender: str, seed: str, row: RoundRow, name: str) -> Sequence[Canary]:
    known = canaries.of_route(conn, sender, seed, 400)
    before = [c for c in known if c.created.wall < row.started_at and c.round != row.id and c.outcome]
    if name == LAST_DAY:
        return [c for c in before if c.created.wall >= row.started_at - DAY][:MOST_OF_A_DAY]
    passed = [c for c in before if c.outcome == "pass" and canaries.headers(conn, c.id)]
    # In the inbox with a method that failed is not good: a later round must still see what changed.
    sound = (c for c in passed if not _GONE_WRONG.intersection(c.verdicts.values()))
    return [found] if (found := next(sound, None)) else passed[:1]


def read_last(conn: Connection, config: Config, row: RoundRow) -> dict[str, list[Facts]]:
    """By sender, what the newest canary of each of its routes told that was read back before the round."""
    found: dict[str, list[Facts]] = {route.partition("/")[0]: [] for route in row.routes}
    for route in row.routes:
        sender, _, seed = route.partition("/")
        known = (c for c in canaries.of_route(conn, sender, seed, 5) if c.seen_at and c.round != row.id)
        if (last := next(known, None)) is not None:
            found[sender] += facts_in(conn, config, [last])
    return found


def _last_around(conn: Connection, row: RoundRow) -> dict[str, Around]:
    """What surrounded each sender in the newest earlier round that passed."""
    found: dict[str, Around] = {}
    for other in rounds.passed_before(conn, row.started_at):
        for sender, around in _around(other).items():
            found.setdefault(sender, around)
    return found


def round_json(conn: Connection, config: Config, row: RoundRow) -> dict[str, Any]:
    """The round as it is now."""
    sent = sorted(canaries.of_round(conn, row.id), key=lambda c: (c.route, c.created.wall))
    done = row.state != rounds.RUNNING
    told = [canary_json(canary) for canary in sent]
    if done:
        for one, facts in zip(told, facts_in(conn, config, sent), strict=True):
            one["facts"] = facts.to_json()
    verdict = row.verdict or {}
    return {
        "schema": "mailcanary.round/1",
        "id": row.id,
        "kind": row.kind,
        "by": row.who,
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(row.ended_at) if row.ended_at else None,
        "routes": len(row.routes),
        "count": row.count,
        "deadline_seconds": row.params.get("deadline"),
        "baseline": row.params.get("baseline") or None,
        "done": done,
        "cancelled": row.state == rounds.CANCELLED,
        "outcome": row.outcome if done else None,
        "causes": verdict.get("causes", []),
        "verdicts": verdict.get("verdicts", []),
        "canaries": told,
        "held": dict(row.held),
        "around": dict(row.around),
    }


def progress_json(conn: Connection, row: RoundRow, holding: Mapping[str, str], now: float) -> dict[str, Any]:
    """How far a running round is, a line a route: elapsed, an estimate of what is left, and why it waits."""
    sent: dict[str, list[Canary]] = {}
    for canary in canaries.of_round(conn, row.id):
        sent.setdefault(canary.route, []).append(canary)
    mailboxes = rows.mailbox_rows(conn)
    lines = [
        _line(
            conn,
            route,
            sorted(sent.get(route, []), key=lambda c: c.created.wall),
            row,
            holding,
            mailboxes,
            now,
        )
        for route in row.routes
    ]
    return {"elapsed_seconds": round(max(0.0, now - row.started_at), 1), "routes": lines}


def _line(
    conn: Connection,
    route: str,
    sent: Sequence[Canary],
    row: RoundRow,
    holding: Mapping[str, str],
    mailboxes: Mapping[str, Mapping[str, Any]],
    now: float,
) -> dict[str, Any]:
    waiting = [canary for canary in sent if canary.outcome is None]
    settled = len(sent) - len(waiting)
    line: dict[str, Any] = {"route": route, "sent": len(sent), "settled": settled, "wanted": row.count}
    if route in row.held:
        return line | {"state": "held", "waits": f"not sent: {row.held[route]}", "eta_seconds": None}
    if waiting:
        canary = waiting[0]
        mailbox = mailboxes.get(canary.seed, {})
        usual = _usual(conn, canary)
        left = max(0.0, canary.created.wall + usual - now) if usual is not None else None
        if not left:  # later than usual: the deadline is what is known
            left = max(0.0, canary.deadline_wall - now)
        return line | {
            "state": canary.state.value,
            "waits": waits_for(canary, mailbox, now),
            "eta_seconds": round(left, 1),
        }
    if settled >= row.count or (settled and route not in holding):
        last = sent[-1]
        told = f"{last.placement or ''} {last.reason}".strip()
        return line | {"state": "settled", "outcome": last.outcome, "waits": told, "eta_seconds": 0.0}
    why = holding.get(route, "its turn")
    return line | {"state": "waiting", "waits": f"to be sent: {why}", "eta_seconds": None}


def _usual(conn: Connection, canary: Canary) -> float | None:
    known = [c.latency for c in canaries.of_route(conn, canary.sender, canary.seed, 20) if c.latency]
    return median(known) if known else None


def waits_for(canary: Canary, mailbox: Mapping[str, Any], now: float) -> str:
    """Why a canary has no verdict yet, for people."""
    deadline = f"deadline in {max(0.0, canary.deadline_wall - now):.0f} s"
    if canary.state is State.INTENDED:
        return "being handed over"
    if canary.state is State.DEFERRED:
        reply = canary.reply
        said = f"{reply.code} {reply.enhanced} {reply.meaning}".strip() if reply else "refused for now"
        again = f", again in {max(0.0, canary.retry_at - now):.0f} s" if canary.retry_at else ""
        return f"deferred ({said}){again}, {deadline}"
    if mailbox and not mailbox["readable"]:
        return f"the seed cannot be read ({mailbox['reason']}), {deadline}"
    since = canary.accepted.wall if canary.accepted else canary.created.wall
    return f"accepted {max(0.0, now - since):.0f} s ago, not seen yet, {deadline}"
