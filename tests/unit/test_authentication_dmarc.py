"""DMARC: the tree walk, policy, alignment, and the older rule beside."""

from __future__ import annotations

import pytest

from probes.authentication.author import author_domains, from_domains
from probes.authentication.dkim import DkimResult
from probes.authentication.dmarc import DmarcResult, Identifiers, evaluate_dmarc, identifiers
from probes.authentication.dmarc_policy import TreeWalkRule, walk_names
from probes.authentication.dmarc_record import parse_dmarc
from probes.authentication.domains import registrable
from probes.authentication.message import Message
from probes.authentication.spf_result import SpfResult
from probes.dns import DnsStatus, StaticResolver

NOTHING = Identifiers()


def zone(**records: str) -> StaticResolver:
    """Names with underscores for dots, to DMARC records."""
    return StaticResolver(
        {(f"_dmarc.{name.replace('_', '.')}", "TXT"): [text] for name, text in records.items()}
    )


async def dmarc(author: str, found: Identifiers, resolver: StaticResolver) -> DmarcResult:
    return await evaluate_dmarc((author,), found, resolver)


async def test_an_aligned_pass() -> None:
    records = zone(example_com="v=DMARC1; p=reject")
    by_dkim = await dmarc("example.com", Identifiers(dkim=("mail.example.com",)), records)
    assert (by_dkim.result, by_dkim.disposition, by_dkim.dkim) == ("pass", "none", ("mail.example.com",))
    by_spf = await dmarc("example.com", Identifiers(spf=("bounce.example.com",)), records)
    assert (by_spf.result, by_spf.policy, by_spf.older) == ("pass", "reject", None)


async def test_a_stranger_does_not_align() -> None:
    records = zone(example_com="v=DMARC1; p=reject", example_org="v=DMARC1; p=none")
    found = await dmarc("example.com", Identifiers(dkim=("example.org",), spf=("com",)), records)
    assert (found.result, found.disposition) == ("fail", "reject")


async def test_strict_alignment_wants_the_same_name() -> None:
    records = zone(example_com="v=DMARC1; p=reject; adkim=s; aspf=s")
    below = Identifiers(dkim=("mail.example.com",), spf=("mail.example.com",))
    assert (await dmarc("example.com", below, records)).result == "fail"
    assert (await dmarc("example.com", Identifiers(spf=("example.com",)), records)).result == "pass"


@pytest.mark.parametrize(
    ("record", "exists", "policy", "disposition"),
    [
        ("p=reject", True, "reject", "reject"),
        ("p=reject; sp=quarantine", True, "quarantine", "quarantine"),
        ("p=reject; sp=none; np=quarantine", False, "quarantine", "quarantine"),
        ("p=reject; sp=none; np=quarantine", True, "none", "none"),
        ("p=reject; np=none", False, "none", "none"),
        ("p=reject; t=y", True, "reject", "quarantine"),
        ("p=quarantine; t=y", True, "quarantine", "none"),
        ("p=reject; pct=0", True, "reject", "reject"),
        ("p=REJECT", True, "reject", "reject"),
        ("rua=mailto:x@example.com", True, "none", "none"),
        ("p=ban; rua=mailto:x@example.com", True, "none", "none"),
    ],
)
async def test_the_policy_for_a_subdomain(record: str, exists: bool, policy: str, disposition: str) -> None:
    records: dict[tuple[str, str], list[str] | DnsStatus] = {
        ("_dmarc.example.com", "TXT"): [f"v=DMARC1; {record}"]
    }
    if exists:
        records["sub.example.com", "MX"] = ["10 mx.example.com."]
    found = await dmarc("sub.example.com", NOTHING, StaticResolver(records))
    assert (found.result, found.policy, found.disposition) == ("fail", policy, disposition)


async def test_a_wrong_policy_without_reports_applies_nothing() -> None:
    found = await dmarc("example.com", Identifiers(spf=("example.com",)), zone(example_com="v=DMARC1; p=ban"))
    assert found.result == "none"


async def test_psd_divides_what_a_suffix_list_does_not() -> None:
    """bank.example is a public suffix by its own word, and no list knows it: the two rules part."""
    records = zone(bank_example="v=DMARC1; p=reject; psd=y", giant_bank_example="v=DMARC1; p=quarantine")
    found = await dmarc("giant.bank.example", Identifiers(dkim=("mega.bank.example",)), records)
    assert (found.result, found.organizational_domain) == ("fail", "giant.bank.example")
    assert found.older is not None
    assert (found.older.result, found.older.rule) == ("pass", "RFC 7489")
    assert found.to_json()["older"]["organizational_domain"] == "bank.example"  # type: ignore[index]


async def test_psd_n_makes_a_department_its_own_owner() -> None:
    records = zone(example_com="v=DMARC1; p=none", dept_example_com="v=DMARC1; p=reject; psd=n")
    found = await dmarc("a.dept.example.com", Identifiers(dkim=("example.com",)), records)
    assert (found.result, found.policy_domain) == ("fail", "dept.example.com")


