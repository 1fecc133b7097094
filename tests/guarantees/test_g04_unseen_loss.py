"""G4: what is discarded or held is missing by its deadline and one scan; released, it is late once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from probes.canary.state import Canary
from probes.outcome import Outcome, Placement
from tests.guarantees.agents import app_on, eventually, rows_of, send, sink_config
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import DISCARD, HOLD, sink

BOXES = tuple(f"box{n}@example.net" for n in range(5))
ROUTES = [{"every": "1d", "deadline": "2s", "late_after": "1h"}]
EACH = 50
SCAN = 30.0
"""Seconds that a scan after the deadline may take on a busy machine."""


async def part(folder: Path, number: int, each: int = EACH) -> Tally:
    """Half of the canaries are discarded, half are held and released once they are missing."""
    async with sink(*BOXES) as world:
        order: dict[str, str] = {}
        world.fate = lambda token, _to: order.setdefault(token, HOLD if len(order) % 2 else DISCARD)
        async with app_on(sink_config(world, folder, senders=1, routes=ROUTES), seeds=["box0"]) as app:
            await send(app, times=each // len(BOXES))

            def missing() -> list[Canary]:
                return [c for c in rows_of(app) if c.placement is Placement.MISSING]

            await eventually(
                lambda: len(missing()) >= each, SCAN, lambda: f"{len(missing())} of {each} missing"
            )
            tally = _declared(missing())
            world.release()
            held = {token for token, fate in order.items() if fate == HOLD}
            await eventually(
                lambda: sum(c.late for c in rows_of(app)) >= len(held), SCAN, lambda: "not all were seen late"
            )
            await asyncio.sleep(0.5)
            for canary in rows_of(app):
                is_held = canary.token in held
                good = canary.late == is_held and canary.placement is Placement.MISSING
                tally.check(good and canary.outcome is Outcome.FAIL, f"late {canary.late}: {canary}")
                tally.check(canary.duplicates == 0, f"late was counted again: {canary}")
            counted = app.services.metrics.late.labels("s0", "dovecot").value
            tally.check(counted == len(held), f"{counted} counted late, not {len(held)}")
            return tally


def _declared(found: list[Canary]) -> Tally:
    tally = Tally(trials=len(found))
    for canary in found:
        settled = canary.settled_at or 0.0
        tally.check(settled >= canary.deadline_wall, f"missing before its deadline: {canary}")
        after = settled - canary.deadline_wall
        tally.figures["s from deadline to missing"] = max(
            after, tally.figures.get("s from deadline to missing", 0)
        )
    return tally


GUARANTEE = Guarantee(
    "G4", "no loss is left unseen, and what is released is late once", "canaries", 1000, EACH, part
)


async def test_fifty_discarded_or_held_are_missing_and_late_once(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
    assert tally.trials == EACH
