"""Where mail goes: order of preference, the domain itself, null MX, literals, families, the hosts file."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from probes.canary.exchange import (
    HOSTS_MAXIMUM,
    LookupFailed,
    NoMail,
    direct_targets,
    host_addresses,
    hosts_file,
    known_targets,
    mail_hosts,
    relay_targets,
)
from probes.dns import DnsStatus, StaticResolver

RNG = random.Random(3)


def zone(records: dict[tuple[str, str], Any]) -> StaticResolver:
    return StaticResolver(records)


async def test_order_of_preference_and_chance_among_equals() -> None:
    resolver = zone(
        {("e.example", "MX"): ["20 c.example.", "5 a.example.", "10 b1.example.", "10 b2.example."]}
    )
    seen = {tuple(await mail_hosts("e.example", resolver, 1, RNG)) for _ in range(50)}
    assert seen == {
        ("a.example", "b1.example", "b2.example", "c.example"),
        ("a.example", "b2.example", "b1.example", "c.example"),
    }


async def test_without_mx_the_domain_itself() -> None:
    resolver = zone({("e.example", "A"): ["192.0.2.1"], ("e.example", "AAAA"): ["2001:db8::1"]})
    targets = await direct_targets("e.example", resolver, 1, RNG)
    assert [(t.host, t.ip) for t in targets] == [("e.example", "192.0.2.1"), ("e.example", "2001:db8::1")]


async def test_certain_refusals() -> None:
    with pytest.raises(NoMail) as caught:
        await mail_hosts("none.example", zone({}), 1, RNG)
    assert caught.value.reply.meaning.key == "no_such_domain"
    with pytest.raises(NoMail) as caught:
        await mail_hosts("e.example", zone({("e.example", "MX"): ["0 ."]}), 1, RNG)
    assert (caught.value.reply.code, caught.value.reply.meaning.key) == (556, "null_mx")


async def test_a_null_mx_beside_others_is_ignored() -> None:
    resolver = zone({("e.example", "MX"): ["0 .", "10 mx.example."]})
    assert await mail_hosts("e.example", resolver, 1, RNG) == ["mx.example"]


@pytest.mark.parametrize(
    "status", [DnsStatus.SERVFAIL, DnsStatus.REFUSED, DnsStatus.TIMEOUT, DnsStatus.ERROR]
)
async def test_no_answer_is_never_no_mail(status: DnsStatus) -> None:
    with pytest.raises(LookupFailed):
        await mail_hosts("e.example", zone({("e.example", "MX"): status}), 1, RNG)
    with pytest.raises(LookupFailed):
        await host_addresses("h.example", zone({("h.example", "A"): status}), 1)


@pytest.mark.parametrize("records", [["rubbish"], ["x mx.example."], [""]])
async def test_rubbish_records(records: list[str]) -> None:
    with pytest.raises(LookupFailed):
        await mail_hosts("e.example", zone({("e.example", "MX"): records}), 1, RNG)


async def test_one_dead_host_does_not_hide_the_next() -> None:
    resolver = zone(
        {
            ("e.example", "MX"): ["1 dead.example.", "2 mx.example."],
            ("dead.example", "A"): DnsStatus.SERVFAIL,
            ("mx.example", "A"): ["192.0.2.9"],
        }
    )
    assert [t.ip for t in await direct_targets("e.example", resolver, 1, RNG)] == ["192.0.2.9"]


async def test_the_source_address_chooses_the_family() -> None:
    resolver = zone({("h.example", "A"): ["192.0.2.1"], ("h.example", "AAAA"): ["2001:db8::1"]})
    assert await host_addresses("h.example", resolver, 1, source_ip="::1") == ["2001:db8::1"]
    assert await host_addresses("h.example", resolver, 1, source_ip="127.0.0.1") == ["192.0.2.1"]


async def test_literals_and_caps() -> None:
    assert [t.ip for t in await direct_targets("[192.0.2.5]", zone({}), 1, RNG)] == ["192.0.2.5"]
    assert [t.ip for t in await direct_targets("[IPv6:2001:db8::5]", zone({}), 1, RNG)] == ["2001:db8::5"]
    many = zone({("h.example", "A"): [f"192.0.2.{n}" for n in range(1, 99)]})
    assert len(await relay_targets("h.example", many, 1)) == HOSTS_MAXIMUM


async def test_relays() -> None:
    assert known_targets("localhost")[0].ip == "127.0.0.1"
    assert [target.ip for target in known_targets("[192.0.2.7]")] == ["192.0.2.7"]
    assert known_targets("h.example") == []
    with pytest.raises(LookupFailed):
        await relay_targets("none.example", zone({}), 1)


def test_the_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("192.0.2.7 Relay relay.example # ours\nrubbish x\n2001:db8::7 relay.example\n")
    assert hosts_file("RELAY.example.", str(path)) == ("192.0.2.7", "2001:db8::7")
    assert hosts_file("x", str(path)) == ()
    assert hosts_file("localhost", str(tmp_path / "none")) == ("127.0.0.1", "::1")
