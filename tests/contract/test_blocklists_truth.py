"""G7: every way a zone misbehaves under every way a resolver does: nothing falsely listed or clean."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from probes.blocklists.catalogue import unlisted_zone
from probes.blocklists.check import Listing, check
from probes.blocklists.query import Subject, parse_subject
from probes.blocklists.sweep import Sweep
from probes.dns_client import DnsResolver
from tests.fakes.dns_server import DROP, NXDOMAIN, REFUSED, SERVFAIL, DnsServer, Reply, Script, always

ZONE = "bl.example"
LISTED, CLEAN = parse_subject("192.0.2.1"), parse_subject("192.0.2.2")
NAMES = {"listed": f"1.2.0.192.{ZONE}", "test": f"2.0.0.127.{ZONE}", "never": f"1.0.0.127.{ZONE}"}
YES = Reply(("127.0.0.2",))


def healthy(name: str, rdtype: str) -> Reply:
    if rdtype != "A":
        return Reply()
    return YES if name in (NAMES["listed"], NAMES["test"]) else NXDOMAIN


def wrong_points(name: str, rdtype: str) -> Reply:
    return YES if name in (NAMES["listed"], NAMES["never"]) else NXDOMAIN


def all_but_the_test_point(name: str, rdtype: str) -> Reply:
    return NXDOMAIN if name == NAMES["never"] else YES


def no_points(name: str, rdtype: str) -> Reply:
    return YES if name == NAMES["listed"] else NXDOMAIN


def controls_only(name: str, rdtype: str) -> Reply:
    """Controls are right, all else is refused."""
    return healthy(name, rdtype) if name in (NAMES["test"], NAMES["never"]) else Reply(("127.255.255.255",))


ZONES: dict[str, Script] = {
    "healthy": healthy,
    "dead": always(NXDOMAIN),
    "empty": always(Reply()),
    "lists-the-world": always(YES),
    "lists-all-but-the-point": all_but_the_test_point,
    "parked": always(Reply(("203.0.113.7",))),
    "parked-and-listing": always(Reply(("127.0.0.2", "203.0.113.7"))),
    "refuses-by-code": always(Reply(("127.255.255.254",))),
    "refuses-by-loopback": always(Reply(("127.0.0.1",))),
    "refuses-all-but-controls": controls_only,
    "wrong-test-points": wrong_points,
    "no-test-points": no_points,
    "servfail": always(SERVFAIL),
    "silent": always(DROP),
}


def none(script: Script) -> Script:
    return script


def lossy(script: Script) -> Script:
    rng = random.Random(1)
    return lambda name, rdtype: DROP if rng.random() < 0.15 else script(name, rdtype)


def failing(script: Script) -> Script:
    rng = random.Random(2)
    return lambda name, rdtype: SERVFAIL if rng.random() < 0.15 else script(name, rdtype)


def refusing(script: Script) -> Script:
    return always(REFUSED)


def rewriting(script: Script) -> Script:
    """Sends whoever mistypes to a page of advertisements."""

    def rewritten(name: str, rdtype: str) -> Reply:
        reply = script(name, rdtype)
        return Reply(("198.51.100.9",)) if reply == NXDOMAIN else reply

    return rewritten


def blind(script: Script) -> Script:
    return always(NXDOMAIN)


def going_blind(script: Script) -> Script:
    """Right for the first questions, then knows nothing any more."""
    asked = 0

    def answer(name: str, rdtype: str) -> Reply:
        nonlocal asked
        asked += 1
        return script(name, rdtype) if asked <= 4 else NXDOMAIN

    return answer


def forging(script: Script) -> Script:
    rng = random.Random(3)

    def answer(name: str, rdtype: str) -> Reply:
        reply = script(name, rdtype)
        return replace(reply, wrong_question=True) if rng.random() < 0.15 else reply

    return answer


RESOLVERS: dict[str, Callable[[Script], Script]] = {
    "none": none,
    "lossy": lossy,
    "failing": failing,
    "refusing": refusing,
    "rewriting": rewriting,
    "blind": blind,
    "going-blind": going_blind,
    "forging": forging,
}


async def by_check(address: str, timeout: float = 0.4) -> list[Listing]:
    resolver = DnsResolver([address], timeout=timeout, retry=0.06, tries=8, cache=0)
    return await check([LISTED, CLEAN], [unlisted_zone(ZONE)], resolver)


async def by_sweep(address: str, timeout: float = 0.4) -> list[Listing]:
    found: list[Listing] = []
    sweep = Sweep(
        [LISTED, CLEAN],
        [unlisted_zone(ZONE)],
        address,
        on_listing=found.append,
        timeout=timeout,
        segment=2.0,
        retries=0,
        retry_after=0.0,
    )
    report = await sweep.run()
    unknown = {subject.text for subject, _, _ in sweep.unknown()}
    seen = {item.subject for item in found}
    assert report.pairs == 2
    return [*found, *(_plain(s, s.text in unknown) for s in (LISTED, CLEAN) if s.text not in seen)]


def _plain(subject: Subject, unknown: bool) -> Listing:
    from probes.blocklists.judge import Reason
    from probes.outcome import Outcome

    if unknown:
        return Listing(subject.text, ZONE, Outcome.UNKNOWN, None, Reason.ERROR)
    return Listing(subject.text, ZONE, Outcome.PASS, False, Reason.NOT_LISTED)


async def verdicts(zone: str, resolver: str, look: Callable[[str], object]) -> dict[str, bool | None]:
    async with DnsServer(RESOLVERS[resolver](ZONES[zone])) as server:
        found = await look(server.address)  # type: ignore[misc]
    return {item.subject: item.listed for item in found}


@pytest.mark.parametrize("look", [by_check, by_sweep])
@pytest.mark.parametrize("resolver", RESOLVERS)
async def test_no_false_verdict(resolver: str, look: Callable[[str], object]) -> None:
    results = await asyncio.gather(*(verdicts(zone, resolver, look) for zone in ZONES))
    for zone, found in zip(ZONES, results, strict=True):
        if zone != "healthy":
            assert found == {LISTED.text: None, CLEAN.text: None}, (zone, resolver)
        assert found[LISTED.text] is not False, (zone, resolver, "falsely clean")
        assert found[CLEAN.text] is not True, (zone, resolver, "falsely listed")
    if resolver in ("refusing", "blind", "going-blind"):
        assert results[0] == {LISTED.text: None, CLEAN.text: None}


@pytest.mark.parametrize("look", [by_check, by_sweep])
@pytest.mark.parametrize("resolver", ["none", "lossy", "failing", "forging"])
async def test_what_can_be_seen_is_seen(resolver: str, look: Callable[..., object]) -> None:
    async with DnsServer(RESOLVERS[resolver](healthy)) as server:
        found = await look(server.address, timeout=10.0)  # type: ignore[misc]
    assert {item.subject: item.listed for item in found} == {LISTED.text: True, CLEAN.text: False}
