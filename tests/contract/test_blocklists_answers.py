"""Every odd answer to one pair of a zone whose controls are right: listed, not listed, or nothing is said."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rrset
import pytest

from probes.blocklists.catalogue import unlisted_zone
from probes.blocklists.check import Listing, check
from probes.blocklists.query import parse_subject
from probes.blocklists.sweep import Sweep
from probes.dns_client import DnsResolver
from tests.fakes.dns_server import NXDOMAIN, REFUSED, SERVFAIL, DnsServer, Reply, Script

ZONE = "bl.example"
YES = Reply(("127.0.0.2",))
HIT = "9.2.0.192.bl.example"


def another_name(message: dns.message.Message) -> None:
    message.answer[0] = dns.rrset.from_text("other.example.", 60, "IN", "A", "127.0.0.2")


def another_type(message: dns.message.Message) -> None:
    message.answer.append(dns.rrset.from_text(message.question[0].name, 60, "IN", "TXT", '"listed"'))


def as_nxdomain(message: dns.message.Message) -> None:
    message.set_rcode(dns.rcode.NXDOMAIN)


def mixed_case(message: dns.message.Message) -> None:
    """As a resolver that keeps the letter case of its own question (0x20)."""
    name = dns.name.from_text(message.question[0].name.to_text().replace("bl.example", "bL.eXAmple"))
    message.question[0].name = name
    for rrset in message.answer:
        rrset.name = name


def no_authority(message: dns.message.Message) -> None:
    message.authority.clear()


def as_question(message: dns.message.Message) -> None:
    message.flags &= ~dns.flags.QR


def as_notify(message: dns.message.Message) -> None:
    message.set_opcode(dns.opcode.NOTIFY)


def without_question(message: dns.message.Message) -> None:
    message.question.clear()


ANSWERS: dict[str, tuple[Reply, bool | None]] = {
    "one code": (YES, True),
    "several codes": (Reply(("127.0.0.2", "127.0.0.4", "127.0.0.10")), True),
    "a code nobody published": (Reply(("127.9.9.9",)), True),  # RFC 5782 section 2.3: any of 127/8
    "an alias of a listing": (Reply(("127.0.0.2",), cname="hit.lists.example"), True),
    "late": (replace(YES, delay=0.15), True),
    "too long for UDP": (replace(YES, truncate=True), True),
    "too long for UDP, clean": (replace(NXDOMAIN, truncate=True), False),
    "letter case": (replace(YES, edit=mixed_case), True),
    "letter case, clean": (replace(NXDOMAIN, edit=mixed_case), False),
    "no such name": (NXDOMAIN, False),
    "no such name, no SOA": (replace(NXDOMAIN, edit=no_authority), False),
    "an alias of nothing": (replace(NXDOMAIN, cname="gone.lists.example"), None),
    "an alias without address": (Reply(cname="empty.lists.example"), None),
    "empty": (Reply(), None),
    "empty, no SOA": (Reply(edit=no_authority), None),
    "only a text": (Reply(edit=another_type), None),
    "of another name": (replace(YES, edit=another_name), None),
    "listed and no such name": (replace(YES, edit=as_nxdomain), None),
    "listed and refused": (Reply(("127.0.0.2", "127.255.255.254")), None),
    "listed and parked": (Reply(("127.0.0.2", "203.0.113.7")), None),
    "listed and loopback": (Reply(("127.0.0.1", "127.0.0.2")), None),
    "refused by code": (Reply(("127.255.255.255",)), None),
    "loopback": (Reply(("127.0.0.1",)), None),
    "parked": (Reply(("203.0.113.7",)), None),
    "private": (Reply(("10.0.0.1",)), None),
    "zero": (Reply(("0.0.0.0",)), None),
    "referral": (Reply(referral=True), None),
    "servfail": (SERVFAIL, None),
    "refused": (REFUSED, None),
    "notimp": (Reply(rcode=dns.rcode.NOTIMP), None),
    "formerr": (Reply(rcode=dns.rcode.FORMERR), None),
    "wrong id": (replace(YES, wrong_id=True), None),
    "wrong id, clean": (replace(NXDOMAIN, wrong_id=True), None),
    "wrong question": (replace(YES, wrong_question=True), None),
    "wrong question, clean": (replace(NXDOMAIN, wrong_question=True), None),
    "no question": (replace(NXDOMAIN, edit=without_question), None),
    "a question": (replace(NXDOMAIN, edit=as_question), None),
    "another opcode": (replace(NXDOMAIN, edit=as_notify), None),
    "garbage": (Reply(garbage=b"\xff" * 40), None),
    "nothing": (Reply(garbage=b""), None),
}  # fmt: skip


def zone(reply: Reply) -> Script:
    """Right controls, and this answer for one address."""

    def answer(name: str, rdtype: str) -> Reply:
        if rdtype != "A":
            return Reply()
        return reply if name == HIT else YES if name == f"2.0.0.127.{ZONE}" else NXDOMAIN

    return answer


async def by_check(address: str, timeout: float = 20.0) -> list[Listing]:
    resolver = DnsResolver([address], timeout=timeout, retry=0.5, tries=2, cache=0)
    return await check([parse_subject("192.0.2.9")], [unlisted_zone(ZONE)], resolver)


async def by_sweep(address: str, timeout: float = 20.0) -> list[Listing]:
    found: list[Listing] = []
    work = Sweep(
        [parse_subject("192.0.2.9")], [unlisted_zone(ZONE)], address, on_listing=found.append,
        timeout=timeout, segment=20.0, retries=0, retry_after=0.0,
    )  # fmt: skip
    work.follow([("192.0.2.9", ZONE)])
    await work.run()
    return found


async def verdict(reply: Reply, timeout: float, look: Callable[..., object]) -> bool | None:
    """None also where nothing definite is told."""
    async with DnsServer(zone(reply)) as server:
        found = await look(server.address, timeout)  # type: ignore[misc]
    return found[0].listed if found else None


@pytest.mark.parametrize("look", [by_check, by_sweep])
async def test_an_answer_says_no_more_than_it_says(look: Callable[..., object]) -> None:
    patience = {None: 1.5, True: 20.0, False: 20.0}  # seconds: a busy machine answers late
    found = await asyncio.gather(*(verdict(x, patience[want], look) for x, want in ANSWERS.values()))
    assert dict(zip(ANSWERS, found, strict=True)) == {name: want for name, (_, want) in ANSWERS.items()}


async def test_a_zone_that_denies_without_nxdomain_is_taken_at_its_word() -> None:
    def answer(name: str, rdtype: str) -> Reply:
        return YES if name == f"2.0.0.127.{ZONE}" and rdtype == "A" else Reply()

    async with DnsServer(answer) as server:
        assert [x.listed for x in await by_check(server.address)] == [False]
        assert [x.listed for x in await by_sweep(server.address)] == [False]


async def test_a_domain_above_a_listed_one_exists_and_is_not_listed() -> None:
    def answer(name: str, rdtype: str) -> Reply:
        if rdtype == "A" and name in (f"test.{ZONE}", f"www.shop.test.{ZONE}"):
            return YES
        return Reply() if name == f"shop.test.{ZONE}" else NXDOMAIN

    async with DnsServer(answer) as server:
        resolver = DnsResolver([server.address], timeout=20.0, cache=0)
        found = await check([parse_subject("shop.test")], [unlisted_zone(ZONE)], resolver)
    assert [x.listed for x in found] == [False]
