"""The parts of the demo's world, each by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import aiosmtplib
import dns.message
import dns.rcode
import pytest

from agent.config.load import load
from agent.demo import settings
from agent.demo.names import Names, NameServer, respond
from agent.demo.receivers import Receivers, read_pagerduty, read_slack
from agent.demo.world import DOMAIN_ZONE, ORIGINS, PROVIDERS, VICTIM, ZONE, World
from agent.tls import client_context
from probes.authentication.sign import sign_all
from probes.clock import SystemClock
from probes.dns import DnsStatus
from probes.dns_client import DnsResolver

VICTIM_NAME = f"{'.'.join(reversed(VICTIM.ip.split('.')))}.{ZONE}"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path, SystemClock()) as world:
        yield world


def test_names_that_are_not_there_and_names_without_that_type_differ() -> None:
    names = Names()
    names.publish("a.b.example", "A", "127.0.0.9")
    assert names.find("A.B.example", "A") == ("127.0.0.9",)
    assert names.find("a.b.example", "TXT") == ()
    assert names.find("b.example", "A") == ()
    assert names.find("c.example", "A") is None
    names.withdraw("a.b.example", "A")
    names.withdraw("a.b.example", "A")
    assert names.find("a.b.example", "A") is None
    assert names.find("b.example", "A") is None


def test_a_query_without_a_question_is_no_query() -> None:
    assert respond(Names(), dns.message.Message()).rcode() == dns.rcode.FORMERR


async def test_long_records_travel_whole_and_changes_count_at_once() -> None:
    names = Names()
    long = "v=DKIM1; p=" + "A" * 2500
    names.publish("k.example", "TXT", long)
    server = NameServer(names, "127.53.0.9")
    await server.start()
    try:
        resolver = DnsResolver([server.address], cache=0)
        assert (await resolver.query("k.example", "TXT")).records == (long,)
        names.withdraw("k.example", "TXT")
        assert (await resolver.query("k.example", "TXT")).status is DnsStatus.NXDOMAIN
    finally:
        await server.stop()


async def test_the_zones_have_their_test_points_and_the_victim_comes_and_goes(world: World) -> None:
    resolver = DnsResolver([world.dns.address], cache=0)

    async def listed(name: str) -> bool:
        return (await resolver.query(name, "A")).status is DnsStatus.OK

    assert await listed(f"2.0.0.127.{ZONE}")
    assert not await listed(f"1.0.0.127.{ZONE}")
    assert await listed(f"test.{DOMAIN_ZONE}")
    assert not await listed(f"invalid.{DOMAIN_ZONE}")
    assert not await listed(VICTIM_NAME)
    world.list_address()
    assert await listed(VICTIM_NAME)
    world.delist_address()
    assert not await listed(VICTIM_NAME)


def message(origin_name: str, token: str) -> bytes:
    return (
        f"From: hello@{origin_name}.example\r\nTo: {PROVIDERS[0].seed}\r\nSubject: a test\r\n"
        f"Date: Sun, 22 Nov 2026 01:00:00 +0000\r\nMessage-ID: <{token}@{origin_name}.example>\r\n"
        "\r\nHello.\r\n"
    ).encode()


async def send_directly(world: World, token: str, *, signed: bool = True) -> None:
    text = message(VICTIM.name, token)
    if signed:
        text = sign_all(text, [world.keys[VICTIM.name]], world.clock.wall())
    client = aiosmtplib.SMTP(
        hostname=PROVIDERS[0].ip,
        port=world.mx_port,
        source_address=(VICTIM.ip, 0),
        local_hostname=VICTIM.host,
        start_tls=False,
    )
    async with client:
        await client.sendmail(VICTIM.return_path, [PROVIDERS[0].seed], text)


async def folder(world: World, token: str, origin_name: str = VICTIM.name) -> str:
    """Where the provider filed it, and what it found."""
    async with asyncio.timeout(10):
        while (filed := world.filed().get(f"<{token}@{origin_name}.example>")) is None:
            await asyncio.sleep(0.02)
    return f"{filed.folder} spf={filed.spf} dkim={filed.dkim} dmarc={filed.dmarc} listed={filed.listed}"


async def test_the_provider_files_by_what_it_really_finds(world: World) -> None:
    await send_directly(world, "good")
    assert await folder(world, "good") == "INBOX spf=pass dkim=pass dmarc=pass listed=False"
    await send_directly(world, "bare", signed=False)
    assert await folder(world, "bare") == "Junk spf=pass dkim=none dmarc=fail listed=False"
    world.list_address()
    await send_directly(world, "listed")
    assert await folder(world, "listed") == "Junk spf=pass dkim=pass dmarc=pass listed=True"
    world.delist_address()
    world.break_key()
    await send_directly(world, "broken")
    assert await folder(world, "broken") == "Junk spf=pass dkim=fail dmarc=fail listed=False"
    world.repair_key()
    await send_directly(world, "repaired")
    assert await folder(world, "repaired") == "INBOX spf=pass dkim=pass dmarc=pass listed=False"


async def test_an_unknown_mailbox_is_refused(world: World) -> None:
    client = aiosmtplib.SMTP(hostname=PROVIDERS[0].ip, port=world.mx_port, start_tls=False)
    async with client:
        await client.mail("a@accounts.example")
        with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
            await client.rcpt(f"nobody@{PROVIDERS[0].domain}")
    assert refused.value.code == 550


@pytest.mark.parametrize("origin", [o for o in ORIGINS if o.way != "direct"], ids=lambda o: o.way)
async def test_a_relay_wants_a_login_signs_and_sends_on(world: World, origin: object) -> None:
    relay = world.relays[origin.name]  # type: ignore[attr-defined]
    context = client_context(str(world.authority.ca_file))

    def client() -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=relay.ip,
            port=relay.port,
            use_tls=relay.implicit,
            start_tls=not relay.implicit,
            tls_context=context,
        )

    async with client() as connected:
        with pytest.raises(aiosmtplib.SMTPAuthenticationError):
            await connected.login(relay.login.username, "wrong")
    async with client() as connected:
        await connected.login(relay.login.username, relay.login.password)
        name = relay.name.split(".")[1]
        await connected.sendmail(
            f"bounces@{name}.example",
            [PROVIDERS[0].seed],
            message(name, f"via-{origin.way}"),  # type: ignore[attr-defined]
        )
    filed = await folder(world, f"via-{origin.way}", name)  # type: ignore[attr-defined]
    assert filed == "INBOX spf=pass dkim=pass dmarc=pass listed=False"


async def test_the_config_is_an_ordinary_one(world: World) -> None:
    config = load(str(settings.write(world)), require_secrets=True)
    assert len(config.routes_resolved) == len(ORIGINS) * len(PROVIDERS)
    text = (world.folder / "mailcanary.yaml").read_text()
    for secret in [*world.passwords.values(), *(r.login.password for r in world.relays.values())]:
        assert secret not in text
    assert all(path.stat().st_mode & 0o077 == 0 for path in world.folder.glob("*.password"))


async def test_the_receivers_refuse_what_is_no_notification() -> None:
    receivers = Receivers()
    await receivers.start()
    try:
        async with aiohttp.ClientSession() as http:
            for url in (receivers.slack_url, receivers.pagerduty_url):
                for body in (b"{", b"{}", b"[]"):
                    assert (await http.post(url, data=body, headers=_JSON)).status == 400
        assert receivers.told == []
    finally:
        await receivers.stop()


_JSON = {"Content-Type": "application/json"}


def test_what_the_notifiers_write_is_what_the_receivers_read() -> None:
    from alerts.notification import sample
    from alerts.notifiers import pagerduty, slack

    told = sample("chat", 1.0)
    for read in (read_slack(slack.payload(told)), read_pagerduty(pagerduty.payload(told, "k"))):
        assert read.key == told.dedup_key
        assert read.title == told.title
        assert read.sections["What"] == told.sections[0].text


def test_without_its_packages_the_demo_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from agent.cli import main

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo", "--once"]) == 2
    assert "pip install 'mailcanary[demo]'" in capsys.readouterr().err
