"""The catalogue, the names asked, the verdicts on answers, the subjects."""

from __future__ import annotations

import pytest

from probes.blocklists.catalogue import Kind, Status, parse_catalogue, parse_pattern, shipped, unlisted_zone
from probes.blocklists.health import ZoneHealth, assess, suspect_resolver
from probes.blocklists.judge import Reason, judge, judge_codes
from probes.blocklists.query import controls, parse_subject, questions
from probes.blocklists.subjects import expand, expand_network
from probes.dns import DnsAnswer, DnsStatus, StaticResolver
from probes.errors import ConfigError, DnsUnavailable
from probes.outcome import Outcome, Severity


@pytest.mark.parametrize(
    ("zone", "codes", "listed", "reason"),
    [
        ("zen.spamhaus.org", ["127.0.0.7"], True, Reason.LISTED),
        ("zen.spamhaus.org", ["127.0.0.77"], True, Reason.LISTED),  # a new list: receivers reject on it
        ("zen.spamhaus.org", ["127.0.1.2"], None, Reason.UNKNOWN_CODE),
        ("zen.spamhaus.org", ["127.0.0.2", "127.255.255.254"], None, Reason.QUERY_REFUSED),
        ("zen.spamhaus.org", ["127.0.0.2", "203.0.113.1"], None, Reason.OUTSIDE_LOOPBACK),
        ("zen.spamhaus.org", ["not-an-address"], None, Reason.OUTSIDE_LOOPBACK),
        ("zen.spamhaus.org", [], None, Reason.OUTSIDE_LOOPBACK),
        ("dbl.spamhaus.org", ["127.0.1.102"], True, Reason.LISTED),
        ("dbl.spamhaus.org", ["127.0.0.2"], None, Reason.UNKNOWN_CODE),
        ("multi.surbl.org", ["127.0.0.128"], True, Reason.LISTED),
        ("multi.surbl.org", ["127.0.0.2"], None, Reason.UNKNOWN_CODE),
        ("multi.surbl.org", ["127.0.1.64"], None, Reason.UNKNOWN_CODE),  # no bit of the published mask
        ("multi.uribl.com", ["127.0.0.3"], None, Reason.QUERY_REFUSED),
        ("multi.uribl.com", ["127.0.0.8"], True, Reason.LISTED),
        ("black.uribl.com", ["127.0.0.4"], None, Reason.UNKNOWN_CODE),
        ("rep.mailspike.net", ["127.0.0.13"], False, Reason.NEUTRAL),
        ("rep.mailspike.net", ["127.0.0.20"], False, Reason.ALLOW_LISTED),
        ("rep.mailspike.net", ["127.0.0.15", "127.0.0.99"], None, Reason.UNKNOWN_CODE),
        ("list.dnswl.org", ["127.0.10.1"], None, Reason.QUERY_REFUSED),
        ("list.dnswl.org", ["127.0.4.9"], None, Reason.UNKNOWN_CODE),
        ("hostkarma.junkemailfilter.com", ["127.0.0.4"], True, Reason.LISTED),
        ("hostkarma.junkemailfilter.com", ["127.0.0.1", "127.0.0.2"], True, Reason.LISTED),
        ("hostkarma.junkemailfilter.com", ["127.0.1.2"], False, Reason.NEUTRAL),
        ("bl.score.senderscore.com", ["127.0.0.26"], True, Reason.LISTED),
        ("bl.score.senderscore.com", ["127.0.0.1"], True, Reason.LISTED),
        ("nobody.example", ["127.7.7.7"], True, Reason.LISTED),
        ("nobody.example", ["127.0.0.1"], None, Reason.QUERY_REFUSED),
        ("nobody.example", ["127.255.255.9"], None, Reason.QUERY_REFUSED),
        ("nobody.example", ["0127.0.0.2"], None, Reason.OUTSIDE_LOOPBACK),
    ],
)
def test_codes(zone: str, codes: list[str], listed: bool | None, reason: Reason) -> None:
    verdict = judge_codes(shipped().find(zone), codes)
    assert (verdict.listed, verdict.reason) == (listed, reason)
    assert verdict.outcome is {True: Outcome.FAIL, False: Outcome.PASS, None: Outcome.UNKNOWN}[listed]


@pytest.mark.parametrize("status", list(DnsStatus))
def test_only_a_conclusive_answer_says_not_listed(status: DnsStatus) -> None:
    verdict = judge(unlisted_zone("bl.example"), DnsAnswer("x", "A", status))
    assert (verdict.listed is False) is (status in (DnsStatus.NXDOMAIN, DnsStatus.NODATA))
    assert verdict.listed is not True


