"""One config for all: activated once, taken by the others, and one that cannot take it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.app import App
from agent.fleet.fleet import BEHIND, WORKING
from agent.reports.agents import read_agents
from agent.store import incidents, versions
from alerts.state import from_rows
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
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    first, second = write(one, postgres_url, 4), write(two, postgres_url, 4)
    async with agent(first) as a, agent(second) as b:
        await eventually(lambda: b.services.fleet.held > 0, 20.0, lambda: str(b.services.fleet.view))
        # The second has no such secret at its place: names of files are relative to the config.
        write(one, postgres_url, 5, "other-password")
        secret(one / "other-password")
        await a.reload()
        await eventually(lambda: b.services.me.state == BEHIND, 20.0, lambda: str(b.services.me))
        assert "other-password" in b.services.me.detail
        assert len(b.services.config.seeds) == 4, "it does not act on what it does not know"
        await eventually(lambda: b.services.fleet.held == 0, 20.0, lambda: str(b.services.fleet.view))
        held = lambda: a.services.fleet.held  # noqa: E731
        await eventually(lambda: held() == 5 + 2, 20.0, lambda: str(held()))
        shown = a.services.database.read_now(lambda conn: read_agents(conn, a.services.clock.wall()))
        assert {one.member.holder: one.state for one in shown} == {
            a.services.me.holder: WORKING,
            b.services.me.holder: BEHIND,
        }
        assert gauge(b, "mailcanary_config_last_reload_successful") == 0.0
        told = f"own agent {b.services.place}"
        await eventually(lambda: bad(a).get(told, False), 20.0, lambda: str(bad(a)))
        secret(two / "other-password")
        await eventually(lambda: b.services.me.state == WORKING, 20.0, lambda: str(b.services.me))
        assert len(b.services.config.seeds) == 5
        await eventually(lambda: b.services.fleet.held > 0, 20.0, lambda: str(b.services.fleet.view))
        await eventually(lambda: not bad(a).get(told, False), 20.0, lambda: str(bad(a)))


def secret(path: Path) -> None:
    path.touch(mode=0o600)
    path.write_text("x")


def gauge(app: App, name: str) -> float | None:
    """What the agent shows of itself."""
    lines = app.services.metrics.render().decode().splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name} ")), None)


def bad(app: App) -> dict[str, bool]:
    """What the evaluator knows of ourselves, by name; True where it is bad now."""
    found = app.services.database.read_now(incidents.engine_rows)
    return {name: one.bad for name, one in from_rows(found).conditions.items()}


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
