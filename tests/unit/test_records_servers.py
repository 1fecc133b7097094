"""What stands behind the records: mail exchangers, their certificates, DANE, DNSSEC, name servers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence

import dns.dnssec
import dns.message
import dns.name
import dns.rrset
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from dns.dnssectypes import Algorithm

from probes.clock import FakeClock
from probes.dns import DnsAnswer, DnsStatus, StaticResolver
from probes.outcome import Outcome, Severity
from probes.records.dane import check_dane, digest, parse_tlsa
from probes.records.dnssec import DnssecState, check_dnssec
from probes.records.exchangers import judge_contacts
from probes.records.finding import KINDS, Finding
from probes.records.reach import Contact, SmtpReach
from probes.records.rules import score
from probes.records.senders import SendingHost, check_senders
from probes.records.servers import Authorities, Zone, check_servers
from probes.records.spf import survey_spf
from probes.records.sts import check_mta_sts
from tests.fakes import certificates
from tests.fakes.smtp_server import HANG, Drop, FakeSmtp, Script

HOST = "mx1.example.net"
NOW = FakeClock().wall()


# --- mail exchangers ----------------------------------------------------------------------------------------


async def contact(script: Script, seconds: float = 5.0) -> Contact:
    async with FakeSmtp(script) as server:
        reach = SmtpReach(certificates.client_context(), port=server.port, seconds=seconds)
        found = await reach(HOST, "127.0.0.1")
        assert not server.messages
        assert {line.split()[0] for line in server.commands} <= {"EHLO", "STARTTLS", "QUIT"}
    return found


async def test_a_good_exchanger() -> None:
    found = await contact(Script(tls=certificates.server_context()))
    assert (found.state, found.extended, found.starttls, found.trusted) == ("answered", True, True, True)
    assert len(found.chain) == 1


@pytest.mark.parametrize(
    ("script", "state", "starttls", "trusted"),
    [
        (Script(starttls=False), "answered", False, None),
        (Script(tls=certificates.server_context("expired")), "answered", True, True),
        (Script(tls=certificates.server_context("wrong-name")), "answered", True, True),
        (Script(replies={"greeting": b"554 no\r\n"}), "answered", False, None),
        (Script(replies={"greeting": HANG}), "silent", False, None),
        (Script(replies={"greeting": b"220-" + b"x" * 5000}), "silent", False, None),
        (Script(replies={"greeting": b"220-x\r\n" * 200}), "silent", False, None),
        (Script(replies={"greeting": Drop()}), "silent", False, None),
        (Script(replies={"EHLO": b"502 what\r\n"}), "answered", False, None),
        (Script(replies={"STARTTLS": b"454 not now\r\n"}), "answered", False, None),
        (Script(replies={"STARTTLS": Drop(b"220 go\r\n")}), "answered", True, None),
    ],
)
async def test_exchangers_as_they_come(
    script: Script, state: str, starttls: bool, trusted: bool | None
) -> None:
    found = await contact(script, seconds=0.5)
    assert (found.state, found.starttls, found.trusted) == (state, starttls, trusted)
    assert bool(found.chain) == (trusted is not None)


async def test_nobody_listens() -> None:
    async with FakeSmtp(Script()) as server:
        port = server.port
    found = await SmtpReach(certificates.client_context(), port=port)(HOST, "127.0.0.1")
    assert found.state == "refused"


def codes(findings: Sequence[Finding]) -> list[str]:
    return [f"{finding.code}{'?' if finding.unknown else ''}" for finding in findings]


def test_silence_is_a_fault_only_where_another_one_answers() -> None:
    silent = Contact("a.example", "192.0.2.1", "silent", "no answer")
    good = Contact("b.example", "192.0.2.2", "answered", extended=True, starttls=False)
    assert codes(judge_contacts([silent], False, NOW)) == ["mx-unknown?"]
    assert codes(judge_contacts([silent, good], False, NOW)) == ["mx-unreachable", "mx-starttls"]
    refused = Contact("a.example", "192.0.2.1", "refused")
    assert codes(judge_contacts([refused], False, NOW)) == ["mx-unreachable"]


async def test_a_certificate_near_its_end() -> None:
    found = await contact(Script(tls=certificates.server_context()))
    day = 86400.0
    ends = time.time() + 400 * day
    for left, wanted in ((30, []), (15, ["mx-expires"]), (5, ["mx-expires"]), (-1, ["mx-expired"])):
        assert codes(judge_contacts([found], False, ends - left * day)) == wanted


# --- DANE ---------------------------------------------------------------------------------------------------


async def test_dane() -> None:
    shown = await contact(Script(tls=certificates.server_context()))
    right = digest(shown.chain[0], 1, 1)
    assert right is not None
    name = f"_25._tcp.{HOST}"

    async def look(records: Sequence[str] | DnsStatus, signed: bool | None = True) -> list[str]:
        resolver = StaticResolver({(name, "TLSA"): records})
        return codes(await check_dane([HOST], [shown], {HOST: signed}, resolver))

    assert await look([f"3 1 1 {right.hex()}"]) == []
    assert await look([f"3 0 1 {hashlib.sha256(shown.chain[0]).hexdigest()}"]) == []
    assert await look([f"3 0 0 {shown.chain[0].hex()}", "3 1 1 " + "00" * 32]) == []
    assert await look(["3 1 1 " + "00" * 32]) == ["dane-mismatch"]
    assert await look(["1 1 1 " + right.hex()]) == ["dane-record"]
    assert await look([f"3 1 1 {right.hex()}"], signed=False) == ["dane-unsigned"]
    assert await look(DnsStatus.SERVFAIL) == ["dane-unknown?"]
    assert codes(await check_dane([HOST], [], {}, StaticResolver({(name, "TLSA"): ["3 1 1 00"]}))) == [
        "dane-unknown?"
    ]
    assert await look([]) == []
    assert parse_tlsa("rubbish") is None


# --- DNSSEC -------------------------------------------------------------------------------------------------

APEX = dns.name.from_text("a.example")
ZONE = Zone("a.example", (("ns.a.example", "192.0.2.1"),))


def signed_keys(expires: float, inception: float = 0.0) -> tuple[dns.message.Message, str]:
    """A DNSKEY answer with its signature, and the DS that belongs to it."""
    private = ec.generate_private_key(ec.SECP256R1())
    key = dns.dnssec.make_dnskey(private.public_key(), Algorithm.ECDSAP256SHA256, flags=257)
    rrset = dns.rrset.from_rdata(APEX, 60, key)
    begins = int(inception or NOW - 86400)
    signature = dns.dnssec.sign(rrset, private, APEX, key, inception=begins, expiration=int(expires))
    message = dns.message.make_response(dns.message.make_query(APEX, "DNSKEY"))
    message.answer = [rrset, dns.rrset.from_rdata(APEX, 60, signature)]
    return message, dns.dnssec.make_ds(APEX, key, "SHA256").to_text()


def asks(
    answer: dns.message.Message | None,
) -> Callable[[str, str, str], Awaitable[dns.message.Message | None]]:
    async def ask(address: str, name: str, rdtype: str) -> dns.message.Message | None:
        assert (address, name, rdtype) == ("192.0.2.1", "a.example", "DNSKEY")
        return None if answer is None else dns.message.from_wire(answer.to_wire())

    return ask


async def state(answer: dns.message.Message | None, ds: Sequence[str] | DnsStatus) -> DnssecState:
    resolver = StaticResolver({("a.example", "DS"): ds})
    return await check_dnssec(ZONE, resolver, FakeClock(), asks(answer))


async def test_dnssec() -> None:
    good, ds = signed_keys(NOW + 30 * 86400)
    assert (await state(good, [ds])).state == "signed"
    assert (await state(good, [])).state == "unsigned"
    assert (await state(good, DnsStatus.SERVFAIL)).state == "unknown"
    assert (await state(None, [ds])).state == "unknown"
    empty = dns.message.make_response(dns.message.make_query(APEX, "DNSKEY"))
    unsigned = dns.message.make_response(dns.message.make_query(APEX, "DNSKEY"))
    unsigned.answer = good.answer[:1]
    other, _ = signed_keys(NOW + 30 * 86400)
    late, late_ds = signed_keys(NOW - 60, NOW - 86400)
    for answer, anchor, code in (
        (empty, ds, "dnssec-keys"),
        (other, ds, "dnssec-ds"),
        (unsigned, ds, "dnssec-signature"),
        (late, late_ds, "dnssec-signature"),
    ):
        found = await state(answer, [anchor])
        assert (found.state, codes(found.findings)) == ("bogus", [code])
    soon, soon_ds = signed_keys(NOW + 86400)
    assert codes((await state(soon, [soon_ds])).findings) == ["dnssec-soon"]
    assert (await state(good, ["rubbish", ds])).state == "signed"


# --- name servers -------------------------------------------------------------------------------------------


class Server:
    """One name server: a map, or one status for everything."""

    def __init__(self, said: dict[tuple[str, str], list[str]] | DnsStatus) -> None:
        self._said = said

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        if isinstance(self._said, DnsStatus):
            return DnsAnswer(name, rdtype, self._said)
        return await StaticResolver({**self._said}).query(name, rdtype)


SOA = {("a.example", "SOA"): ["ns1.a.example. h.a.example. 1 2 3 4 5"]}
SPF = {**SOA, ("a.example", "TXT"): ["v=spf1 -all", "about something else"]}


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (SPF, SPF, []),
        (SPF, {**SOA, ("a.example", "TXT"): ["other", "v=spf1 -all"]}, []),
        (SPF, {**SOA, ("a.example", "TXT"): ["v=spf1 +all"]}, ["ns-split"]),
        (SPF, SOA, ["ns-split"]),
        (SPF, DnsStatus.TIMEOUT, ["ns-silent"]),
        (SPF, DnsStatus.REFUSED, ["ns-lame"]),
        (SPF, DnsStatus.SERVFAIL, ["ns-lame"]),
        (DnsStatus.TIMEOUT, DnsStatus.TIMEOUT, ["ns-unknown?"]),
        (DnsStatus.REFUSED, DnsStatus.TIMEOUT, ["ns-unknown?"]),
        (SPF, {**SPF, ("a.example", "SOA"): ["ns1.a.example. h.a.example. 9 2 3 4 5"]}, ["ns-serial"]),
    ],
)
async def test_name_servers(first: object, second: object, wanted: list[str]) -> None:
    servers = {"192.0.2.1": first, "192.0.2.2": second}
    authorities = Authorities(StaticResolver({}), lambda address: Server(servers[address]))  # type: ignore[arg-type]
    zone = Zone("a.example", (("ns1.a.example", "192.0.2.1"), ("ns2.a.example", "192.0.2.2")))
    found = await check_servers(zone, [("a.example", "TXT")], authorities)
    assert codes(found) == wanted


async def test_the_zone_of_a_name() -> None:
    resolver = StaticResolver(
        {
            ("a.example", "NS"): ["ns1.a.example.", "gone.example."],
            ("ns1.a.example", "A"): ["192.0.2.1"],
            ("x.a.example", "TXT"): ["x"],
        }
    )
    zone = await Authorities(resolver).zone_of("deep.x.a.example")
    assert zone == Zone("a.example", (("ns1.a.example", "192.0.2.1"),), ("gone.example",))
    assert codes(await check_servers(Zone("a.example", (), zone.nameless), [], Authorities(resolver))) == [
        "ns-unresolved"
    ]
    dark = StaticResolver({}, default=DnsStatus.SERVFAIL)
    assert await Authorities(dark).zone_of("a.example") is None


# --- senders, SPF, rules ------------------------------------------------------------------------------------

SENDING = {
    ("a.example", "TXT"): ["v=spf1 ip4:192.0.2.1 ~all"],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["out.a.example."],
    ("out.a.example", "A"): ["192.0.2.1"],
    ("7.2.0.192.in-addr.arpa", "PTR"): ["out7.a.example."],
    ("out7.a.example", "A"): ["192.0.2.7"],
}


async def test_senders() -> None:
    resolver = StaticResolver(SENDING)

    async def look(*hosts: SendingHost) -> list[Finding]:
        return await check_senders("a.example", hosts, resolver)

    assert await look(SendingHost("192.0.2.1", "out.a.example", "a.example")) == []
    assert codes(await look(SendingHost("192.0.2.1", "out7.a.example"))) == ["helo-unconfirmed"]
    assert await look(SendingHost("192.0.2.1", "[192.0.2.1]")) == []
    found = await look(SendingHost("192.0.2.7", "out7.a.example"))
    assert codes(found) == ["spf-sender"]
    assert found[0].fix == 'a.example. TXT "v=spf1 ip4:192.0.2.1 ip4:192.0.2.7 ~all"'
    assert await look(SendingHost("192.0.2.7", "out7.a.example", "other.example")) == []


async def test_the_spf_tree_is_drawn() -> None:
    zone = {
        ("a.example", "TXT"): ["v=spf1 mx include:b.example include:c.example redirect=d.example"],
        ("a.example", "MX"): ["10 a.example."],
        ("b.example", "TXT"): ["v=spf1 a:gone.example ip4:192.0.2.1 -all"],
        ("d.example", "TXT"): ["v=spf1 -all"],
    }
    found = await survey_spf("a.example", StaticResolver(zone))
    assert found.draw() == [
        "a.example: v=spf1 mx include:b.example include:c.example redirect=d.example",
        "├─ mx (1)",
        "├─ include:b.example (2)",
        "│  └─ a:gone.example (1)  <- nothing there",
        "├─ include:c.example (1)  <- no SPF record",
        "└─ redirect=d.example (1)",
    ]
    assert (found.lookups, found.voids) == (5, 1)


def test_the_rules_of_bulk_senders() -> None:
    lines = score([Finding("spf-all", Severity.ERROR, "a.example", "what")], {"spf", "dmarc", "mx"})
    by_rule = {(line.provider, line.rule): line.outcome for line in lines}
    assert by_rule["gmail", "spf"] is Outcome.FAIL
    assert by_rule["gmail", "dmarc"] is Outcome.PASS
    assert by_rule["yahoo", "dkim"] is Outcome.UNKNOWN, "no selector was looked at"
    assert by_rule["microsoft", "alignment"] is Outcome.UNKNOWN


def test_kinds_are_no_prefix_of_each_other() -> None:
    assert not any(one != other and one.startswith(f"{other}-") for one in KINDS for other in KINDS)


async def test_without_a_fetcher_the_policy_is_not_known() -> None:
    resolver = StaticResolver({("_mta-sts.a.example", "TXT"): ["v=STSv1; id=1"]})
    found = await check_mta_sts("a.example", [], resolver, None)
    assert (found.findings, found.policy, found.text) == ([], None, None)
