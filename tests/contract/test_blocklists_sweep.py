"""The sweep: everything asked once, resumed, paced, quarantined; loss never changes a verdict."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import replace

from probes.blocklists.catalogue import parse_catalogue, shipped, unlisted_zone
from probes.blocklists.check import Listing
from probes.blocklists.judge import Reason
from probes.blocklists.query import Subject, parse_subject
from probes.blocklists.sweep import Sweep, SweepProgress
from probes.blocklists.wire import fast_answer, is_clean, name_of, subject_labels, zone_suffix
from probes.clock import FakeClock, SystemClock
from tests.fakes.dns_server import DROP, NXDOMAIN, SERVFAIL, DnsServer, Reply, Script, always, sometimes

YES = Reply(("127.0.0.2",))


def addresses(count: int) -> list[Subject]:
    return [parse_subject(f"10.0.{i >> 8}.{i & 255}") for i in range(count)]


def lists(*last: int, zones: int = 3) -> Script:
    """Zones z0.example, z1.example, ... that list 10.0.0.x for the given x."""
    listed = {f"{x}.0.0.10.z{z}.example" for x in last for z in range(zones)}
    test = {f"2.0.0.127.z{z}.example" for z in range(zones)}

    def script(name: str, rdtype: str) -> Reply:
        return YES if name in listed | test and rdtype == "A" else NXDOMAIN

    return script


def zones(count: int = 3) -> list[object]:
    return [unlisted_zone(f"z{z}.example") for z in range(count)]


def sweep(address: str, found: list[Listing], count: int = 100, number: int = 3, **more: object) -> Sweep:
    settings: dict[str, object] = {"timeout": 10.0, "retries": 1, "retry_after": 0.01, **more}
    return Sweep(
        addresses(count), [unlisted_zone(f"z{z}.example") for z in range(number)], address,
        on_listing=found.append, **settings,
    )  # type: ignore[arg-type]  # fmt: skip


async def test_every_pair_is_asked_once_and_judged() -> None:
    found: list[Listing] = []
    seen: list[SweepProgress] = []
    async with DnsServer(lists(7, 9)) as server:
        work = sweep(server.address, found, progress=seen.append)
        report = await work.run()
        asked = [name for name, _ in server.asked if ".0.0.10.z" in name]
    assert len(set(asked)) == report.sent == 300
    assert sorted((x.subject, x.zone) for x in found) == sorted(
        (f"10.0.0.{x}", f"z{z}.example") for x in (7, 9) for z in range(3)
    )
    assert report.total(Reason.LISTED) == 6
    assert report.total(Reason.NOT_LISTED) == 294
    assert (seen[-1].done, seen[-1].total, seen[-1].listed, seen[-1].unknown) == (300, 300, 6, 0)
    assert not list(work.unknown())


async def test_loss_and_servfail_cost_time_not_truth() -> None:
    rng = random.Random(5)
    found: list[Listing] = []
    script = sometimes(sometimes(lists(7, 9), DROP, 0.05, rng), SERVFAIL, 0.05, rng)
    async with DnsServer(script) as server:
        report = await sweep(server.address, found, count=400, timeout=10.0).run()
    assert report.total(Reason.LISTED) == 6
    assert report.total(Reason.NOT_LISTED) == 1194
    assert report.resent > 20


async def test_a_pair_that_stays_silent_is_unknown() -> None:
    good = lists(7)
    found: list[Listing] = []
    async with DnsServer(lambda n, t: DROP if n.startswith("3.0.0.10") else good(n, t)) as server:
        work = sweep(server.address, found, count=10, timeout=0.5)
        report = await work.run()
    assert report.total(Reason.TIMEOUT) == 3
    assert {(s.text, r) for s, _, r in work.unknown()} == {("10.0.0.3", Reason.TIMEOUT)}


async def test_a_zone_that_goes_bad_in_the_middle_is_forgotten_and_asked_again() -> None:
    good, spells = lists(7), ["30.0.0.10.z1.example", "1.0.0.127.z1.example"]  # bad from the one to the other
    bad = False

    def script(name: str, rdtype: str) -> Reply:
        nonlocal bad
        reply = YES if bad and name.endswith("z1.example") else good(name, rdtype)
        if spells and name == spells[0] and (bad or len(spells) == 2):
            bad = not bad
            spells.pop(0)
        return reply

    found: list[Listing] = []
    async with DnsServer(script) as server:
        report = await sweep(server.address, found, retries=3).run()
    assert len(found) == 3
    assert report.total(Reason.NOT_LISTED) == 297


async def test_a_zone_that_stays_bad_ends_unknown_and_the_others_do_not() -> None:
    good = lists(7)
    found: list[Listing] = []
    async with DnsServer(lambda n, t: YES if n.endswith("z1.example") else good(n, t)) as server:
        report = await sweep(server.address, found).run()
    assert report.counts["z1.example ipv4"] == {Reason.ZONE_LISTS_THE_WORLD: 100}
    assert report.total(Reason.NOT_LISTED) == 198
    assert {x.zone for x in found} == {"z0.example", "z2.example"}


async def test_it_goes_on_where_it_stopped() -> None:
    found: list[Listing] = []
    cursors: list[str] = []
    async with DnsServer(lists(7, 90)) as server:
        first = sweep(server.address, found, pace=400.0, segment=0.2)
        task = asyncio.create_task(first.run())
        while not any(json.loads(c)["lanes"]["z0.example ipv4"] for c in cursors):
            await asyncio.sleep(0.02)
            cursors.append(json.dumps(first.cursor()))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        before = {(x.subject, x.zone) for x in found}
        del server.asked[:]
        cursor = json.loads(json.dumps(first.cursor()))
        report = await sweep(server.address, found, cursor=cursor).run()
        again = [name for name, _ in server.asked if ".0.0.10.z" in name]
    assert len(set(again)) == report.sent == 300 - sum(cursor["lanes"].values()) < 300
    assert len(found) == len({(x.subject, x.zone) for x in found}) == 6 >= len(before)
    assert report.total(Reason.LISTED) + report.total(Reason.NOT_LISTED) == 300


async def test_a_cursor_of_another_plan_is_not_used() -> None:
    found: list[Listing] = []
    async with DnsServer(lists(7)) as server:
        cursor = {"plan": "other", "lanes": {"z0.example ipv4": 100}}
        report = await sweep(server.address, found, cursor=cursor).run()
    assert report.sent == 300


async def test_what_is_fresh_is_not_asked_again() -> None:
    clock = FakeClock()
    found: list[Listing] = []
    async with DnsServer(lists(7)) as server:
        work = sweep(server.address, found, clock=clock)
        await work.run()
        assert (await work.run()).skipped == 300
        await clock.advance(61)  # the TTL of the answers
        report = await work.run()
    assert (report.skipped, report.sent) == (0, 300)
    assert len(found) == 6


async def test_the_unknown_is_asked_again_at_once() -> None:
    good, broken = lists(7), True
    found: list[Listing] = []

    def script(name: str, rdtype: str) -> Reply:
        return SERVFAIL if broken and name.startswith("3.0.0.10") else good(name, rdtype)

    async with DnsServer(script) as server:
        work = sweep(server.address, found, count=10, timeout=0.3, clock=FakeClock())
        assert (await work.run()).total(Reason.SERVFAIL) == 3
        broken = False
        report = await work.run()
    assert (report.pairs, report.skipped, report.total(Reason.NOT_LISTED)) == (3, 27, 3)


async def test_pace_and_rate_are_kept() -> None:
    found: list[Listing] = []
    async with DnsServer(lists(7)) as server:
        slow = parse_catalogue("zones: [{zone: z0.example, rate: 100}]", "x")
        work = Sweep(addresses(40), slow, server.address, on_listing=found.append)
        assert (await work.run()).seconds > 0.25
        paced = sweep(server.address, found, count=30, pace=200.0)
        assert (await paced.run()).seconds > 0.3


async def test_odd_answers_are_read() -> None:
    """Truncation, CNAMEs, answers in another letter case, empty ones, forged ones."""
    kinds = {
        "1.0.0.10.z0.example": replace(YES, truncate=True),
        "2.0.0.10.z0.example": replace(YES, cname="list.z0.example"),
        "3.0.0.10.z0.example": Reply(),
        "4.0.0.10.z0.example": replace(YES, wrong_question=True),
        "5.0.0.10.z0.example": Reply(("127.0.0.2", "127.0.0.3")),
        "6.0.0.10.z0.example": replace(NXDOMAIN, truncate=True),
        "7.0.0.10.z0.example": Reply(garbage=b"\x12\x34"),
        "8.0.0.10.z0.example": Reply(referral=True),
        "2.0.0.127.z0.example": YES,
    }
    found: list[Listing] = []
    async with DnsServer(lambda n, t: kinds.get(n, NXDOMAIN)) as server:
        work = sweep(server.address, found, count=10, number=1, timeout=1.5)
        report = await work.run()
    assert {x.subject for x in found} == {"10.0.0.1", "10.0.0.2", "10.0.0.5"}
    assert {s.text: r for s, _, r in work.unknown()} == {
        "10.0.0.3": Reason.ERROR, "10.0.0.4": Reason.TIMEOUT,
        "10.0.0.7": Reason.TIMEOUT, "10.0.0.8": Reason.ERROR,
    }  # fmt: skip
    assert report.total(Reason.NOT_LISTED) == 3


async def test_a_dead_server_ends_unknown() -> None:
    report = await sweep("127.0.0.1:9", [], count=5, timeout=0.2, retries=0, clock=SystemClock()).run()
    assert report.total(Reason.RESOLVER) + report.total(Reason.ZONE_UNREACHABLE) == 15
    assert report.sent == 0


async def test_a_zone_without_its_key_is_not_asked() -> None:
    async with DnsServer(always(NXDOMAIN)) as server:
        report = await Sweep(addresses(5), [shipped().find("zen.dq.spamhaus.net")], server.address).run()
    assert report.total(Reason.KEY_MISSING) == 5
    assert not server.asked


def test_the_wire() -> None:
    question = subject_labels(parse_subject("192.0.2.1")) + zone_suffix("bl.example")
    assert name_of(question) == "1.2.0.192.bl.example"
    head = b"\x00\x01\x81\x83\x00\x01\x00\x00\x00\x01\x00\x00"
    assert is_clean(head + question)
    for at, value in ((2, 0x01), (2, 0x83), (3, 0x80), (5, 0), (7, 1)):
        assert not is_clean(head[:at] + bytes([value]) + head[at + 1 :] + question)
    record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x7f\x00\x00\x02"
    answer = fast_answer(b"\x00\x01\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00" + question + record, question)
    assert answer is not None
    assert (answer.records, answer.ttl) == (("127.0.0.2",), 60.0)
    assert (
        fast_answer(b"\x00\x01\x81\x80\x00\x01\x00\x02\x00\x00\x00\x00" + question + record, question) is None
    )
