"""A sender with a source address is used by the agents that have it, as long as there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from agent.app import App
from agent.store import canaries, members
from probes.canary.state import Canary
from tests.fakes.dns_server import DnsServer, zone_data
from tests.fakes.smtp_server import FakeSmtp, Script
from tests.fleet.pairs import agent, quick, write
from tests.guarantees.agents import eventually

__all__ = ["quick"]
ADDRESSES = ("127.0.0.2", "127.0.0.3")
SENDERS = {address: f"from-{address.rpartition('.')[2]}" for address in ADDRESSES}


class Peer(FakeSmtp):
    """Remembers where each connection came from."""

    def __init__(self) -> None:
        super().__init__(Script(starttls=False))
        self.came: list[str] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.came.append(writer.get_extra_info("peername")[0])
        await super()._serve(reader, writer)


def config(folder: Path, store: str, smtp: int, resolver: str) -> Path:
    """A sender for each address, straight to the MX of example.net."""
    path = write(folder, store, 2)
    document = yaml.safe_load(path.read_text())
    document["resolver"] = {"nameservers": [resolver]}
    document["senders"] = {
        name: {
            "from": f"canary@{name}.example",
            "direct": {"source_ip": address, "helo": f"{name}.example", "port": smtp},
        }
        for address, name in SENDERS.items()
    }
    document["routes"] = [{"every": "1s", "deadline": "1m"}]
    document["limits"] = {"per_seed_per_day": 1_000_000, "per_provider_per_minute": 1_000_000}
    for seed in document["seeds"].values():
        seed["daily_limit"] = 1_000_000
    path.write_text(yaml.safe_dump(document))
    return path


def sent(app: App, sender: str, since: int = 0) -> Sequence[Canary]:
    """The sender's canaries that were accepted, in their order, without the first so many."""
    found = app.services.database.read_now(canaries.everything)
    mine = sorted((c for c in found if c.sender == sender and c.accepted), key=lambda c: c.created.wall)
    return mine[since:]


async def more(app: App, sender: str, count: int = 6) -> set[int]:
    """The lives of the agents that send so many of the sender's canaries from now on."""
    before = len(sent(app, sender))
    await eventually(lambda: len(sent(app, sender, before)) >= count, 30.0, lambda: str(sent(app, sender)))
    return {canary.epoch for canary in sent(app, sender, before + 2)}  # some were claimed before


async def test_an_address_that_comes_with_a_new_config(
    tmp_path: Path, postgres_url: str, quick: None
) -> None:
    async with agent(write(tmp_path, postgres_url, 2)) as one:
        assert one.services.me.addresses == ()
        config(tmp_path, postgres_url, 9, "127.0.0.1:9")
        await one.reload()
        shown = lambda: one.services.database.read_now(members.every)[0].addresses  # noqa: E731
        await eventually(lambda: shown() == ADDRESSES, 20.0, lambda: str(shown()))


async def test_the_address_decides_who_sends(
    tmp_path: Path, postgres_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = zone_data({"example.net MX": ["10 mx.example.net."], "mx.example.net A": ["127.0.0.1"]})
    has = iter([(ADDRESSES[0],), (ADDRESSES[1],)])
    monkeypatch.setattr("agent.app.own_addresses", lambda config: next(has))
    first, second = SENDERS.values()
    async with DnsServer(zone) as server, Peer() as peer:
        path = config(tmp_path, postgres_url, peer.port, server.address)
        async with agent(path) as one:
            # Alone, it sends for both: who has no such address tells what is wrong, if it is.
            assert await more(one, second) == await more(one, first) == {one.services.epoch}
            async with agent(path) as other:
                assert [x.services.me.addresses for x in (one, other)] == [(x,) for x in ADDRESSES]
                assert await more(other, second) == {other.services.epoch}
                assert await more(other, first) == {one.services.epoch}
            assert await more(one, second) == {one.services.epoch}
    assert set(peer.came) == set(ADDRESSES)
