"""G7: whatever zones and resolvers do, an agent records nothing falsely as listed or as clean.

A cell is one kind of zone under one fault of the resolver. An agent looks an address that is listed and one
that is not up in it; the first is a trial of "falsely clean", the second of "falsely listed".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from agent.app import App
from agent.store.tables import listings, zones
from tests.fakes.dns_server import DROP, NXDOMAIN, REFUSED, SERVFAIL, DnsServer, Reply, Script, always
from tests.fakes.sweeping_agent import rows, sweeping_agent
from tests.guarantees.claim import Guarantee, Tally

LISTED, CLEAN = "192.0.2.1", "192.0.2.2"
YES = Reply(("127.0.0.2",))
Fault = Callable[[Script, random.Random], Script]


def _points(zone: str, listed: bool = True, test: bool = True, never: bool = False) -> Script:
    names = {f"1.2.0.192.{zone}": listed, f"2.0.0.127.{zone}": test, f"1.0.0.127.{zone}": never}

    def script(name: str, rdtype: str) -> Reply:
        if rdtype != "A":
            return Reply(("a reason",)) if names.get(name) else Reply()
        return YES if names.get(name) else NXDOMAIN

    return script


def _all_but_the_point(zone: str) -> Script:
    return lambda name, _: NXDOMAIN if name == f"1.0.0.127.{zone}" else YES


def _controls_only(zone: str) -> Script:
    good, points = _points(zone), {f"2.0.0.127.{zone}", f"1.0.0.127.{zone}"}
    return lambda name, rdtype: good(name, rdtype) if name in points else Reply(("127.255.255.255",))


ZONES: dict[str, Callable[[str], Script]] = {
    "healthy": _points,
    "dead": lambda _: always(NXDOMAIN),
    "empty": lambda _: always(Reply()),
    "lists-the-world": lambda _: always(YES),
    "lists-all-but-the-point": _all_but_the_point,
    "parked": lambda _: always(Reply(("203.0.113.7",))),
    "refuses-by-code": lambda _: always(Reply(("127.255.255.254",))),
    "refuses-by-loopback": lambda _: always(Reply(("127.0.0.1",))),
    "refuses-all-but-controls": _controls_only,
    "wrong-test-points": lambda zone: _points(zone, never=True),
    "no-test-points": lambda zone: _points(zone, test=False),
    "silent": lambda _: always(DROP),
}
TRUSTED = {"healthy"}
LOOKS = 10  # that a busy machine may need until it sees, in time, what there is to see


def _now_and_then(script: Script, reply: Callable[[Reply], Reply], rng: random.Random) -> Script:
    def answer(name: str, rdtype: str) -> Reply:
        said = script(name, rdtype)
        return reply(said) if rng.random() < 0.15 else said

    return answer


def _rewriting(script: Script, _: random.Random) -> Script:
    def answer(name: str, rdtype: str) -> Reply:
        said = script(name, rdtype)
        return Reply(("198.51.100.9",)) if said == NXDOMAIN else said

    return answer


def _going_blind(script: Script, rng: random.Random) -> Script:
    """Right for a while, then knows no name any more."""
    left = rng.randrange(2, 60)

    def answer(name: str, rdtype: str) -> Reply:
        nonlocal left
        left -= 1
        return script(name, rdtype) if left > 0 else NXDOMAIN

    return answer


FAULTS: dict[str, Fault] = {
    "none": lambda script, _: script,
    "lossy": lambda script, rng: _now_and_then(script, lambda _: DROP, rng),
    "failing": lambda script, rng: _now_and_then(script, lambda _: SERVFAIL, rng),
    "forging": lambda script, rng: _now_and_then(script, lambda r: replace(r, wrong_question=True), rng),
    "refusing": lambda _, __: always(REFUSED),
    "rewriting": _rewriting,
    "going-blind": _going_blind,
}
"""What resolvers do; "none" is the one that does nothing wrong, beside the six that do."""


def _world(fault: str, rng: random.Random) -> Script:
    scripts = {name: made(f"{name}.example") for name, made in ZONES.items()}

    def script(name: str, rdtype: str) -> Reply:
        zone = name.removesuffix(".example").rpartition(".")[2]
        return scripts[zone](name, rdtype) if zone in scripts else NXDOMAIN

    return FAULTS[fault](script, rng)


def wrong(app: App, fault: str) -> Iterator[str]:
    """What the store holds that is not so."""
    for row in rows(app, listings):
        zone = row["zone"].partition(".")[0]
        if zone not in TRUSTED or row["subject"] != LISTED:
            yield f"{fault}: {row['subject']} falsely listed at {zone}"
        elif row["delisted_at"] is not None:
            yield f"{fault}: {row['subject']} falsely delisted at {zone}"
    open_ = {row["zone"] for row in rows(app, listings) if row["subject"] == LISTED}
    for row in rows(app, zones):
        zone, counts = row["zone"].partition(".")[0], row["counts"]
        allowed = {"listed": 1, "not_listed": 1} if zone in TRUSTED else {"listed": 0, "not_listed": 0}
        if any(counts[key] > most for key, most in allowed.items()):
            yield f"{fault}: {zone} counts {counts}"
        if counts["listed"] and row["zone"] not in open_:
            yield f"{fault}: {zone} counts a listing that is not kept"
        if row["healthy"] and zone not in (*TRUSTED, "refuses-all-but-controls"):
            yield f"{fault}: {zone} is held to be healthy"


async def cells(folder: Path, fault: str, seed: int) -> Tally:
    """All kinds of zones under one fault: before the agent ever saw the truth, and after it did."""
    rng = random.Random(seed)
    own = [{"zone": f"{name}.example", "kinds": ["ipv4"]} for name in ZONES]
    tally = Tally(trials=2 * len(ZONES))
    well, bad = _world("none", rng), _world(fault, rng)
    ill = True

    async def look(app: App) -> int:
        await app.watching.sweep(anew=True)
        for complaint in wrong(app, fault):
            tally.check(False, complaint)
        return sum(row["zone"] == "healthy.example" for row in rows(app, listings))

    async with DnsServer(lambda name, rdtype: (bad if ill else well)(name, rdtype)) as server:
        subjects = {"ips": [LISTED, CLEAN], "from_senders": False}
        async with sweeping_agent(folder, [server.address], own, subjects=subjects) as app:
            await look(app)
            ill = False
            seen = [0]
            for _ in range(LOOKS):
                seen = [await look(app)]
                if seen[0]:
                    break
            ill = True
            seen.append(await look(app))
            tally.check(seen == [1, 1], f"{fault}: {seen} listings where there is one")
    return tally


async def part(folder: Path, number: int) -> Tally:
    """Every fault once."""
    tally = Tally()
    for fault in FAULTS:
        tally.add(await cells(folder / fault, fault, 1000 * number + len(fault)))
    return tally


GUARANTEE = Guarantee(
    name="G7",
    promise="blocklist truth",
    unit="verdicts of 12 kinds of zones under 6 faults of resolvers",
    full=20,
    per_part=1,
    part=part,
)


async def test_nothing_is_falsely_listed_or_clean(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
