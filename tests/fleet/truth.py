"""The store's word against the load world's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise

from agent.store import canaries, rows
from agent.store.database import Database
from probes.canary.state import Canary, State
from probes.outcome import Outcome, Placement
from tests.fleet.post import Handled
from tests.guarantees.claim import Tally

OPEN = (State.INTENDED, State.SENT, State.UNCONFIRMED, State.DEFERRED)
CLOSEST = 0.75
"""Two runs of a route are never closer than this share of its interval."""


def every_canary(store: str) -> list[Canary]:
    """All rows, read beside the agents."""
    database = Database(store)
    try:
        return database.read_now(canaries.everything)
    finally:
        database.close()


def pause(store: str) -> None:
    """Stops all sending."""
    database = Database(store)
    try:
        database.write_now(lambda tx: rows.set_setting(tx.conn, rows.PAUSED, {"by": "proof"}))
    finally:
        database.close()


def unsettled(found: Iterable[Canary]) -> list[Canary]:
    """Those that still wait for something."""
    return [canary for canary in found if canary.state in OPEN]


def compare(found: list[Canary], handled: Mapping[str, Handled], every: float = 0.0) -> Tally:
    """Nothing lost, nothing counted twice, nothing sent twice. every: the routes' interval, 0: not known."""
    tally = Tally(trials=len(found))
    by_token = {canary.token: canary for canary in found}
    tally.check(len(by_token) == len(found), "a token has two rows")
    for token, one in handled.items():
        _check_sent(tally, token, one, by_token.get(token))
    for canary in found:
        _check_row(tally, canary, handled.get(canary.token))
    if every:
        _check_runs(tally, found, every)
    return tally


def _check_sent(tally: Tally, token: str, one: Handled, canary: Canary | None) -> None:
    if canary is None:
        return tally.check(False, f"sent, and unknown to the store: {token}")
    tally.check(len(one.at) <= 1, f"accepted {len(one.at)} times: {token}")
    tally.check(all(code == 451 for code in one.codes[:-1]), f"sent again after its end: {token} {one.codes}")
    if one.copies:
        tally.check(canary.placement is Placement.INBOX, f"delivered, and {canary.placement}: {canary}")
        counted = canary.duplicates + 1
        tally.check(counted == one.copies, f"{one.copies} copies, counted {counted}: {canary}")
    return None


def _check_row(tally: Tally, canary: Canary, one: Handled | None) -> None:
    tally.check(canary.outcome is not None, f"without outcome: {canary}")
    delivered = one is not None and one.copies > 0
    tally.check(delivered or canary.outcome is not Outcome.PASS, f"passed, never delivered: {canary}")
    sent = one is not None and bool(one.at)
    tally.check(sent or canary.placement is not Placement.MISSING, f"missing, never accepted: {canary}")
    tally.check(not canary.late, f"late, and nothing ever was: {canary}")


def _check_runs(tally: Tally, found: Iterable[Canary], every: float) -> None:
    runs: dict[str, list[float]] = defaultdict(list)
    for canary in found:
        runs[canary.route].append(canary.created.wall)
    for route, times in runs.items():
        times.sort()
        near = [b - a for a, b in pairwise(times) if b - a < CLOSEST * every]
        tally.check(not near, f"{route} ran twice within {near[:3]} s")
