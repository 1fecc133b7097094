"""Record faults made in the lab: each is found, with its finding and its fix; a clean domain has none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dns.query
import dns.rcode
import dns.update
import pytest
from aiohttp import web

from agent.records_means import survey_means
from agent.store import records as store
from probes.dns_client import DnsResolver
from probes.outcome import Outcome, Result
from probes.records.senders import SendingHost
from probes.records.survey import Survey, survey
from tests.fakes import certificates
from tests.fakes.dns_server import DnsServer, zone_data
from tests.fakes.smtp_server import Drop, FakeSmtp, Script
from tests.lab.agents import lab_agent
from tests.lab.policy_host import authorities, policy, policy_host
from tests.lab.world.lab import Lab

DOMAIN = "direct.test"
SELECTORS = ("mail", "ed")
SHORT_KEY = (
    "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDRvQxTXnyLMN8uMmH4vp8HbeNRb6rtiwUEztTFCRzi70"
    "HB7VPXJmOcp/lWSEcTwjsdyf8/V5sG5oX4Z0aOlRnfqLJGNsRGKVhZzFLbzvSJqHbXXPv0xLxcFZWkK7Vz1Ys0bvpfgS7B2+HHUg"
    "XQWDA3Q3Z5e8R3JmFzSMA1Vq4YjQIDAQAB"
)


async def look(lab: Lab, *, trusted: str | None = None) -> Result:
    """A survey of the domain with its real sending host and selectors."""
    resolver = DnsResolver([lab.resolver], cache=0)
    means = survey_means(resolver, ca_file=trusted or str(lab.ca_file), allow_loopback=True)
    host = SendingHost(lab.source_ip("direct"), f"out.{DOMAIN}", DOMAIN)
    return await survey(Survey(DOMAIN, SELECTORS, [host]), means)


def reverse(lab: Lab) -> str:
    """The name of the sending host's PTR."""
    return ".".join(reversed(lab.source_ip("direct").split("."))) + ".in-addr.arpa"


async def test_a_clean_domain_has_no_finding(lab: Lab) -> None:
    found = await look(lab)
    assert found.outcome is Outcome.PASS
    assert found.data["findings"] == []
    rules: Any = found.data["rules"]
    assert {line["outcome"] for line in rules} == {"pass", "unknown"}
    assert all(
        line["outcome"] == "pass" for line in rules if line["rule"] not in ("alignment", "unsubscribe")
    )


Change = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True)
class Case:
    """A fault: the records that make it, the finding, and what its fix must say. {} stands for DOMAIN."""

    code: str
    fix: str
    changes: tuple[Change, ...]

    def __str__(self) -> str:
        return self.code


def case(
    code: str, fix: str, *changes: tuple[str, str] | tuple[str, str, str] | tuple[str, str, str, str]
) -> Case:
    """Changes are (name, type, values...)."""
    return Case(code, fix, tuple((change[0], change[1], change[2:]) for change in changes))


INCLUDES = tuple((f"i{i}.test", "TXT", "v=spf1 -all") for i in range(11))
MANY = "v=spf1 " + " ".join(f"include:i{i}.test" for i in range(11)) + " -all"

