"""Drift: the right events of changes, rollbacks, splits and lost names; none of a resolver's own faults."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from probes.dns import DnsAnswer, DnsStatus, StaticResolver
from probes.outcome import Severity
from probes.records.announced import Announced, is_announced
from probes.records.drift import Comparison, Event, Key, Known, Seen, compare, fold, kind_of
from probes.records.faults import Fault, FaultChanges, compare_faults
from probes.records.finding import Finding
from probes.records.servers import Authorities
from probes.records.snapshot import Snapshots

KEY = ("_dmarc.a.example", "TXT")


def said(*records: str, server: str = "1", status: DnsStatus = DnsStatus.OK, name: str = KEY[0]) -> DnsAnswer:
    return DnsAnswer(name, "TXT", status, records, 60.0, nameserver=server)


class Watch:
    """Looks in a row; `look` returns the events of one."""

    def __init__(self) -> None:
        self.known: dict[Key, Known] = {}
        self.last = Comparison()

    def look(self, *answers: DnsAnswer, direct: bool = True, expected: str = "") -> list[str]:
        meant = lambda name, rdtype, records: expected in records  # noqa: E731
        self.last = compare(self.known, {KEY: fold(answers, direct)}, meant if expected else _never)
        self.known = self.last.known
        return [event.kind + ("*" if event.expected else "") for event in self.last.events]

    def bad(self) -> bool:
        return any(known.bad for known in self.known.values())


def _never(name: str, rdtype: str, records: tuple[str, ...]) -> bool:
    return False


def test_a_change_and_its_rollback() -> None:
    watch = Watch()
    assert watch.look(said("x")) == []
    assert watch.look(said("x")) == []
    assert watch.look(said("y")) == ["change"]
    assert watch.bad()
    event = watch.last.events[0]
    assert event == Event("change", *KEY, ("x",), ("y",), 60.0, ("1",))
    assert watch.look(said("y")) == []
    assert watch.bad(), "it stays bad until it is put back or accepted"
    assert watch.look(said("x")) == ["rollback"]
    assert not watch.bad()
    assert watch.last.repaired == [KEY]


def test_an_announced_change_is_recorded_and_is_no_fault() -> None:
    watch = Watch()
    watch.look(said("x"))
    assert watch.look(said("y"), expected="y") == ["change*"]
    assert not watch.bad()
    assert watch.look(said("x")) == ["change"], "the way back was not announced"
    assert watch.look(said("x"), expected="x") == ["accepted*"], "announced after it was seen"
    assert not watch.bad()
    assert watch.last.repaired == [KEY]


@pytest.mark.parametrize("status", [s for s in DnsStatus if not s.conclusive])
def test_what_could_not_be_seen_is_no_event(status: DnsStatus) -> None:
    watch = Watch()
    watch.look(said("x"))
    for _ in range(5):
        assert watch.look(said(status=status)) == []
        assert watch.look(said(status=status), direct=False) == []
    assert watch.look(said("x")) == []
    assert not watch.bad()


def test_a_name_that_is_gone_for_a_minute() -> None:
    watch = Watch()
    watch.look(said("x"), said("x", server="2"))
    gone = (said(status=DnsStatus.NXDOMAIN), said(status=DnsStatus.NXDOMAIN, server="2"))
    assert watch.look(*gone) == ["change"]
    assert watch.last.events[0].after == ()
    assert watch.look(said("x"), said("x", server="2")) == ["rollback"]


@pytest.mark.parametrize("lie", [said("z"), said(status=DnsStatus.NXDOMAIN), said(status=DnsStatus.NODATA)])
def test_a_resolver_alone_is_believed_at_the_second_time(lie: DnsAnswer) -> None:
    watch = Watch()
    watch.look(said("x"))
    assert watch.look(lie, direct=False) == []
    assert not watch.bad()
    assert watch.look(said("x"), direct=False) == [], "a moment's fault of the resolver leaves no trace"
    assert watch.look(lie, direct=False) == []
    assert watch.look(lie, direct=False) == ["change"]


def test_servers_that_disagree() -> None:
    watch = Watch()
    watch.look(said("x"), said("x", server="2"), said("x", server="3"))
    split = (said("x"), said("y", server="2"), said("y", server="3"))
    assert watch.look(*split) == ["split"]
    assert watch.last.events[0].others == (("x",),)
    assert watch.last.events[0].servers == ("2", "3")
    assert not watch.bad(), "a transfer may be under way"
    assert watch.look(*split) == []
    assert watch.bad()
    assert watch.look(said("y"), said("y", server="2"), said("y", server="3")) == ["agreed", "change"]
    assert watch.look(said("x"), said("x", server="2")) == ["rollback"]


def test_a_split_at_the_first_look_waits_for_agreement() -> None:
    watch = Watch()
    assert watch.look(said("x"), said("y", server="2")) == []
    assert watch.look(said("y"), said("y", server="2")) == []
    assert watch.known[KEY] == Known(("y",), ("y",))


def test_a_server_that_is_silent_is_not_another_opinion() -> None:
    seen = fold([said("x"), said(status=DnsStatus.TIMEOUT, server="2")])
    assert seen == Seen(("x",), 60.0, ("1",))


def test_what_is_no_longer_watched_is_forgotten_and_counts_as_repaired() -> None:
    found = compare({KEY: Known(("y",), ("x",))}, {})
    assert (found.known, found.events, found.repaired) == ({}, [], [KEY])


def test_texts_that_are_not_about_mail_do_not_matter() -> None:
    watch = Watch()
    spf = "v=spf1 -all"
    one = fold([said(spf, "google-site-verification=1", name="a.example")])
    assert one == fold([said("hello", spf, name="a.example")])
    assert watch.known == {}


@pytest.mark.parametrize(
    ("name", "rdtype", "kind"),
    [
        ("a.example", "TXT", "spf"),
        ("a.example", "MX", "mx"),
        ("mx.a.example", "AAAA", "mx"),
        ("s1._domainkey.a.example", "TXT", "dkim"),
        ("_dmarc.a.example", "TXT", "dmarc"),
        ("_mta-sts.a.example", "TXT", "mta-sts"),
        ("mta-sts.a.example", "POLICY", "mta-sts"),
        ("_smtp._tls.a.example", "TXT", "tls-rpt"),
        ("default._bimi.a.example", "TXT", "bimi"),
        ("1.2.0.192.in-addr.arpa", "PTR", "ptr"),
        ("a.example", "DS", "dnssec"),
        ("_25._tcp.mx.a.example", "TLSA", "dane"),
        ("a.example", "NS", "ns"),
    ],
)
def test_kinds(name: str, rdtype: str, kind: str) -> None:
    assert kind_of(name, rdtype) == kind


@pytest.mark.parametrize(
    ("item", "records", "covered"),
    [
        (Announced("a.example", "TXT"), ("anything",), True),
        (Announced("a.example", "TXT", "v=spf1 -all"), ("v=spf1 -all",), True),
        (Announced("a.example", "TXT", '"v=spf1 " "-all"'), ("v=spf1 -all",), True),
        (Announced("a.example", "TXT", "v=spf1 -all"), ("v=spf1 +all",), False),
        (Announced("a.example", "TXT", ""), (), True),
        (Announced("a.example", "TXT", "x"), (), False),
        (Announced("a.example", "MX"), ("10 mx.",), False),
        (Announced("b.example", "TXT"), ("x",), False),
        (Announced("a.example", "TXT", None, until=99.0), ("x",), False),
        (Announced("a.example", "TXT", None, until=100.0), ("x",), True),
    ],
)
def test_what_an_announcement_covers(item: Announced, records: tuple[str, ...], covered: bool) -> None:
    assert is_announced([item], "a.example", "TXT", records, now=100.0) is covered


def fault(code: str = "mx-expired", severity: Severity = Severity.ERROR, *, unknown: bool = False) -> Finding:
    return Finding(code, severity, "mx.a.example", "what", unknown=unknown)


def looks(*each: Iterable[Finding], drifted: Iterable[str] = ()) -> list[FaultChanges]:
    """The changes of looks in a row."""
    known: dict[str, Fault] | None = None
    found = []
    for findings in each:
        found.append(compare_faults(known, findings, set(drifted)))
        known = found[-1].known
    return found


def test_a_fault_that_appears_is_told_at_the_second_look_and_cleared_when_gone() -> None:
    found = looks([], [fault()], [fault()], [fault()], [])
    assert [len(changes.raised) for changes in found] == [0, 0, 1, 0, 0]
    assert [len(changes.cleared) for changes in found] == [0, 0, 0, 0, 1]
    assert [changes.waiting for changes in found] == [False, True, False, False, False]


def test_a_fault_of_one_moment_is_never_told() -> None:
    found = looks([], [fault()], [], [fault()], [])
    assert not any(changes.raised or changes.cleared for changes in found)


def test_what_was_wrong_from_the_first_look_or_is_part_of_a_drift_is_not_told() -> None:
    assert not any(changes.raised or changes.waiting for changes in looks([fault()], [fault()], [fault()]))
    drifted = looks([], [fault()], [fault()], drifted=["mx.a.example"])
    assert not any(changes.raised for changes in drifted)


def test_what_cannot_be_seen_clears_nothing() -> None:
    blind = fault("mx-unknown", Severity.INFO, unknown=True)
    found = looks([], [fault()], [fault()], [blind], [fault()], [])
    assert [len(changes.cleared) for changes in found] == [0, 0, 0, 0, 0, 1]
    assert [len(changes.raised) for changes in found] == [0, 0, 1, 0, 0, 0]


def test_warnings_and_notes_are_not_told() -> None:
    mild = [fault("mx-name", Severity.WARNING), fault("mx-chain", Severity.INFO)]
    assert not any(changes.known for changes in looks([], mild, mild))


ZONE = {
    ("a.example", "NS"): ["ns1.a.example.", "ns2.a.example."],
    ("ns1.a.example", "A"): ["192.0.2.1"],
    ("ns2.a.example", "A"): ["192.0.2.2"],
    ("a.example", "TXT"): ["v=spf1 -all"],
    ("a.example", "MX"): ["10 mx.a.example.", "20 mx.other.example."],
    ("mx.a.example", "A"): ["192.0.2.9"],
    ("mx.other.example", "A"): ["198.51.100.9"],
    ("s1._domainkey.a.example", "CNAME"): ["s1.esp.example."],
    ("s1._domainkey.a.example", "TXT"): ["v=DKIM1; p=A"],
}


async def test_a_snapshot_is_what_the_zones_own_servers_say() -> None:
    lying = StaticResolver(
        {**ZONE, ("a.example", "TXT"): ["v=spf1 +all"], ("_dmarc.a.example", "TXT"): ["x"]}
    )
    own = {key: records for key, records in ZONE.items() if key[0] != "s1._domainkey.a.example"}
    servers = StaticResolver({**own, ("s1._domainkey.a.example", "CNAME"): ["s1.esp.example."]})
    seen = await Snapshots(lying, Authorities(lying, lambda address: servers)).take("a.example", ["s1"])
    spf, dmarc, key = (
        seen[name, "TXT"] for name in ("a.example", "_dmarc.a.example", "s1._domainkey.a.example")
    )
    assert spf is not None
    assert (spf.records, spf.direct) == (("v=spf1 -all",), True)
    assert dmarc is not None
    assert (dmarc.records, dmarc.direct) == ((), True), "the resolver made it up"
    assert key is not None
    assert (key.records, key.direct) == (("v=DKIM1; p=A",), False), "it leads away from the zone"
    assert ("mx.a.example", "A") in seen
    assert ("mx.other.example", "A") not in seen, "others' hosts are their affair"


async def test_servers_that_cannot_be_asked_leave_it_to_the_resolver() -> None:
    resolver = StaticResolver(ZONE)
    deaf = StaticResolver({}, default=DnsStatus.TIMEOUT)
    seen = await Snapshots(resolver, Authorities(resolver, lambda address: deaf)).take("a.example")
    spf = seen["a.example", "TXT"]
    assert spf is not None
    assert (spf.records, spf.direct) == (("v=spf1 -all",), False)
    nothing = await Snapshots(deaf, Authorities(deaf, lambda address: deaf)).take("a.example")
    assert set(nothing.values()) == {None}
