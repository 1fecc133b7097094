"""G12: agents of a fleet are killed or frozen at any moment, and nobody outside can tell but by the clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import pytest

from agent.store.database import Database
from agent.store.schema import upgrade
from probes.canary.state import Canary
from tests.fakes.postgres import Postgres, running, why_not
from tests.fleet import audit
from tests.fleet.agents import FleetAgent, fleet, fleet_config
from tests.fleet.heard import Heard, listed, pager
from tests.fleet.incidents import Scene
from tests.fleet.post import Handled
from tests.fleet.settling import settle
from tests.fleet.truth import compare, every_canary
from tests.fleet.world import Load, load_world
from tests.guarantees.claim import Guarantee, Tally

AGENTS = 4
SENDERS, SEEDS, EVERY = 4, 12, 4.0
LEASE = 3.0
"""Seconds of a membership here; the product has 15."""
TAKE_OVER = LEASE + 5.0
INCIDENTS = 20
FATES = {"swallow": 200, "eat": 300, "defer": 200, "twice": 200}
"""Ten thousandths of all canaries."""


async def incident(
    scene: Scene, store: Database, heard: Heard, number: int, chance: random.Random
) -> list[str]:
    """One kill or freeze, an alert that fires or ends about the same time; then the fleet is whole again.

    Returns the subjects that were listed.
    """
    await asyncio.sleep(chance.uniform(0.0, 0.7))
    subjects = [f"alert-{number:04}-{one}.example" for one in range(2)]
    victim = chosen(scene, chance)
    await asyncio.to_thread(listed, store, subjects, True)
    await asyncio.sleep(chance.uniform(0.0, 1.2))
    await scene.strike(victim, freeze=number % 2 == 0)
    await told_of(heard, subjects, "trigger")  # what fires and ends between two evaluations is told nobody
    await asyncio.to_thread(listed, store, subjects, False)
    if victim.frozen:
        victim.thaw()
    else:
        await scene.fleet.start(victim)
    await scene.spread()
    return subjects


def chosen(scene: Scene, chance: random.Random) -> FleetAgent:
    """Any agent; every other time the one that tells people, or that evaluates what they are told."""
    resource = chance.choice(("receiver/pager", "evaluator", "", ""))
    holder = scene.leases().get(resource, "")
    named = [agent for agent in scene.fleet.up if holder and holder.split(":")[2] == str(agent.pid)]
    return chance.choice(named or list(scene.fleet.up))


async def part(folder: Path, number: int, incidents: int = INCIDENTS) -> Tally:
    """A fleet of its own on a server of its own."""
    with running() as server:
        return await on(server, folder, number, incidents)


async def on(server: Postgres, folder: Path, number: int, incidents: int) -> Tally:
    """Four agents send and read; so many are killed or frozen; then everything is compared."""
    chance = random.Random(number)
    with server.database() as url:
        store = Database(url)
        upgrade(store.engine)
        database = str(store.url.database)
        audit.watch(server, database)
        async with load_world() as world, pager() as heard:
            await world.shape(delay=0.02, **FATES)
            alerts = {"receivers": heard.settings(folder)}
            watched = {"subjects": {"from_senders": False}}
            path = fleet_config(
                world,
                folder,
                url,
                senders=SENDERS,
                seeds=SEEDS,
                every=f"{EVERY}s",
                blocklists=watched,
                alerts=alerts,
            )
            async with fleet(path, AGENTS, lease=LEASE) as agents:
                scene = Scene(agents, world, server, database, SEEDS)
                await scene.spread()
                subjects: list[str] = []
                for turn in range(incidents):
                    subjects += await incident(scene, store, heard, turn, chance)
                await told_of(heard, subjects, "resolve")
                await settle(scene, url)
                tally = await judged(scene, world, every_canary(url))
                told(tally, heard, subjects)
        store.close()
    return tally


async def told_of(heard: Heard, subjects: list[str], action: str) -> None:
    """Waits until that was told of all; what is missing then is a failure below."""
    for _ in range(200):
        if all(action in actions for actions in heard.of(subjects).values()):
            return
        await asyncio.sleep(0.1)


async def judged(scene: Scene, world: Load, found: list[Canary]) -> Tally:
    """Every promise of G12 but that of the alerts."""
    handled = await world.handled()
    tally = compare(found, handled, EVERY)
    for late in [seconds for seconds in scene.taken_over if seconds > TAKE_OVER]:
        tally.check(False, f"taken over after {late:.1f} s")
    stale = audit.stale_writes(scene.server, scene.database)
    tally.check(not stale, f"{len(stale)} stale writes went through: {stale[:3]}")
    twice = audit.settled_twice(scene.server, scene.database)
    tally.check(not twice, f"judged twice: {twice[:3]}")
    figures = await world.figures()
    both = [one for one in await world.ask("met") if one[1] and not one[3]]
    tally.check(not both, f"{len(both)} times two live sessions of a mailbox: {both[:3]}")
    refused = sum(agent.refused for agent in scene.fleet.agents)
    tally.figures = {
        "incidents": len(scene.taken_over),
        "s to take over": max(scene.taken_over, default=0.0),
        "stale writes tried": refused + len(stale),
        "refused": refused,
        "commands on a zombie's session": figures["stale"],
        "sends begun by who was given up": len(begun_by_the_lost(found, handled)),
    }
    return tally


def begun_by_the_lost(found: list[Canary], handled: Mapping[str, Handled]) -> set[str]:
    """Tokens of what was accepted and whose sender was given up before it could write that down: the row
    says unconfirmed, and nobody sends it again, so that each of these is one mail all the same."""
    accepted = {token for token, one in handled.items() if 250 in one.codes}
    return {canary.token for canary in found if canary.token in accepted and canary.accepted is None}


def told(tally: Tally, heard: Heard, subjects: list[str]) -> None:
    """Each alert and each end of one was told, in this order, and the end is the last word.

    Who dies after it told and before it wrote that down has it told again; a zombie that had begun is late,
    and the last word is said again. These are counted apart: one message at a time is under way, so that an
    incident can make one such, and its repair another.
    """
    tally.figures["alerts"] = len(subjects)
    again = 0
    for subject, actions in heard.of(subjects).items():
        words = [action for action, _ in groupby(actions)]
        once = words == ["trigger", "resolve"] * (len(words) // 2) and 2 <= len(words) <= 4
        tally.check(once, f"{subject} was told {actions}")
        again += len(actions) - 2
    tally.figures["told again"] = again
    tally.check(again <= 2 * tally.figures["incidents"], f"{again} times told again")


PROMISE = (
    "four agents, killed or frozen: nothing lost, counted twice or sent twice, taken over in lease + 5 s"
)
GUARANTEE = Guarantee("G12", PROMISE, "canaries", 200, INCIDENTS, part)


@pytest.mark.skipif(why_not() is not None, reason="needs Debian's postgresql")
@pytest.mark.timeout(400)  # a busy machine
async def test_four_agents_killed_and_frozen(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1, incidents=4)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
    assert tally.figures["incidents"] == 4
