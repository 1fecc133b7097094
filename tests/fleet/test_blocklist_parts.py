"""Blocklists in a fleet: zones are spread over the agents, and resolvers that disagree are both shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from agent.app import App
from agent.fleet.assignment import Candidate, Resource, owner
from agent.fleet.resources import SWEEP, chunks
from agent.metrics import specs, states
from agent.reports.status import read_status
from agent.runner import watching
from agent.store import reputation
from agent.store.reputation import SweepState
from agent.store.tables import alerts, listings, transitions
from tests.fakes.dns_server import NXDOMAIN, DnsServer, Reply
from tests.fleet.pairs import agent, quick, write
from tests.guarantees.agents import eventually

__all__ = ["quick"]
ZONES = [f"list{n}.example" for n in range(10)]
PARTS = 2
SUBJECT = "192.0.2.1"


class World:
    """What one resolver says: zones in good order, and what they list."""

    def __init__(self) -> None:
        self.listed: set[str] = set()

    def __call__(self, name: str, rdtype: str) -> Reply:
        zone = ".".join(name.split(".")[-2:])
        point = name.removesuffix(f".{zone}")
        known = zone in ZONES and (point in ("2.0.0.127", "test") or name in self.listed)
        if not known:
            return replace(NXDOMAIN, ttl=0)  # nothing stays fresh
        return Reply(("127.0.0.2",) if rdtype == "A" else (), ttl=0)


def config(folder: Path, store: str, resolver: str, subjects: list[str], every: str) -> Path:
    """A file that watches the subjects in all zones."""
    path = write(folder, store, 1)
    document = yaml.safe_load(path.read_text())
    catalogue = folder / "zones.yaml"
    catalogue.write_text(yaml.safe_dump({"zones": [{"zone": zone, "kinds": ["ipv4"]} for zone in ZONES]}))
    document["resolver"] = {"nameservers": [resolver], "timeout": "500ms"}
    document["blocklists"] = {
        "subjects": {"ips": subjects, "from_senders": False},
        "zones": ZONES,
        "catalogue": str(catalogue),
        "every": every,
    }
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def brisk(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps that begin at once, in short segments; who holds what is the same each time."""
    numbers = iter(range(100))
    monkeypatch.setattr("agent.app.own_holder", lambda boot: f"elsewhere:boot:{next(numbers)}:1")
    monkeypatch.setattr("agent.schedule.CATCH_UP", 0.1)
    monkeypatch.setattr(watching, "SEGMENT", (0.2, 0.2))
    monkeypatch.setattr(watching, "CONTROLS", 0)
    monkeypatch.setattr(watching, "LEAST_PACE", 400.0)


def sweeps(app: App) -> list[SweepState]:
    """The progress of the parts that have zones."""

    def read(conn: sa.Connection) -> list[SweepState]:
        found = (reputation.sweep_of(conn, chunk) for chunk in chunks(app.services.config))
        return [state for state in found if state is not None]

    return app.services.database.read_now(read)


def rows(app: App, table: sa.Table) -> list[dict[str, Any]]:
    found = app.services.database.read_now(lambda conn: conn.execute(sa.select(table)).mappings().all())
    return [dict(row) for row in found]


async def until(app: App, true: Callable[[], bool]) -> None:
    await eventually(true, 40.0, lambda: f"{sweeps(app)}\n{rows(app, listings)}")


def held(app: App) -> set[str]:
    return {chunk for chunk in chunks(app.services.config) if app.services.fleet.holds(SWEEP + chunk)}


