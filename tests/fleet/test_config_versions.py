"""One config for all: activated once, taken by the others, and one that cannot take it says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml

from agent.app import App, open_app
from agent.config.load import load
from agent.fleet.fleet import BEHIND, WORKING
from agent.reports.agents import read_agents
from agent.store import versions
from agent.store.tables import observations
from probes.errors import ConfigError
from tests.guarantees.agents import eventually, free_port

NOWHERE = {"host": "127.0.0.1", "port": 9, "security": "none"}


def write(folder: Path, store: str, seeds: int, password: str = "password", **agent: Any) -> Path:
    for name in ("password", password):
        secret = folder / name
        if name == "password":
            secret.touch(mode=0o600)
            secret.write_text("x")
    document = {
        "agent": {"store": store, **agent},
        "resolver": {"nameservers": ["127.0.0.1:9"]},
        "senders": {"app": {"from": "canary@acme.example", "relay": NOWHERE}},
        "seeds": {
            f"box{n}": {
                "provider": "dovecot",
                "address": f"box{n}@example.net",
                "password": {"file": str(folder / password)},
                "imap": NOWHERE,
            }
            for n in range(seeds)
        },
        "routes": [{"every": "1d"}],
    }
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@asynccontextmanager
async def agent(path: Path, region: str | None = None) -> AsyncIterator[App]:
    own = {"listen": f"127.0.0.1:{free_port()}"} | ({"region": region} if region else {})
    config = load(path, require_secrets=True, own=own)
    app = await open_app(config, reload_from=str(path), own=own)
    try:
        await app.start()
        await app.serve()
        yield app
    finally:
        await app.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet that looks often, and processes that are told apart though they are one."""
    numbers = iter(range(100))
    monkeypatch.setattr("agent.fleet.membership.BEAT", 0.1)
    monkeypatch.setattr("agent.runner.configuring.AGAIN", 0.1)
    monkeypatch.setattr("agent.app.own_holder", lambda boot: f"elsewhere:{boot[:8]}:{next(numbers)}:1")


def told(app: App) -> list[Any]:
    query = sa.select(observations.c.body)
    return [row[0] for row in app.services.database.read_now(lambda conn: conn.execute(query).all())]


async def test_a_changed_file_is_activated_once_and_the_others_take_it(
    tmp_path: Path, postgres_url: str, quick: None
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    first, second = write(one, postgres_url, 2), write(two, postgres_url, 2)
    async with agent(first, "eu") as a, agent(second) as b:
        database = a.services.database
        assert database.read_now(versions.active_hash) == a.services.config.hash == b.services.config.hash
        write(one, postgres_url, 3)
        await a.reload()
        await eventually(lambda: len(b.services.config.seeds) == 3, 20.0, lambda: str(b.services.me))
        assert b.services.config.agent.region is None
        assert a.services.config.agent.region == "eu"
        assert b.services.config.agent.listen != a.services.config.agent.listen
        newest = database.read_now(versions.active)
        assert newest is not None
        assert (newest.number, newest.activated_by) == (2, a.services.config.agent.listen)
        held = lambda: a.services.fleet.held + b.services.fleet.held  # noqa: E731
        await eventually(lambda: held() == 3 + 2, 20.0, lambda: str(held()))
        await b.reload()  # its own file says what was before: it counts again
        await eventually(lambda: len(a.services.config.seeds) == 2, 20.0, lambda: str(a.services.me))


async def test_who_cannot_take_it_gives_its_work_away_and_says_so(
    tmp_path: Path, postgres_url: str, quick: None
) -> None:
    path = write(tmp_path, postgres_url, 4)
    async with agent(path) as a, agent(path) as b:
        await eventually(lambda: b.services.fleet.held > 0, 20.0, lambda: str(b.services.fleet.view))
        # what b lacks: from its place the active text names a secret that is not there
        text = write(tmp_path, postgres_url, 5, "other-password").read_text()
        missing = tmp_path / "other-password"
        missing.touch(mode=0o600)
        missing.write_text("x")
        a.configuring._read = b.configuring._read  # type: ignore[method-assign]
        await a.reload()
        missing.unlink()
        b.configuring._refused = ""
        await eventually(
            lambda: b.services.me.state == BEHIND or len(b.services.config.seeds) == 5,
            20.0,
            lambda: str(b.services.me),
        )
        assert text
        if b.services.me.state == BEHIND:
            assert "other-password" in b.services.me.detail
            await eventually(lambda: b.services.fleet.held == 0, 20.0, lambda: str(b.services.fleet.view))
            shown = a.services.database.read_now(lambda conn: read_agents(conn, a.services.clock.wall()))
            assert sorted(one.state for one in shown) == [BEHIND, WORKING]
            missing.touch(mode=0o600)
            missing.write_text("x")
        await eventually(lambda: b.services.me.state == WORKING, 20.0, lambda: str(b.services.me))
        assert len(b.services.config.seeds) == 5


async def test_of_two_changes_at_the_same_time_one_counts(
    tmp_path: Path, postgres_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, postgres_url, 2)
    async with agent(path) as a:
        seen = await a.services.database.read(versions.active)
        assert await a.configuring._activate(a.services.config, seen)
        assert not await a.configuring._activate(a.services.config, seen)
        write(tmp_path, postgres_url, 3)
        with monkeypatch.context() as patched:
            patched.setattr("agent.store.versions.active", lambda conn: seen)
            with pytest.raises(ConfigError, match="was activated by another agent meanwhile"):
                await a.reload()
        assert len(a.services.config.seeds) == 2


async def test_one_agent_on_sqlite_goes_the_same_way(tmp_path: Path) -> None:
    path = write(tmp_path, f"sqlite:///{tmp_path}/one.db", 1)
    async with agent(path) as a:
        first = a.services.database.read_now(versions.active)
        write(tmp_path, f"sqlite:///{tmp_path}/one.db", 2)
        await a.reload()
        second = a.services.database.read_now(versions.active)
    assert first is not None
    assert second is not None
    assert (first.number, second.number) == (1, 2)
    write(tmp_path, f"sqlite:///{tmp_path}/one.db", 1)
    async with agent(path) as a:
        third = a.services.database.read_now(versions.active)
        assert third is not None
        assert (third.number, third.hash) == (3, first.hash)
        assert len(a.services.config.seeds) == 1
        await asyncio.sleep(0)