def test_severity_follows_zone_and_code() -> None:
    find = shipped().find
    assert judge_codes(find("zen.spamhaus.org"), ["127.0.0.10"]).severity is Severity.ERROR
    assert judge_codes(find("zen.spamhaus.org"), ["127.0.0.10", "127.0.0.4"]).severity is Severity.CRITICAL
    assert judge_codes(find("dnsbl-3.uceprotect.net"), ["127.0.0.2"]).severity is Severity.INFO


def test_the_shipped_catalogue() -> None:
    catalogue = shipped()
    for zone in catalogue.enabled():
        assert zone.codes, zone.name
        assert zone.source, zone.name
        assert zone.status is Status.ALIVE
        assert zone.registration == "none"
    assert catalogue.find("dnsbl.sorbs.net").status is Status.DEAD
    assert catalogue.find("rhsbl.sorbs.net").name == "rhsbl.sorbs.net"  # pydnsbl has a blank behind it
    assert catalogue.find("all.s5h.net").source == ("pydnsbl.providers",)
    assert catalogue.find("list.dnswl.org").allow
    assert not any(zone.enabled for zone in catalogue if zone.allow or zone.needs_key)


def test_who_pays_nothing_keeps_below_the_published_limits() -> None:
    a_day = {zone.name: 86_400 * zone.rate for zone in shipped() if zone.rate}
    assert a_day["zen.spamhaus.org"] + a_day["dbl.spamhaus.org"] < 300_000
    assert a_day["multi.surbl.org"] < 250_000
    assert a_day["list.dnswl.org"] < 100_000
    assert shipped().find("zen.dq.spamhaus.net").rate is None  # a customer's own quota


def test_a_key_is_asked_and_never_shown() -> None:
    zone = shipped().find("zen.dq.spamhaus.net")
    assert zone.needs_key
    keyed = zone.keyed("sentinel0key")
    assert questions(parse_subject("192.0.2.1"), keyed) == ("1.2.0.192.sentinel0key.zen.dq.spamhaus.net",)
    assert "sentinel" not in repr(keyed) + keyed.name + keyed.title
    named = shipped().find("sentinel0key.zen.dq.spamhaus.net")
    assert (named.name, named.origin, named.key) == (zone.name, keyed.origin, "sentinel0key")
    for bad in ("a.b", "", "x" * 64, "ü"):
        with pytest.raises(ConfigError):
            zone.keyed(bad)


def test_names_are_built_as_rfc_5782_has_it() -> None:
    zone = unlisted_zone("bl.example")
    assert questions(parse_subject("192.0.2.99"), zone) == ("99.2.0.192.bl.example",)
    nibbles = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
    assert questions(parse_subject("2001:db8::567:89ab"), zone) == (f"{nibbles}.bl.example",)
    assert questions(parse_subject("EXAMPLE.com."), zone) == ("example.com.bl.example",)
    points = controls(zone, Kind.IPV6)
    assert points.listed[0].startswith("2.0.0.0.0.0.f.7.f.f.f.f.0.0.")
    assert points.clean[0].startswith("1.0.0.0.0.0.f.7.f.f.f.f.0.0.")
    assert controls(zone, Kind.DOMAIN).listed == ("test.bl.example",)


def test_a_list_of_registrable_domains_is_asked_for_the_parent_too() -> None:
    zone = shipped().find("multi.surbl.org")
    names = questions(parse_subject("mail.shop.example.co.uk"), zone)
    assert names == ("mail.shop.example.co.uk.multi.surbl.org", "example.co.uk.multi.surbl.org")
    assert len(questions(parse_subject("example.co.uk"), zone)) == 1


@pytest.mark.parametrize(
    "text", ["", ".", "a..b", "1.2.3", "1.2.3.4.5", "x y", "a/b", "-" * 70, "fe80::1%eth0"]
)
def test_what_is_no_subject(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_subject(text)


def test_a_mapped_address_is_the_address() -> None:
    assert parse_subject("::ffff:192.0.2.1") == parse_subject("192.0.2.1")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("zones: {}", "a list named zones"),
        ("[", "expected the node content"),
        ("zones: [{}]", "zone ?: 'zone'"),
        ("zones: [{zone: a.example, colour: red}]", "unknown setting 'colour'"),
        ("zones: [{zone: a.example, codes: [{code: 1.2.3, text: x}]}]", "four octets"),
        ("zones: [{zone: a.example, codes: [{code: 1.2.3.256, text: x}]}]", "0 to 255"),
        ("zones: [{zone: a.example, kinds: [ipv5]}]", "ipv5"),
        ("zones: [{zone: a.example, list: grey}]", "block, allow or mixed"),
        ("zones: [7]", "zone ?"),
    ],
)
def test_a_bad_catalogue_names_its_fault(text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=r"own\.yaml") as caught:
        parse_catalogue(text, "own.yaml")
    assert error in str(caught.value)


