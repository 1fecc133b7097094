"""The agent's sweep: listings as events, each change seen twice, zones by health, resumed, told in words."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from agent.app import App
from agent.runner import watching
from agent.store import reputation
from agent.store.tables import listings, observations, zones
from tests.fakes.dns_server import DROP, NXDOMAIN, REFUSED, DnsServer, Reply, Script, always
from tests.fakes.sweeping_agent import observed, rows, status, sweeping_agent

ZONES = ("one.example", "two.example", "three.example")
YES = Reply(("127.0.0.2",))


class World:
    """Zones whose listings a test changes, and overlays of misbehaviour by zone."""

    def __init__(self) -> None:
        self.listed: dict[str, Reply] = {}
        self.bad: dict[str, Script] = {}

    def __call__(self, name: str, rdtype: str) -> Reply:
        zone = next((z for z in (*ZONES, "secret0key.keyed.example") if name.endswith(f".{z}")), "")
        if zone in self.bad:
            return self.bad[zone](name, rdtype)
        if name in self.listed:
            return self.listed[name] if rdtype == "A" else Reply((f"because of {name}",))
        points = {f"2.0.0.127.{zone}", f"test.{zone}"}
        return (YES if rdtype == "A" else Reply()) if zone and name in points else NXDOMAIN


OWN: list[dict[str, Any]] = [{"zone": zone, "kinds": ["ipv4", "domain"]} for zone in ZONES]
OWN[0] |= {
    "delist": "https://one.example/remove",
    "codes": [
        {"code": "127.0.0.2", "text": "spam", "severity": "critical"},
        {"code": "127.0.0.3", "text": "a note", "severity": "info"},
    ],
}
KEYED = {"zone": "keyed.example", "origin": "{key}.keyed.example", "kinds": ["ipv4"]}


def agent(folder: Path, *servers: str, **more: Any) -> AbstractAsyncContextManager[App]:
    """An agent that watches two addresses and its sender's domain in three zones."""
    found = {"zones": OWN, "subjects": {"ips": ["192.0.2.1", "192.0.2.2"]}, **more}
    return sweeping_agent(folder, servers, **found)


async def test_a_listing_begins_goes_on_and_ends(tmp_path: Path) -> None:
    world = World()
    async with DnsServer(world) as server, agent(tmp_path, server.address) as app:
        await app.watching.sweep()
        assert not rows(app, listings)
        world.listed = {"1.2.0.192.one.example": YES, "acme.example.two.example": YES}
        await app.watching.sweep(anew=True)
        first = {(row["subject"], row["zone"]): row for row in rows(app, listings)}
        assert first.keys() == {("192.0.2.1", "one.example"), ("acme.example", "two.example")}
        row = first["192.0.2.1", "one.example"]
        assert (row["codes"], row["severity"], row["delisted_at"]) == (["127.0.0.2"], "critical", None)
        assert row["txt"] == "because of 1.2.0.192.one.example"
        assert row["delist_url"] == "https://one.example/remove"
        told = {x["subject"]: x for x in observed(app, "listing")}
        assert told["acme.example"]["senders"] == ["app"]
        assert (told["192.0.2.1"]["severity"], told["192.0.2.1"]["reason"]) == ("critical", row["txt"])
        world.listed["1.2.0.192.one.example"] = Reply(("127.0.0.3",))
        await app.watching.sweep(anew=True)
        changed = next(x for x in rows(app, listings) if x["zone"] == "one.example")
        assert (changed["codes"], changed["severity"]) == (["127.0.0.3"], "info")
        assert changed["since"] == row["since"]
        assert changed["last_seen"] > row["last_seen"]
        world.listed = {}
        await app.watching.sweep(anew=True)
        assert all(row["delisted_at"] and row["ended"] == "delisted" for row in rows(app, listings))
        assert {x["subject"] for x in observed(app, "listing") if x["listed"] is False} == {
            "192.0.2.1",
            "acme.example",
        }
        world.listed = {"1.2.0.192.one.example": YES}
        await app.watching.sweep(anew=True)
        history = [row for row in rows(app, listings) if row["zone"] == "one.example"]
        assert [row["ended"] for row in sorted(history, key=lambda row: row["since"])] == ["delisted", ""]


async def test_fresh_answers_are_not_asked_again(tmp_path: Path) -> None:
    async with DnsServer(World()) as server, agent(tmp_path, server.address) as app:
        await app.watching.sweep()
        before = len(server.asked)
        await app.watching.sweep()
        assert len(server.asked) == before


async def test_one_look_is_no_event(tmp_path: Path) -> None:
    world, name = World(), "1.2.0.192.one.example"
    flickers = 1

    def script(asked: str, rdtype: str) -> Reply:
        nonlocal flickers
        if asked == name and rdtype == "A" and flickers:
            flickers -= 1
            return NXDOMAIN if world.listed else YES
        return world(asked, rdtype)

    async with DnsServer(script) as server, agent(tmp_path, server.address) as app:
        await app.watching.sweep()
        assert not rows(app, listings)
        world.listed = {name: YES}
        await app.watching.sweep(anew=True)
        flickers = 1
        await app.watching.sweep(anew=True)
        assert [row["delisted_at"] for row in rows(app, listings)] == [None]


