"""SPF: mechanisms, limits, macros, and the difference to what we could not look at."""

from __future__ import annotations

import pytest

from probes.authentication.spf import check_spf
from probes.authentication.spf_macro import MacroError, read_domain_spec, read_macro
from probes.authentication.spf_record import SpfSyntaxError, parse_record
from probes.authentication.spf_result import SpfLimits, SpfResult
from probes.dns import DnsStatus, StaticResolver

Zone = dict[tuple[str, str], list[str] | DnsStatus]


async def check(
    record: str | None, ip: str = "192.0.2.10", sender: str = "u@example.com", zone: Zone | None = None
) -> SpfResult:
    records: Zone = dict(zone or {})
    if record is not None:
        records["example.com", "TXT"] = [record]
    return await check_spf(ip, sender, "mx.example.com", StaticResolver(records))


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=spf1 ip4:192.0.2.10 -all", "pass"),
        ("v=spf1 ip4:192.0.2.0/24 -all", "pass"),
        ("v=spf1 ip4:198.51.100.0/24 -all", "fail"),
        ("v=spf1 ip6:2001:db8::/32 ~all", "softfail"),
        ("v=spf1 ?all", "neutral"),
        ("v=spf1", "neutral"),
        ("V=SPF1 IP4:192.0.2.10 -ALL", "pass"),
        ("v=spf1  ip4:192.0.2.10   -all ", "pass"),
        ("v=spf1 a:host.example.com -all", "pass"),
        ("v=spf1 a:host.example.com/24//64 -all", "pass"),
        ("v=spf1 mx -all", "pass"),
        ("v=spf1 exists:%{ir}.list.example.com -all", "pass"),
        ("v=spf1 ptr -all", "pass"),
        ("v=spf1 include:other.example -all", "pass"),
        ("v=spf1 redirect=other.example", "pass"),
        ("v=spf1 include:none.example -all", "permerror"),
        ("v=spf1 redirect=none.example", "permerror"),
        ("v=spf1 moo=x%{d}y ip4:192.0.2.10", "pass"),
        ("v=spf1 ip4:192.0.2.10/33", "permerror"),
        ("v=spf1 ip4:192.0.2.10/024", "permerror"),
        ("v=spf1 ip4:192.0.2", "permerror"),
        ("v=spf1 ip6:192.0.2.10", "permerror"),
        ("v=spf1 ip4:192.0.2.10 all:x", "permerror"),
        ("v=spf1 ip4:192.0.2.10 banana", "permerror"),
        ("v=spf1 ip4:192.0.2.10 include", "permerror"),
        ("v=spf1 ip4:192.0.2.10 a:%{d0}.x", "permerror"),
        ("v=spf1 ip4:192.0.2.10 exists:%{x}.x.com", "permerror"),
        ("v=spf1 redirect=a.com redirect=b.com", "permerror"),
        ("v=spf1 ip4:192.0.2.10 \u00e4", "permerror"),
        ("v=spf10 -all", "none"),
        ("spf1 -all", "none"),
        (None, "none"),
    ],
)
async def test_records(record: str | None, result: str) -> None:
    zone: Zone = {
        ("host.example.com", "A"): ["192.0.2.10"],
        ("example.com", "MX"): ["10 mx1.example.com.", "20 host.example.com."],
        ("mx1.example.com", "A"): ["192.0.2.99"],
        ("10.2.0.192.list.example.com", "A"): ["127.0.0.2"],
        ("10.2.0.192.in-addr.arpa", "PTR"): ["evil.example.org.", "host.example.com."],
        ("other.example", "TXT"): ["v=spf1 ip4:192.0.2.10 -all"],
    }
    assert (await check(record, zone=zone)).result == result


@pytest.mark.parametrize(
    "status", [DnsStatus.SERVFAIL, DnsStatus.TIMEOUT, DnsStatus.REFUSED, DnsStatus.ERROR]
)
@pytest.mark.parametrize(
    ("record", "asked"),
    [
        ("v=spf1 a:x.example -all", ("x.example", "A")),
        ("v=spf1 mx:x.example -all", ("x.example", "MX")),
        ("v=spf1 exists:x.example -all", ("x.example", "A")),
        ("v=spf1 include:x.example -all", ("x.example", "TXT")),
        ("v=spf1 redirect=x.example", ("x.example", "TXT")),
    ],
)
async def test_what_dns_did_not_tell_is_a_temperror(
    status: DnsStatus, record: str, asked: tuple[str, str]
) -> None:
    assert (await check(record, zone={asked: status})).result == "temperror"


async def test_a_failing_reverse_name_only_means_no_match() -> None:
    zone: Zone = {("10.2.0.192.in-addr.arpa", "PTR"): DnsStatus.SERVFAIL}
    assert (await check("v=spf1 ptr -all", zone=zone)).result == "fail"


async def test_two_records_are_an_error() -> None:
    zone: Zone = {("example.com", "TXT"): ["v=spf1 -all", "v=spf1 +all", "other"]}
    assert (await check(None, zone=zone)).result == "permerror"


async def test_ten_lookups_are_enough_and_eleven_too_many() -> None:
    hosts = [f"h{n}.example.com" for n in range(11)]
    zone: Zone = {(host, "A"): ["198.51.100.1"] for host in hosts}
    ten = "v=spf1 " + " ".join(f"a:{host}" for host in hosts[:10]) + " -all"
    found = await check(ten, zone=zone)
    assert (found.result, found.lookups) == ("fail", 10)
    assert (await check(ten.replace("-all", "a:h10.example.com"), zone=zone)).result == "permerror"