FAULTS = [
    case("mx-missing", "MX 10 mail.", (DOMAIN, "MX")),
    case("mx-unresolved", "nowhere.test. A", (DOMAIN, "MX", "10 nowhere.test.")),
    case(
        "mx-alias",
        "mx.provider-a.test",
        ("alias.test", "CNAME", "mx.provider-a.test."),
        (DOMAIN, "MX", "10 alias.test."),
    ),
    case("mx-address", "give the host a name", (DOMAIN, "MX", "10 192.0.2.1.")),
    case("mx-null-and-others", "MX 0 . alone", (DOMAIN, "MX", "0 .", "10 smtp.sender.test.")),
    case("mx-unreachable", "start the mail server", (DOMAIN, "MX", "10 imap.provider-a.test.")),
    case("spf-missing", "v=spf1 mx -all", (DOMAIN, "TXT", "hello")),
    case(
        "spf-several",
        'one record only: direct.test. TXT "v=spf1 a mx -all"',
        (DOMAIN, "TXT", "v=spf1 mx -all", "v=spf1 a ~all"),
    ),
    case("spf-syntax", "correct that term", (DOMAIN, "TXT", "v=spf1 ipv4:192.0.2.1 -all")),
    case("spf-all", "v=spf1 mx -all", (DOMAIN, "TXT", "v=spf1 mx +all")),
    case("spf-open", "v=spf1 mx -all", (DOMAIN, "TXT", "v=spf1 mx ?all")),
    case("spf-ptr", "name the addresses", (DOMAIN, "TXT", "v=spf1 ptr -all")),
    case("spf-lookups", "include:i0.test (1)", (DOMAIN, "TXT", MANY), *INCLUDES),
    case("spf-voids", "take out the terms", (DOMAIN, "TXT", "v=spf1 a:n1.test a:n2.test a:n3.test -all")),
    case(
        "spf-include",
        f'take include:gone.test out: {DOMAIN}. TXT "v=spf1 -all"',
        (DOMAIN, "TXT", "v=spf1 include:gone.test -all"),
    ),
    case(
        "spf-loop",
        "take include",
        (DOMAIN, "TXT", "v=spf1 include:l.test -all"),
        ("l.test", "TXT", f"v=spf1 include:{DOMAIN} -all"),
    ),
    case("spf-sender", "v=spf1 ip4:192.0.2.7 ip4:127.", (DOMAIN, "TXT", "v=spf1 ip4:192.0.2.7 -all")),
    case("dkim-missing", "public half of the key", (f"mail._domainkey.{DOMAIN}", "TXT")),
    case("dkim-revoked", "public half of the key", (f"mail._domainkey.{DOMAIN}", "TXT", "v=DKIM1; p=")),
    case("dkim-syntax", "public half of the key", (f"mail._domainkey.{DOMAIN}", "TXT", "v=DKIM1; p=xx")),
    case("dkim-short", "a key of 2048 bits", (f"mail._domainkey.{DOMAIN}", "TXT", "{short}")),
    case("dkim-testing", "take t=y out", (f"mail._domainkey.{DOMAIN}", "TXT", "{testing}")),
    case("dmarc-missing", "v=DMARC1; p=none", (f"_dmarc.{DOMAIN}", "TXT")),
    case(
        "dmarc-several",
        'leave one: _dmarc.direct.test. TXT "v=DMARC1; p=reject"',
        (f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=none", "v=DMARC1; p=reject"),
    ),
    case("dmarc-syntax", "correct it", (f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=reject; adkim=x")),
    case("dmarc-broken", "v=DMARC1; p=none", (f"_dmarc.{DOMAIN}", "TXT", "v=dmarc1; p=reject")),
    case(
        "dmarc-external",
        "direct.test._report._dmarc.provider-a.test. TXT",
        (f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=reject; rua=mailto:d@provider-a.test"),
    ),
    case("mta-sts-record", "v=STSv1; id=", (f"_mta-sts.{DOMAIN}", "TXT", "v=STSv1; id=")),
    case(
        "tls-rpt-record", "v=TLSRPTv1; rua=mailto:", (f"_smtp._tls.{DOMAIN}", "TXT", "v=TLSRPTv1; rua=nobody")
    ),
    case(
        "bimi-record",
        "v=BIMI1; l=https://",
        (f"default._bimi.{DOMAIN}", "TXT", "v=BIMI1; l=http://x.test/x.svg"),
    ),
    case(
        "bimi-policy",
        f'_dmarc.{DOMAIN}. TXT "v=DMARC1; p=quarantine"',
        (f"default._bimi.{DOMAIN}", "TXT", "v=BIMI1; l="),
        (f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=none"),
    ),
    case("ptr-missing", f"PTR out.{DOMAIN}. ", ("{reverse}", "PTR")),
    case("ptr-unconfirmed", "ns.test. A 127.", ("{reverse}", "PTR", "ns.test.")),
    case("helo-unconfirmed", f"out.{DOMAIN}. A 127.", (f"out.{DOMAIN}", "A", "192.0.2.9")),
    case("dane-unsigned", "sign the zone", ("_25._tcp.smtp.sender.test", "TLSA", "3 1 1 " + "ab" * 32)),
]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
async def test_each_fault_is_found_with_its_fix(lab: Lab, fault: Case) -> None:
    key = lab.dns.get(f"mail._domainkey.{DOMAIN}", "TXT")
    facts = {"reverse": reverse(lab), "short": SHORT_KEY, "testing": f"{key[0]}; t=y" if key else ""}
    for name, kind, values in fault.changes:
        lab.dns.set(name.format(**facts), kind, *(_filled(value, facts) for value in values))
    found = await look(lab)
    items: Any = found.data["findings"]
    codes = [item["code"] for item in items]
    assert found.outcome is Outcome.FAIL, codes
    assert fault.code in codes
    fix = next(item["fix"] for item in items if item["code"] == fault.code)
    assert fault.fix in fix


def _filled(value: str, facts: dict[str, str]) -> str:
    return facts.get(value.strip("{}"), value) if value.startswith("{") else value


# --- servers of the test's own ------------------------------------------------------------------------------

HOST = "mx1.example.net"  # one of the names in the certificates of tests.fakes


def address(lab: Lab, last: int) -> str:
    """An address of the lab's block that nobody else listens on."""
    return f"127.{100 + lab.layout.slot}.9.{last}"


@pytest.mark.parametrize(
    ("code", "fix", "script"),
    [
        ("mx-starttls", "switch STARTTLS on", Script(starttls=False)),
        (
            "mx-expired",
            f"renew the certificate of {HOST}",
            Script(tls=certificates.server_context("expired")),
        ),
        (
            "mx-name",
            f"a certificate with the name {HOST}",
            Script(tls=certificates.server_context("wrong-name")),
        ),
        ("mx-tls", "TLS 1.2", Script(replies={"STARTTLS": Drop(b"220 go on\r\n")})),
    ],
)
async def test_faults_of_a_mail_exchanger(lab: Lab, code: str, fix: str, script: Script) -> None:
    lab.dns.set(HOST, "A", address(lab, 1))
    lab.dns.set(DOMAIN, "MX", f"10 {HOST}.")
    async with FakeSmtp(script, address(lab, 1), 25):
        found = await look(lab)
    items: Any = found.data["findings"]
    assert [item["code"] for item in items] == [code]
    assert fix in items[0]["fix"]


@pytest.mark.parametrize(
    ("code", "fix", "body", "kind", "status"),
    [
        ("mta-sts-mx", "mx: smtp.sender.test", policy("other.test"), "text/plain", 200),
        ("mta-sts-policy", "correct that line", "version: STSv1\nmode: hard\n", "text/plain", 200),
        ("mta-sts-fetch", "as text/plain", policy("smtp.sender.test"), "text/html", 200),
        ("mta-sts-fetch", "serve the policy", "", "text/plain", 404),
        ("mta-sts-fetch", "serve the policy", "", "text/plain", 301),
    ],
)
async def test_faults_of_a_policy(
    lab: Lab, tmp_path: Path, code: str, fix: str, body: str, kind: str, status: int
) -> None:
    async with policy_host(lab, DOMAIN, lambda: _response(body, kind, status)):
        found = await look(lab, trusted=authorities(lab, tmp_path))
    items: Any = found.data["findings"]
    assert [item["code"] for item in items] == [code]
    assert fix in items[0]["fix"]


async def test_a_good_policy_is_no_fault_and_demands_a_good_certificate(lab: Lab, tmp_path: Path) -> None:
    async with policy_host(lab, DOMAIN, lambda: _response(policy("smtp.sender.test"))):
        assert (await look(lab, trusted=authorities(lab, tmp_path))).data["findings"] == []
        lone = tmp_path / "lone.pem"
        lone.write_bytes(certificates.authority_pem())
        found: Any = (await look(lab, trusted=str(lone))).data["findings"]
    assert [(item["code"], item["severity"]) for item in found] == [("mx-chain", "error")]


def _response(body: str, kind: str = "text/plain", status: int = 200) -> web.Response:
    return web.Response(text=body, content_type=kind, status=status, headers={"Location": "/elsewhere"})


# --- name servers -------------------------------------------------------------------------------------------


@asynccontextmanager
async def second_server(lab: Lab, host: str, ip: str) -> AsyncIterator[None]:
    """One more NS record for the domain; a lab's reset does not take back those of an apex."""

    def change(add: bool) -> None:
        update = dns.update.UpdateMessage(f"{DOMAIN}.")
        (update.add(f"{DOMAIN}.", 1, "NS", host) if add else update.delete(f"{DOMAIN}.", "NS", host))
        answer = dns.query.tcp(update, lab.layout.ip("authority"), timeout=5)
        assert answer.rcode() == dns.rcode.NOERROR
        lab.dns.flush(DOMAIN)

    if ip:
        lab.dns.set(host.rstrip("."), "A", ip)
    change(True)
    try:
        yield
    finally:
        change(False)


@pytest.mark.parametrize(
    ("code", "fix", "host", "last"),
    [
        ("ns-unresolved", "take the NS record out", "no-ns.test.", 0),
        ("ns-lame", "let ns2.test serve the zone", "ns2.test.", 55),
        ("ns-silent", "let ns2.test serve the zone", "ns2.test.", 77),
    ],
)
async def test_faults_of_name_servers(lab: Lab, code: str, fix: str, host: str, last: int) -> None:
    ip = {0: "", 55: lab.layout.ip("rbl"), 77: address(lab, 77)}[last]
    async with AsyncExitStack() as stack:
        if last == 77:
            await stack.enter_async_context(silent_udp(ip))
        await stack.enter_async_context(second_server(lab, host, ip))
        found = await look(lab)
    items: Any = found.data["findings"]
    assert [item["code"] for item in items] == [code]
    assert fix in items[0]["fix"]


@asynccontextmanager
async def silent_udp(ip: str) -> AsyncIterator[None]:
    """A port 53 that takes questions and says nothing."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(ip, 53))
    try:
        yield
    finally:
        transport.close()


def old_zone(lab: Lab, **changes: list[str]) -> dict[str, list[str]]:
    """What a secondary that missed a transfer serves."""
    zone = {
        f"{DOMAIN} SOA": ["ns.test. hostmaster.test. 0 3600 600 86400 1"],
        f"{DOMAIN} NS": ["ns.test.", "ns2.test."],
        f"{DOMAIN} MX": list(lab.dns.get(DOMAIN, "MX")),
        f"{DOMAIN} TXT": list(lab.dns.get(DOMAIN, "TXT")),
        f"_dmarc.{DOMAIN} TXT": list(lab.dns.get(f"_dmarc.{DOMAIN}", "TXT")),
    }
    for selector in SELECTORS:
        name = f"{selector}._domainkey.{DOMAIN}"
        zone[f"{name} TXT"] = list(lab.dns.get(name, "TXT"))
    return zone | changes


async def test_servers_that_disagree(lab: Lab) -> None:
    old = old_zone(lab, **{f"{DOMAIN} TXT": ["v=spf1 -all"]})
    async with (
        DnsServer(zone_data(old), host=address(lab, 78), port=53),
        second_server(lab, "ns2.test.", address(lab, 78)),
    ):
        found: Any = (await look(lab)).data
    split = [item for item in found["findings"] if item["code"] == "ns-split"]
    assert [item["name"] for item in split] == [DOMAIN]
    assert "ns2.test: v=spf1 -all" in split[0]["what"]
    assert "ns-serial" in [item["code"] for item in found["notes"]]


# --- drift, by an agent -------------------------------------------------------------------------------------


async def test_drift_as_an_agent_sees_it(lab: Lab, tmp_path: Path) -> None:
    """A change, its rollback, an announced change, NXDOMAIN for a minute, and a resolver that fails."""
    announced = {"name": f"_dmarc.{DOMAIN}", "type": "TXT", "value": "v=DMARC1; p=reject"}
    section = {"domains": [DOMAIN], "from_senders": False, "contact": False, "expected": [announced]}
    async with lab_agent(lab, tmp_path, records=section) as agent:
        app = agent.app

        async def seen() -> list[tuple[str, str, bool]]:
            before = app.services.database.read_now(lambda conn: len(store.events_since(conn, 0.0)))
            await app.recording.look(app.services.config, DOMAIN)
            events = app.services.database.read_now(lambda conn: store.events_since(conn, 0.0))
            new = events[: len(events) - before]
            return [(event["kind"], f"{event['rdtype']} {event['name']}", event["expected"]) for event in new]

        spf, dmarc = f"TXT {DOMAIN}", f"TXT _dmarc.{DOMAIN}"
        good = lab.dns.get(DOMAIN, "TXT")
        assert await seen() == []
        assert await seen() == []
        lab.dns.set(DOMAIN, "TXT", "v=spf1 -all")
        assert await seen() == [("change", spf, False)]
        assert alerts(app) == [f"record {DOMAIN} {spf}"]
        assert await seen() == []
        lab.dns.set(DOMAIN, "TXT", *good)
        assert await seen() == [("rollback", spf, False)]
        assert alerts(app) == []
        lab.dns.set(f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=reject")
        assert await seen() == [("change", dmarc, True)]
        assert alerts(app) == []
        for fault in ("nxdomain", "servfail", "refused", "timeout"):
            lab.dns.fault(DOMAIN, fault)  # the resolver's own: the zone's servers say what they always did
            assert await seen() == [], fault
            assert alerts(app) == [], fault
            lab.dns.fault(DOMAIN, None)
        lab.dns.delete(DOMAIN, "TXT")
        assert await seen() == [("change", spf, False)]
        lab.dns.set(DOMAIN, "TXT", *good)
        assert await seen() == [("rollback", spf, False)]
        assert alerts(app) == []


def alerts(app: Any) -> list[str]:
    """Names of the record conditions that are bad, by the newest observation of each."""
    import sqlalchemy as sa

    from agent.store.tables import observations

    query = sa.select(observations.c.body).where(observations.c.kind == "record").order_by(observations.c.id)
    bodies = app.services.database.read_now(lambda conn: [row[0] for row in conn.execute(query)])
    newest = {f"record {body['domain']} {body['record']}": body["ok"] for body in bodies}
    return sorted(name for name, ok in newest.items() if not ok)


async def test_a_split_is_an_event_and_then_a_fault(lab: Lab, tmp_path: Path) -> None:
    section = {"domains": [DOMAIN], "from_senders": False, "contact": False}
    async with lab_agent(lab, tmp_path, records=section) as agent:
        app = agent.app
        old = old_zone(lab, **{f"_dmarc.{DOMAIN} TXT": ["v=DMARC1; p=none"]})

        async def kinds() -> list[str]:
            await app.recording.look(app.services.config, DOMAIN)
            found = app.services.database.read_now(lambda conn: store.events_since(conn, 0.0))
            return [event["kind"] for event in found if event["name"] == f"_dmarc.{DOMAIN}"]

        assert await kinds() == []
        async with (
            DnsServer(zone_data(old), host=address(lab, 79), port=53),
            second_server(lab, "ns2.test.", address(lab, 79)),
        ):
            assert await kinds() == ["split"]
            assert f"record {DOMAIN} TXT _dmarc.{DOMAIN}" not in alerts(app), "a transfer may be under way"
            assert await kinds() == ["split"]
            assert f"record {DOMAIN} TXT _dmarc.{DOMAIN}" in alerts(app)
        assert await kinds() == ["agreed", "split"]
        assert f"record {DOMAIN} TXT _dmarc.{DOMAIN}" not in alerts(app)


async def test_a_policy_that_changes_without_its_id(lab: Lab, tmp_path: Path) -> None:
    section = {"domains": [DOMAIN], "from_senders": False, "allow_loopback": True}
    section["ca_file"] = authorities(lab, tmp_path)
    body = policy("smtp.sender.test", mode="testing")
    async with lab_agent(lab, tmp_path / "agent", records=section) as agent:
        app = agent.app
        async with policy_host(lab, DOMAIN, lambda: _response(body)):
            await app.recording.look(app.services.config, DOMAIN)
            assert alerts(app) == []
            body = policy("smtp.sender.test")
            await app.recording.look(app.services.config, DOMAIN)
        assert alerts(app) == [f"record {DOMAIN} POLICY mta-sts.{DOMAIN}"]
        timeline = app.services.database.read_now(lambda conn: store.events_since(conn, 0.0))
        assert [(event["kind"], event["rdtype"], event["senders"]) for event in timeline] == [
            ("change", "POLICY", ["direct"])
        ]
