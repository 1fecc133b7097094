"""The asking resolver against a scripted server: every kind of answer told apart, cache, failover, TCP."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from probes.clock import FakeClock
from probes.dns import DnsStatus
from probes.dns_client import DnsResolver, Nameserver, parse_nameserver
from probes.errors import ConfigError
from tests.fakes.dns_server import (
    DROP,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    DnsServer,
    Reply,
    always,
    sometimes,
    zone_data,
)

DATA = zone_data(
    {
        "a.example A": ["192.0.2.1", "192.0.2.2"],
        "a.example TXT": ["v=spf1 -all", 'with "quotes" and ü'],
        "a.example MX": ["10 mx.a.example."],
    }
)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (NXDOMAIN, DnsStatus.NXDOMAIN),
        (Reply(), DnsStatus.NODATA),
        (SERVFAIL, DnsStatus.SERVFAIL),
        (REFUSED, DnsStatus.REFUSED),
        (DROP, DnsStatus.TIMEOUT),
        (Reply(wrong_id=True, records=("192.0.2.1",)), DnsStatus.TIMEOUT),
        (Reply(wrong_question=True, records=("192.0.2.1",)), DnsStatus.TIMEOUT),
        (Reply(garbage=b"\x00\x01rubbish"), DnsStatus.TIMEOUT),
        (Reply(referral=True), DnsStatus.ERROR),
        (Reply(records=("192.0.2.1",)), DnsStatus.OK),
        (Reply(records=("192.0.2.1",), cname="b.example"), DnsStatus.OK),
        (Reply(records=("192.0.2.1",), truncate=True), DnsStatus.OK),
        (replace(NXDOMAIN, truncate=True), DnsStatus.NXDOMAIN),
    ],
)
async def test_every_kind_of_answer_is_told_apart(reply: Reply, status: DnsStatus) -> None:
    async with DnsServer(always(reply)) as server:
        answer = await DnsResolver([server.address], timeout=0.3, retry=0.05).query("a.example", "A")
    assert answer.status is status
    assert (answer.records == ("192.0.2.1",)) is (status is DnsStatus.OK)


async def test_records_come_in_presentation_form() -> None:
    async with DnsServer(DATA) as server:
        resolver = DnsResolver([server.address])
        assert set((await resolver.query("A.example.", "a")).records) == {"192.0.2.1", "192.0.2.2"}
        assert (await resolver.query("a.example", "MX")).records == ("10 mx.a.example.",)
        texts = (await resolver.query("a.example", "TXT")).records
    assert "v=spf1 -all" in texts
    assert 'with "quotes" and ü' in {t.encode("latin-1").decode() for t in texts}


async def test_long_txt_is_joined() -> None:
    text = "v=DKIM1; p=" + "A" * 600
    async with DnsServer(zone_data({"s.example TXT": [text]})) as server:
        assert (await DnsResolver([server.address]).query("s.example", "TXT")).records == (text,)


async def test_the_cache_holds_for_the_ttl_and_no_longer() -> None:
    clock = FakeClock()
    async with DnsServer(zone_data({"a.example A": ["192.0.2.1"]})) as server:
        resolver = DnsResolver([server.address], clock=clock)
        for name in ("a.example", "A.EXAMPLE", "gone.example", "gone.example"):
            await resolver.query(name, "A")
        assert len(server.asked) == 2
        await clock.advance(59)
        assert (await resolver.query("a.example", "A")).ttl == pytest.approx(1.0)
        await clock.advance(2)
        await resolver.query("a.example", "A")
        await resolver.query("gone.example", "A")
        assert len(server.asked) == 4


async def test_caps_on_life_and_size() -> None:
    clock = FakeClock()
    async with DnsServer(always(Reply(records=("192.0.2.1",), ttl=86_400))) as server:
        resolver = DnsResolver([server.address], clock=clock, max_ttl=100, cache=2)
        for name in ("a", "b", "c"):
            await resolver.query(f"{name}.example", "A")
        await resolver.query("a.example", "A")  # pushed out by c
        assert len(server.asked) == 4
        await clock.advance(101)
        await resolver.query("a.example", "A")
        assert len(server.asked) == 5


@pytest.mark.parametrize("reply", [SERVFAIL, REFUSED])
async def test_a_failure_is_never_remembered(reply: Reply) -> None:
    replies = [reply, reply, reply, Reply(records=("192.0.2.1",))]
    async with DnsServer(lambda name, rdtype: replies.pop(0)) as server:
        resolver = DnsResolver([server.address], retry=0.01)
        assert not (await resolver.query("a.example", "A")).status.conclusive
        assert (await resolver.query("a.example", "A")).status is DnsStatus.OK


async def test_the_next_server_is_asked() -> None:
    for bad in (DROP, SERVFAIL, REFUSED):
        async with DnsServer(always(bad)) as first, DnsServer(DATA) as second:
            resolver = DnsResolver([first.address, second.address], retry=0.05)
            answer = await resolver.query("a.example", "A")
        assert answer.status is DnsStatus.OK
        assert answer.nameserver == second.address


async def test_a_slow_answer_still_counts_while_others_are_asked() -> None:
    async with (
        DnsServer(always(Reply(records=("192.0.2.9",), delay=0.2))) as slow,
        DnsServer(always(DROP)) as dead,
    ):
        answer = await DnsResolver([slow.address, dead.address], retry=0.02).query("a.example", "A")
    assert answer.records == ("192.0.2.9",)


async def test_a_question_ends_at_its_deadline() -> None:
    async with DnsServer(always(DROP)) as server:
        resolver = DnsResolver([server.address], timeout=30)
        answer = await asyncio.wait_for(resolver.query("a.example", "A", timeout=0.1), 5)
    assert answer.status is DnsStatus.TIMEOUT


async def test_identical_questions_are_asked_once_and_survive_a_cancelled_waiter() -> None:
    async with DnsServer(always(Reply(records=("192.0.2.1",), delay=0.1))) as server:
        resolver = DnsResolver([server.address])
        waiters = [asyncio.create_task(resolver.query("a.example", "A")) for _ in range(50)]
        await asyncio.sleep(0.02)
        waiters[0].cancel()
        answers = await asyncio.gather(*waiters[1:])
    assert len(server.asked) == 1
    assert all(a.status is DnsStatus.OK for a in answers)


async def test_ids_and_ports_are_not_guessable() -> None:
    async with DnsServer(DATA) as server:
        resolver = DnsResolver([server.address], cache=0)
        await asyncio.gather(*(resolver.query(f"{i}.example", "A") for i in range(60)))
    assert len(server.ids) > 55
    assert len(server.ports) > 50


async def test_one_percent_of_faults_is_absorbed() -> None:
    rng = random.Random(4)
    script = sometimes(sometimes(DATA, SERVFAIL, 0.05, rng), DROP, 0.05, rng)
    async with DnsServer(script) as server:
        resolver = DnsResolver([server.address], cache=0, retry=0.05, tries=6)
        answers = await asyncio.gather(*(resolver.query("a.example", t) for t in ("A", "MX", "TXT") * 50))
    assert {a.status for a in answers} == {DnsStatus.OK}


async def test_names_that_cannot_be_asked() -> None:
    resolver = DnsResolver(["127.0.0.1:9"])
    for name in ("a..example", "x" * 64 + ".example", ".".join(["a" * 60] * 5), "\udcff.example"):
        assert (await resolver.query(name, "A")).status is DnsStatus.ERROR
    assert (await resolver.query("a.example", "NO-SUCH-TYPE")).status is DnsStatus.ERROR


def test_nameservers_are_read() -> None:
    assert parse_nameserver("192.0.2.1") == Nameserver("192.0.2.1", 53)
    assert parse_nameserver("192.0.2.1:5353") == Nameserver("192.0.2.1", 5353)
    assert parse_nameserver("2001:DB8::1") == Nameserver("2001:db8::1", 53)
    assert str(parse_nameserver("[::1]:54")) == "[::1]:54"
    for text in ("", "dns.example", "192.0.2.1:", "192.0.2.1:x", "192.0.2.1:70000", "[::1", "::1]:5x"):
        with pytest.raises(ConfigError):
            parse_nameserver(text)
    with pytest.raises(ConfigError):
        DnsResolver([])
