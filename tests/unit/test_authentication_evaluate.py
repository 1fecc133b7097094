"""The whole evaluation: one message, all four methods, and every way the world can fail around it."""

from __future__ import annotations

import asyncio
import json

import pytest

from probes.authentication.compare import Verdict, disagreements
from probes.authentication.evaluate import Evaluation, evaluate
from probes.authentication.lookups import Lookups
from probes.dns import DnsAnswer, DnsStatus, StaticResolver
from tests.fakes.signed_mail import HELO, IP, NOW, SENDER, signed_mail

MAIL = signed_mail()


async def run(message: bytes = MAIL.message, resolver: object = None, **facts: object) -> Evaluation:
    known: dict[str, object] = {"ip": IP, "helo": HELO, "mail_from": SENDER, "now": NOW, **facts}
    return await evaluate(message, resolver=resolver or StaticResolver(MAIL.zone), **known)  # type: ignore[arg-type]


async def test_everything_passes_and_is_json() -> None:
    found = await run()
    assert [one.result for one in (found.spf, *found.dkim, found.arc, found.dmarc)] == ["pass"] * 5
    told = json.loads(json.dumps(found.to_json()))
    for method in ("spf", "arc", "dmarc"):
        assert {"result", "domain", "detail"} <= told[method].keys()
    assert [one["domain"] for one in told["dkim"]] == ["esp.example.org", "mail.example.com"]
    assert told["dmarc"]["aligned"]["dkim"] == ["mail.example.com"]


async def test_a_large_message_is_read_in_a_thread_with_the_same_verdict() -> None:
    mail = signed_mail(400_000)
    found = await run(mail.message, StaticResolver(mail.zone))
    assert [one.result for one in (found.spf, *found.dkim, found.arc, found.dmarc)] == ["pass"] * 5


async def test_without_the_connecting_address_nothing_passes_or_fails_by_spf() -> None:
    found = await run(ip=None)
    assert (found.spf.result, found.spf.evaluated) == ("none", False)
    assert found.dmarc.result == "pass"
    unsigned = MAIL.message[MAIL.message.index(b"Authentication-Results: mx") :]
    assert (await run(unsigned, ip=None)).dmarc.result == "temperror"
    assert (await run(unsigned)).dmarc.result == "pass"
    assert (await run(unsigned, ip="203.0.113.1")).dmarc.result == "fail"


@pytest.mark.parametrize(
    "status", [DnsStatus.SERVFAIL, DnsStatus.TIMEOUT, DnsStatus.REFUSED, DnsStatus.ERROR]
)
async def test_a_resolver_that_is_down_makes_everything_temporary(status: DnsStatus) -> None:
    found = await run(resolver=StaticResolver({}, default=status))
    assert {one.result for one in (found.spf, *found.dkim, found.arc, found.dmarc)} == {"temperror"}


class Stuck:
    """A resolver that never answers, whatever it was told."""

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        await asyncio.Event().wait()
        raise AssertionError


class Broken:
    """A resolver that breaks its promise never to raise."""

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        raise ValueError(name)


async def test_a_resolver_that_never_answers_is_waited_for_once() -> None:
    found = await asyncio.wait_for(run(resolver=Stuck(), seconds=0.05), 10)
    assert {one.result for one in (found.spf, *found.dkim, found.arc, found.dmarc)} == {"temperror"}


async def test_ending_the_evaluation_ends_it() -> None:
    task = asyncio.ensure_future(run(resolver=Stuck()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_resolver_that_raises_is_an_answer_too() -> None:
    assert (await run(resolver=Broken())).dmarc.result == "temperror"


async def test_questions_are_asked_once_and_capped() -> None:
    resolver = StaticResolver({("a.example", "TXT"): ["x"]})
    lookups = Lookups(resolver, cap=2)
    same = await asyncio.gather(*(lookups.query("A.example.", "TXT") for _ in range(20)))
    assert {answer.status for answer in same} == {DnsStatus.OK}
    assert resolver.asked == [("a.example", "TXT")]
    await lookups.query("b.example", "TXT")
    assert (await lookups.query("c.example", "TXT")).status is DnsStatus.ERROR


async def test_one_message_asks_a_bounded_number_of_questions() -> None:
    keys = b"".join(
        b"DKIM-Signature: v=1; a=rsa-sha256; d=d%d.example; s=s; h=from; bh=AAAA; b=AAAA\r\n" % n
        for n in range(5000)
    )
    resolver = StaticResolver({})
    found = await run(keys + MAIL.message, resolver)
    assert len(found.dkim) == 21
    assert found.questions < 60


async def test_a_forged_result_in_the_message_counts_for_nothing() -> None:
    forged = b"Authentication-Results: mx.example.net; spf=pass; dkim=pass; dmarc=pass\r\n"
    forged += b"From: x@bank.example\r\n\r\nhi"
    zone = StaticResolver({("_dmarc.bank.example", "TXT"): ["v=DMARC1; p=reject"]})
    found = await run(forged, zone, mail_from="x@evil.example")
    assert (found.spf.result, found.dkim, found.arc.result) == ("none", (), "none")
    assert (found.dmarc.result, found.dmarc.disposition) == ("fail", "reject")


async def test_disagreements_are_told_and_ignorance_is_none() -> None:
    found = await run()
    theirs = [
        Verdict("spf", "fail", "mail.example.com"),
        Verdict("dkim", "pass", "mail.example.com"),
        Verdict("dkim", "fail", "esp.example.org"),
        Verdict("dkim", "fail", "unknown.example"),
        Verdict("dmarc", "temperror"),
        Verdict("bimi", "fail"),
    ]
    told = disagreements(found, theirs)
    assert [(one.method, one.theirs, one.ours) for one in told] == [
        ("spf", "fail", "pass"),
        ("dkim", "fail", "pass"),
    ]
    assert disagreements(await run(ip=None), [Verdict("spf", "pass")]) == ()