async def test_an_include_that_includes_itself_ends() -> None:
    found = await check("v=spf1 include:example.com -all")
    assert (found.result, found.lookups) == ("permerror", 11)


async def test_two_voids_are_enough_and_three_too_many() -> None:
    assert (await check("v=spf1 a:a.example a:b.example -all")).result == "fail"
    assert (await check("v=spf1 a:a.example a:b.example a:c.example -all")).result == "permerror"
    strict = await check_spf(
        "192.0.2.1",
        "u@example.com",
        None,
        StaticResolver({("example.com", "TXT"): ["v=spf1 a:a.example -all"]}),
        limits=SpfLimits(voids=0),
    )
    assert strict.result == "permerror"


async def test_mail_hosts_of_the_other_address_family_are_one_term_not_three_voids() -> None:
    zone: Zone = {("example.com", "MX"): [f"10 m{n}.example.com." for n in range(3)]}
    zone |= {(f"m{n}.example.com", "A"): ["192.0.2.1"] for n in range(3)}
    assert (await check("v=spf1 mx -all", ip="2001:db8::1", zone=zone)).result == "fail"


async def test_more_than_ten_mail_hosts_are_an_error() -> None:
    zone: Zone = {("example.com", "MX"): [f"10 m{n}.example.com." for n in range(11)]}
    assert (await check("v=spf1 mx -all", zone=zone)).result == "permerror"


async def test_the_explanation_is_kept_and_a_broken_one_ignored() -> None:
    zone: Zone = {("why.example.com", "TXT"): ["%{i} is not %{d}'s, see http://x/?s=%{S}"]}
    found = await check("v=spf1 -all exp=why.%{d}", zone=zone)
    assert found.explanation == "192.0.2.10 is not example.com's, see http://x/?s=u%40example.com"
    broken = await check("v=spf1 -all exp=why.%{d}", zone={("why.example.com", "TXT"): ["%{"]})
    assert (broken.result, broken.explanation) == ("fail", "")


async def test_the_tree_of_what_was_read_is_kept() -> None:
    zone: Zone = {
        ("a.example", "TXT"): ["v=spf1 include:b.example -all"],
        ("b.example", "TXT"): ["v=spf1 ip4:192.0.2.10 -all"],
    }
    found = await check("v=spf1 include:a.example -all", zone=zone)
    assert found.matched == "include:a.example"
    assert found.tree is not None
    assert found.tree.children[0].children[0].matched == "ip4:192.0.2.10"
    assert found.to_json()["tree"]["children"][0]["domain"] == "a.example"  # type: ignore[index]


@pytest.mark.parametrize(
    ("ip", "mail_from", "helo"),
    [
        (None, "u@example.com", "mx.example.com"),
        ("", "u@example.com", "mx.example.com"),
        ("not-an-address", "u@example.com", "mx.example.com"),
        ("192.0.2.10", None, "mx.example.com"),
        ("192.0.2.10", "", None),
    ],
)
async def test_a_missing_fact_is_never_a_pass(
    ip: str | None, mail_from: str | None, helo: str | None
) -> None:
    zone = StaticResolver(
        {("example.com", "TXT"): ["v=spf1 +all"], ("mx.example.com", "TXT"): ["v=spf1 +all"]}
    )
    found = await check_spf(ip, mail_from, helo, zone)
    assert (found.result, found.evaluated) == ("none", False)
    assert "not evaluated" in found.detail


async def test_the_null_sender_is_the_postmaster_of_the_helo_name() -> None:
    zone = StaticResolver({("mx.example.com", "TXT"): ["v=spf1 ip4:192.0.2.10 -all"]})
    for null in ("", "<>"):
        found = await check_spf("192.0.2.10", null, "mx.example.com", zone)
        assert (found.result, found.domain, found.identity) == ("pass", "mx.example.com", "helo")


async def test_ipv4_in_ipv6_is_ipv4() -> None:
    assert (await check("v=spf1 ip4:192.0.2.10 -all", ip="::ffff:192.0.2.10")).result == "pass"
    assert (await check("v=spf1 ip4:192.0.2.10 -all", ip="[IPv6:::ffff:192.0.2.10]")).result == "pass"


def test_macros() -> None:
    values = {"s": "a-b.c@x.y.example", "l": "a-b.c", "d": "x.y.example", "i": "192.0.2.3", "v": "in-addr"}
    assert read_macro("%{ir}.%{v}.%{d2}").expand(values) == "3.2.0.192.in-addr.y.example"
    assert read_macro("%{l-}|%{lr-}|%{l1r-.}").expand(values) == "a.b.c|b.c.a|a"
    assert read_macro("%%%_%-%{L}").expand(values) == "% %20a-b.c"
    long = read_domain_spec("%{d}.com").expand_name({"d": ".".join(["abcdefghi"] * 5_000)})
    assert len(long) <= 253
    assert long.endswith(".abcdefghi.com")


@pytest.mark.parametrize("text", ["%", "%{", "%{d", "%{}", "%{q}", "%{c}", "a b", "\x00", "%{d!}", "100%"])
def test_broken_macros(text: str) -> None:
    with pytest.raises(MacroError):
        read_macro(text)


@pytest.mark.parametrize(
    "term", ["a:", "a:foo", "a:foo:8080", "a:x.1", "a:x.-a", "mx/", "mx//129", "a:x.com/33"]
)
def test_broken_mechanisms(term: str) -> None:
    with pytest.raises(SpfSyntaxError):
        parse_record(f"v=spf1 {term} -all")
