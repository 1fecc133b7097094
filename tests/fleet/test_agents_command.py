"""Who works on the store: as the command and the API show it; and an agent that has gone is told of."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.app import App
from agent.cli import main as mailcanary
from agent.store import incidents
from tests.fleet.pairs import agent, quick, write
from tests.guarantees.agents import eventually

__all__ = ["quick"]
Tree = dict[str, Any]


async def listed(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[Tree]]:
    code = await asyncio.to_thread(mailcanary, ["--config", str(path), "agents", "--json"])
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])["agents"]


def own_alerts(app: App) -> list[tuple[str, str]]:
    """Alerts about agents: state and title."""
    rows = app.services.database.read_now(lambda conn: incidents.alert_rows(conn, open_only=False))
    return [(row["status"], row["title"]) for row in rows if "lost its agent" in row["title"]]


async def die(app: App) -> None:
    """Ends it without a goodbye; its web goes too."""
    for task in app._tasks:
        task.cancel()
    await asyncio.gather(*app._tasks, return_exceptions=True)
    app.services.fleet.membership.end()


async def test_an_agent_that_has_gone_is_listed_told_and_forgotten(
    tmp_path: Path,
    postgres_url: str,
    quick: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.fleet.membership.LEASE", 1.5)
    monkeypatch.setattr("agent.runner.upkeep.BEAT", 1.0)
    path = write(tmp_path, postgres_url, 6)
    async with agent(path, "eu") as a, agent(path) as b:
        await eventually(lambda: b.services.fleet.held > 0, 20.0, lambda: str(b.services.fleet.view))
        code, both = await listed(path, capsys)
        assert code == 0
        assert [(one["state"], one["config_current"]) for one in both] == [("working", True)] * 2
        assert {one["region"] for one in both} == {"eu", ""}
        assert sum(sum(one["leases"].values()) for one in both) <= 6 + 2
        assert all(one["heartbeat_at"] and one["version"] and one["holder"] for one in both)
        async with aiohttp.ClientSession(f"http://{b.services.config.agent.listen}") as http:
            answer = await (await http.get("/api/v1/agents")).json()
            assert {one["agent"] for one in answer["agents"]} == {one["agent"] for one in both}
        gone = b.services.place
        await die(b)
        await eventually(lambda: a.services.fleet.held == 6 + 2, 30.0, lambda: str(a.services.fleet.view))
        await eventually(lambda: bool(own_alerts(a)), 30.0, lambda: str(a.services.fleet.view))
        assert gone in own_alerts(a)[0][1]
        code, both = await listed(path, capsys)
        assert code == 3
        assert sorted(one["state"] for one in both) == ["lost", "working"]
        assert mailcanary(["--config", str(path), "agents", "forget", "nowhere:1"]) == 2
        assert mailcanary(["--config", str(path), "agents", "forget", gone]) == 0
        assert (await listed(path, capsys))[0] == 0
        monkeypatch.setenv("COLUMNS", "200")
        assert mailcanary(["--config", str(path), "agents"]) == 0
        assert "working" in capsys.readouterr().out


async def test_nobody_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, f"sqlite:///{tmp_path}/one.db", 1)
    async with agent(path):
        assert (await listed(path, capsys))[0] == 0
    assert await listed(path, capsys) == (1, [])