def test_a_long_name_is_asked_eight_times() -> None:
    names = walk_names("a.b.c.d.e.f.g.h.i.example.com")
    assert len(names) == 8
    assert names[:2] == ["a.b.c.d.e.f.g.h.i.example.com", "e.f.g.h.i.example.com"]
    assert names[-1] == "com"


async def test_several_records_in_one_place_are_none() -> None:
    both = ["v=DMARC1; p=reject", "v=DMARC1; p=none"]
    resolver = StaticResolver({("_dmarc.example.com", "TXT"): both})
    assert (await dmarc("example.com", NOTHING, resolver)).result == "none"
    assert (await TreeWalkRule(resolver).walk("example.com")).several == ["example.com"]


@pytest.mark.parametrize("status", [DnsStatus.SERVFAIL, DnsStatus.TIMEOUT, DnsStatus.ERROR])
async def test_a_record_we_could_not_look_up_is_a_temperror(status: DnsStatus) -> None:
    resolver = StaticResolver({("_dmarc.example.com", "TXT"): status})
    assert (await dmarc("example.com", NOTHING, resolver)).result == "temperror"


def dkim_result(result: str, domain: str) -> DkimResult:
    return DkimResult(result, "", "", domain=domain)


@pytest.mark.parametrize(
    ("spf", "dkim", "result"),
    [
        (SpfResult("pass", "example.com", ""), "none", "pass"),
        (SpfResult("softfail", "example.com", ""), "pass", "pass"),
        (SpfResult("fail", "example.com", ""), "fail", "fail"),
        (SpfResult("fail", "example.com", ""), "temperror", "temperror"),
        (SpfResult("temperror", "example.com", ""), "fail", "temperror"),
        (SpfResult("none", "", "", evaluated=False), "fail", "temperror"),
        (SpfResult("none", "example.com", "", evaluated=False), "fail", "temperror"),
        (SpfResult("none", "example.org", "", evaluated=False), "fail", "fail"),
        (SpfResult("none", "example.org", "", evaluated=False), "pass", "pass"),
        (SpfResult("temperror", "example.org", ""), "permerror", "fail"),
    ],
)
async def test_a_fail_is_only_told_when_it_is_certain(spf: SpfResult, dkim: str, result: str) -> None:
    found = identifiers(spf, [dkim_result(dkim, "example.com")] if dkim != "none" else [])
    records = zone(example_com="v=DMARC1; p=reject", example_org="v=DMARC1; p=reject")
    assert (await dmarc("example.com", found, records)).result == result


async def test_no_author_and_several_authors() -> None:
    assert (await evaluate_dmarc((), NOTHING, zone())).result == "none"
    assert (await evaluate_dmarc(("a.com", "b.com"), NOTHING, zone())).result == "permerror"


@pytest.mark.parametrize(
    ("text", "domains"),
    [
        (" Joe <joe@a.example>", ("a.example",)),
        ('"evil@b.example" <joe@a.example>', ("a.example",)),
        ("evil@b.example <joe@a.example>", ("a.example",)),
        ("joe@a.example (evil@b.example)", ("a.example",)),
        ('"a@b"@a.example', ("a.example",)),
        ("joe@A.Example.", ("a.example",)),
        ("<joe@a.example>, <x@b.example>", ("a.example", "b.example")),
        ("Group: joe@a.example, x@a.example;", ("a.example",)),
        ("=?utf-8?q?x=40b=2Eexample?= <joe@a.example>", ("a.example",)),
        ("joe@m\u00fcller.example", ("xn--mller-kva.example",)),
        ("nobody", ()),
        ("", ()),
        ("<>", ()),
        ("(((((((((", ()),
    ],
)
def test_the_author_domain(text: str, domains: tuple[str, ...]) -> None:
    assert from_domains(text) == domains


def test_two_from_fields_are_two_authors() -> None:
    message = Message(b"From: a@a.example\r\nFROM: b@b.example\r\n\r\n")
    assert author_domains(message) == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("v=DMARC1", True),
        (" v = DMARC1 ; p=none", True),
        ("V=DMARC1; P=reject", True),
        ("v=dmarc1; p=none", False),
        ("v=DMARC1x; p=none", False),
        ("p=none; v=DMARC1", False),
        ("", False),
    ],
)
def test_what_is_a_dmarc_record(text: str, known: bool) -> None:
    assert (parse_dmarc(text) is not None) == known


@pytest.mark.parametrize(
    ("domain", "owner"),
    [("a.b.example.co.uk", "example.co.uk"), ("co.uk", None), ("a.b.ck", "a.b.ck"), ("www.ck", "www.ck")],
)
def test_public_suffixes(domain: str, owner: str | None) -> None:
    assert registrable(domain) == owner