async def test_parts_are_spread_and_gone_on_with(tmp_path: Path, postgres_url: str, brisk: None) -> None:
    world = World()
    world.listed = {f"{last}.2.0.192.{zone}" for last in (3, 120) for zone in ZONES}
    async with DnsServer(world) as server:
        path = config(tmp_path, postgres_url, server.address, ["192.0.2.0/25"], "1h")
        async with agent(path) as a:
            async with agent(path) as b:
                mine = [Candidate(x.services.me.holder) for x in (a, b)]
                falls = {chunk: owner(Resource(SWEEP + chunk), mine) for chunk in chunks(a.services.config)}
                await until(b, lambda: held(a) | held(b) == set(falls))
                for app in (a, b):
                    share = {chunk for chunk, to in falls.items() if to == app.services.me.holder}
                    await until(b, lambda app=app, share=share: held(app) == share)  # type: ignore[misc]
                assert held(a)
                assert held(b)
                await until(b, lambda: len(sweeps(b)) == PARTS and all(x.done for x in sweeps(b)))
                assert any(state.ended_at is None for state in sweeps(b))
                began = sorted(state.started_at for state in sweeps(b))
            await until(a, lambda: held(a) == set(falls))
            await until(a, lambda: all(state.ended_at for state in sweeps(a)))
            assert sorted(state.started_at for state in sweeps(a)) == began
            whole = a.services.database.read_now(reputation.sweep)
            assert whole is not None
            assert (whole.done, whole.total, whole.listed, whole.unknown) == (1280, 1280, 20, 0)
            assert len(rows(a, listings)) == 20
        asked = Counter(name for name, rdtype in server.asked if ".2.0.192." in name and rdtype == "A")
    assert len(asked) == 1280
    # a second look at each listing, and a segment that was under way where a part changed hands
    assert sum(asked.values()) - len(asked) < 20 + 1280 / 4


async def test_resolvers_that_disagree_are_both_shown(tmp_path: Path, postgres_url: str, brisk: None) -> None:
    one, two = World(), World()
    async with DnsServer(one) as first, DnsServer(two) as second:
        path = config(tmp_path, postgres_url, first.address, [SUBJECT], "2s")
        names = [f"{address} of elsewhere" for address in (first.address, second.address)]
        async with agent(path, resolver=second.address) as b:
            async with agent(path) as a:
                assert a.services.config.hash == b.services.config.hash
                assert [x.services.me.resolvers for x in (a, b)] == [(name,) for name in names]
                await until(b, lambda: bool(held(a) and held(b)) and len(sweeps(b)) == PARTS)
                one.listed = {f"1.2.0.192.{zone}" for zone in ZONES}
                await until(b, lambda: len(disputed(b)) == len(ZONES))
                said = f"listed through {names[0]}; not listed through {names[1]}"
                assert set(disputed(b).values()) == {said}
                assert set(shown(b)) == {(zone, name) for zone in ZONES for name in names}
                assert sorted(shown(b).values()) == [0.0] * len(ZONES) + [1.0] * len(ZONES)
                await until(b, lambda: said in str([row["body"] for row in rows(b, alerts)]))
            # every zone passes to the agent whose resolver sees nothing: that is no delisting
            await until(b, lambda: held(b) == set(chunks(b.services.config)))
            sent = len(second.asked)
            await until(b, lambda: len(second.asked) > sent + 4 * len(ZONES))
            assert len(disputed(b)) == len(ZONES)
            async with agent(path) as a:
                await until(b, lambda: bool(held(a) and held(b)))
                assert len(disputed(b)) == len(ZONES)
                one.listed = set()
                await until(b, lambda: all(row["delisted_at"] for row in rows(b, listings)))
                history = rows(b, listings)
                assert Counter(row["zone"] for row in history) == Counter(ZONES), "each was one event"
                await until(b, lambda: "resolved" in {row["status"] for row in rows(b, alerts)})
                told = Counter(row["kind"] for row in rows(b, transitions) if SUBJECT in row["key"])
                assert (told["fired"], told["resolved"]) == (1, 1)


def disputed(app: App) -> dict[str, str]:
    """The zones about whose listing the resolvers disagree, as `status` says it."""
    services = app.services
    now = services.clock.wall()
    found = services.database.read_now(lambda conn: read_status(conn, services.config, now))
    return {row["zone"]: row["disagreement"] for row in found.listings if row["disagreement"]}


def shown(app: App) -> dict[tuple[str, str], float]:
    """The same as metrics: (zone, resolver) to 1 or 0."""
    services = app.services
    families = services.database.read_now(lambda conn: list(states.collect(conn, services.config, 0.0)))
    samples = next(f.samples for f in families if f.name == specs.DISAGREEMENT.full_name)
    return {(sample.labels["zone"], sample.labels["resolver"]): sample.value for sample in samples}