async def test_bad_zones_are_told_with_their_reason(tmp_path: Path) -> None:
    world = World()
    world.bad["two.example"] = always(Reply(("127.255.255.254",)))
    async with DnsServer(world) as server, agent(tmp_path, server.address) as app:
        await app.watching.sweep()
        found = {row["zone"]: row for row in rows(app, zones)}
        assert {zone: row["healthy"] for zone, row in found.items()} == {
            "one.example": True, "two.example": False, "three.example": True,
        }  # fmt: skip
        assert found["two.example"]["reason"].startswith("query-refused: ")
        assert found["two.example"]["counts"] == {"listed": 0, "not_listed": 0, "unknown": 3}
        now = status(app)
        assert "two.example" in "".join(now.faults)
        assert (now.sweep.done, now.sweep.unknown) == (9, 3)
        assert [x["ok"] for x in observed(app, "own") if x["kind"] == "resolver"] == [True]
        del world.bad["two.example"]
        await app.watching.sweep()
        assert all(row["healthy"] for row in rows(app, zones))


async def test_a_resolver_that_fails_is_our_own_fault(tmp_path: Path) -> None:
    async with DnsServer(always(REFUSED)) as server, agent(tmp_path, server.address) as app:
        await app.watching.sweep()
        assert not any(row["healthy"] for row in rows(app, zones))
        own = [x for x in observed(app, "own") if x["kind"] == "resolver"]
        assert own
        assert not any(x["ok"] for x in own)
        assert list(status(app).faults)[-1:] == [f"resolver {app.services.resolver_name(server.address)}"]


async def test_the_next_resolver_is_asked_what_the_first_left_open(tmp_path: Path) -> None:
    world = World()
    world.listed = {"1.2.0.192.one.example": YES}
    half = World()
    half.bad["one.example"] = always(DROP)
    async with DnsServer(half) as first, DnsServer(world) as second:
        async with agent(tmp_path, first.address, second.address) as app:
            await app.watching.sweep()
            assert [(row["subject"], row["zone"]) for row in rows(app, listings)] == [
                ("192.0.2.1", "one.example")
            ]
            now = status(app)
        assert all(name.endswith("one.example") for name, _ in second.asked)
    assert (now.sweep.done, now.sweep.listed, now.sweep.unknown) == (9, 1, 0)
    assert not [name for name in now.faults if name.startswith(("blocklist", "resolver"))]


async def test_a_listing_nobody_looks_up_any_more_ends_as_such(tmp_path: Path) -> None:
    world = World()
    world.listed = {"1.2.0.192.one.example": YES}
    async with DnsServer(world) as server:
        async with agent(tmp_path, server.address) as app:
            await app.watching.sweep()
        async with agent(tmp_path, server.address, subjects={"ips": ["192.0.2.2"]}) as app:
            await app.watching.sweep()
            assert [row["ended"] for row in rows(app, listings)] == ["unwatched"]


async def test_a_key_is_nowhere_to_be_seen(tmp_path: Path, capsys: Any) -> None:
    world, key = World(), "secret0key"
    (tmp_path / "key").write_text(key)
    (tmp_path / "key").chmod(0o600)
    world.listed = {f"1.2.0.192.{key}.keyed.example": YES}
    keyed = {"zones": [KEYED], "keys": {"keyed.example": {"file": str(tmp_path / "key")}}}
    async with DnsServer(world) as server, agent(tmp_path, server.address, **keyed) as app:
        await app.watching.sweep()
        assert rows(app, listings)[0]["txt"] == "because of 1.2.0.192.KEY.keyed.example"
        world.bad[f"{key}.keyed.example"] = always(REFUSED)
        await app.watching.sweep(anew=True)
        kept = json.dumps(
            [rows(app, listings), rows(app, zones), rows(app, observations), status(app).to_json()]
        )
        text = app.services.metrics.render().decode()
    printed = capsys.readouterr()
    assert key not in kept + text + printed.out + printed.err


async def test_a_restart_goes_on_where_it_was(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(watching, "SEGMENT", (0.2, 0.2))
    monkeypatch.setattr(watching, "CONTROLS", 0)
    monkeypatch.setattr(watching, "LEAST_PACE", 200.0)
    monkeypatch.setattr("agent.schedule.CATCH_UP", 3600.0)  # what is due besides comes later
    world = World()
    world.listed = {f"{last}.2.0.192.one.example": YES for last in (3, 250)}
    net = {"subjects": {"ips": ["192.0.2.0/24"], "from_senders": False}}
    async with DnsServer(world) as server:
        async with agent(tmp_path, server.address, **net) as app:
            task = asyncio.create_task(app.watching.sweep())
            while not (state := app.services.database.read_now(reputation.sweep)) or not state.done:
                await asyncio.sleep(0.02)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            state = app.services.database.read_now(reputation.sweep)
            assert state is not None
            assert state.ended_at is None
            assert 0 < state.done < state.total == 768
        del server.asked[:]
        async with agent(tmp_path, server.address, scheduled=True, **net) as app:
            async with asyncio.timeout(20):
                while not (now := app.services.database.read_now(reputation.sweep)) or not now.ended_at:
                    await asyncio.sleep(0.02)
            assert now.started_at == state.started_at
            assert (now.done, now.listed, now.unknown) == (768, 2, 0)
            assert len(rows(app, listings)) == 2
        asked = {name for name, _ in server.asked if ".2.0.192." in name}
    assert len(asked) <= 768 - state.done + 2


async def test_one_name_that_cannot_be_resolved_does_not_stop_the_others(tmp_path: Path) -> None:
    world = World()
    world.listed = {"1.2.0.192.one.example": YES}
    async with DnsServer(world) as server:
        more = {"subjects": {"ips": ["192.0.2.1"], "hosts": ["gone.example"]}}
        async with agent(tmp_path, server.address, **more) as app:
            await app.watching.sweep()
            assert len(rows(app, listings)) == 1
            assert "blocklist subject host:gone.example" in status(app).faults
