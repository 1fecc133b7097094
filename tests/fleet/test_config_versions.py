"""One config for all: activated once, taken by the others, and one that cannot take it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.fleet.fleet import BEHIND, WORKING
from agent.reports.agents import read_agents
from agent.store import versions
from probes.errors import ConfigError
from tests.fleet.pairs import agent, quick, write
from tests.guarantees.agents import eventually

__all__ = ["quick"]


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