def test_a_user_can_replace_a_zone() -> None:
    own = parse_catalogue("zones: [{zone: bl.spamcop.net, kinds: [ipv4], enabled: false}]", "own.yaml")
    catalogue = shipped().over(own)
    assert not catalogue.find("bl.spamcop.net").enabled
    assert len(catalogue) == len(shipped())
    assert parse_pattern("127.0.*.2-4") == ((127, 127), (0, 0), (0, 255), (2, 4))


def _answers(*statuses: object) -> list[DnsAnswer]:
    return [
        DnsAnswer("x", "A", s) if isinstance(s, DnsStatus) else DnsAnswer("x", "A", DnsStatus.OK, (str(s),))
        for s in statuses
    ]


@pytest.mark.parametrize(
    ("listed", "clean", "reason"),
    [
        (["127.0.0.2"], [DnsStatus.NXDOMAIN], None),
        (["127.0.0.2"], [DnsStatus.NODATA, DnsStatus.TIMEOUT], None),
        ([DnsStatus.NXDOMAIN, "127.0.0.2"], [DnsStatus.NXDOMAIN], None),  # the operator's own point
        ([DnsStatus.NXDOMAIN], [DnsStatus.NXDOMAIN], Reason.ZONE_DEAD),
        (["127.0.0.2"], ["127.0.0.2"], Reason.ZONE_LISTS_THE_WORLD),
        (["127.0.0.2"], [DnsStatus.NXDOMAIN, "127.0.0.2"], Reason.ZONE_LISTS_THE_WORLD),
        (["203.0.113.1"], ["203.0.113.1"], Reason.ZONE_BROKEN),
        (["127.0.0.2"], ["203.0.113.1"], Reason.ZONE_BROKEN),
        (["127.255.255.254"], [DnsStatus.NXDOMAIN], Reason.QUERY_REFUSED),
        (["127.0.0.1"], [DnsStatus.NXDOMAIN], Reason.QUERY_REFUSED),
        ([DnsStatus.TIMEOUT], [DnsStatus.NXDOMAIN], Reason.ZONE_UNREACHABLE),
        (["127.0.0.2"], [DnsStatus.SERVFAIL], Reason.ZONE_UNREACHABLE),
    ],
)
def test_controls_tell_health(listed: list[object], clean: list[object], reason: Reason | None) -> None:
    found = assess(unlisted_zone("bl.example"), _answers(*listed), _answers(*clean))
    assert found[0] is reason


def test_many_zones_failing_together_mean_the_resolver() -> None:
    def health(i: int, reason: Reason | None) -> ZoneHealth:
        return ZoneHealth(f"bl{i}.operator{i}.example.org{i}", Kind.IPV4, reason)

    alike = suspect_resolver([health(i, Reason.ZONE_UNREACHABLE) for i in range(5)])
    assert {h.reason for h in alike} == {Reason.RESOLVER}
    mixed = [health(i, Reason.ZONE_DEAD if i else None) for i in range(2)]
    assert suspect_resolver(mixed) == mixed
    few = [health(i, Reason.QUERY_REFUSED if i < 3 else None) for i in range(9)]
    assert suspect_resolver(few) == few


ZONES = {
    ("mail.example", "A"): ["192.0.2.5"],
    ("mail.example", "AAAA"): ["2001:db8::5"],
    ("spf.example", "TXT"): [
        "other",
        "v=spf1 ip4:192.0.2.8/31 ip6:2001:db8::9 a:mail.example/31 mx include:inc.example -ip4:10.0.0.1 -all",
    ],
    ("spf.example", "MX"): ["10 mail.example."],
    ("inc.example", "TXT"): ["v=spf1 redirect=more.example"],
    ("more.example", "TXT"): ["v=spf1 ip4:192.0.2.77 exists:%{i}.x.example ?all"],
    ("loop.example", "TXT"): ["v=spf1 include:loop.example"],
    ("broken.example", "TXT"): DnsStatus.SERVFAIL,
}


async def test_subjects_are_expanded() -> None:
    resolver = StaticResolver(ZONES)
    found = [s.text for s in await expand(["192.0.2.0/31", "host:mail.example", "example.com"], resolver)]
    assert found == ["192.0.2.0", "192.0.2.1", "192.0.2.5", "2001:db8::5", "example.com"]
    spf = [s.text for s in await expand(["spf:spf.example", "192.0.2.8"], resolver)]
    assert spf == [
        *("192.0.2.8", "192.0.2.9", "2001:db8::9", "192.0.2.4", "192.0.2.5", "2001:db8::5", "192.0.2.77"),
    ]


async def test_subjects_that_cannot_be_expanded() -> None:
    resolver = StaticResolver(ZONES)
    for text in ("spf:none.example", "spf:loop.example", "host:nothing.example", "10.0.0.0/8", "10.0.0.0/x"):
        with pytest.raises(ConfigError):
            await expand([text], resolver)
    with pytest.raises(DnsUnavailable):
        await expand(["spf:broken.example"], resolver)
    assert len(expand_network("10.0.0.0/24")) == 256
