"""Alerts over HTTP and on the command line: lists, history, silences, maintenance, runbooks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.app import App
from agent.cli import main
from alerts import runbooks
from probes.clock import rfc3339
from tests.guarantees.agents import app_on, eventually, send, sink_config
from tests.guarantees.sink import DISCARD, sink

pytestmark = pytest.mark.lab
RULE = {"failure_threshold": 1}


@asynccontextmanager
async def failing(folder: Path, *windowed: str) -> AsyncIterator[tuple[App, aiohttp.ClientSession]]:
    """An agent whose both senders' mail is lost; the senders named are in maintenance."""
    now = time.time()
    window = {"name": "moving the relay", "starts": rfc3339(now - 60), "ends": rfc3339(now + 3600)}
    maintenance = [window | {"match": {"senders": list(windowed)}}] if windowed else []
    sections: dict[str, Any] = {"rules": {"missing": RULE}, "maintenance": maintenance}
    async with sink("box0@example.net") as world:
        world.fate = lambda _token, _to: DISCARD
        routes = [{"every": "1d", "deadline": "1s", "late_after": "1h"}]
        path = sink_config(world, folder, alerts=sections, routes=routes)
        async with app_on(path, seeds=["box0"]) as app:
            await app.serve()
            async with aiohttp.ClientSession(f"http://{app.services.config.agent.listen}") as http:
                yield app, http


def firing(app: App) -> list[Any]:
    return [alert for alert in app.evaluator.state.firing() if alert.fired_at]


async def command(folder: Path, *argv: str) -> int:
    return await asyncio.to_thread(main, ["--config", str(folder / "mailcanary.yaml"), *argv])


async def get(http: aiohttp.ClientSession, path: str) -> Any:
    async with http.get(path) as answer:
        return await answer.json() if "/api/" in path else await answer.text()


async def test_an_alert_from_its_list_to_its_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with failing(tmp_path) as (app, http):
        await send(app, senders=["s0"])
        await eventually(lambda: bool(firing(app)), 30.0, lambda: "nothing fires")
        (listed,) = (await get(http, "/api/v1/alerts"))["alerts"]
        assert (listed["kind"], listed["status"], listed["members"]) == ("missing", "firing", ["s0/box0"])
        key = listed["key"]
        async with http.get("/api/v1/alerts", params={"key": key}) as answer:
            whole = await answer.json()
        assert {"What", "Likely cause", "Next step", "Silence"} <= {
            part["name"] for part in whole["sections"]
        }
        steps = (await get(http, "/api/v1/alerts/history"))["transitions"]
        assert [step["kind"] for step in steps] == ["fired"]
        assert (await http.get("/api/v1/alerts", params={"key": "none"})).status == 404
        page = await get(http, "/alerts")
        assert whole["title"] in page
        assert "Next step" in await (await http.get("/alerts", params={"key": key})).text()

        assert await command(tmp_path, "alerts", "show", key, "--runbook") == 0
        shown = capsys.readouterr().out
        assert whole["title"] in shown
        assert (runbooks.page("missing") or "") in shown
        assert await command(tmp_path, "alerts", "list", "--json") == 0
        assert json.loads(capsys.readouterr().out)["key"] == key
        assert await command(tmp_path, "alerts", "history") == 0
        assert "fired" in capsys.readouterr().out

        body = {"match": {"keys": [key]}, "for": "2h", "by": "ann", "comment": "repairing it"}
        async with http.post("/api/v1/silences", json=body) as answer:
            assert answer.status == 201
            silence = await answer.json()
        assert silence["match"] == {"keys": [key]}
        await eventually(lambda: bool(firing(app)[0].muted), 10.0, lambda: "not silenced")
        assert (await get(http, "/api/v1/alerts"))["alerts"][0]["muted"] == "silenced (silence 1)"
        assert "silenced (silence 1)" in await get(http, "/alerts")
        assert "silenced (silence 1)" in await get(http, "/")
        assert await command(tmp_path, "alerts", "silences") == 0
        assert "by ann: repairing it" in capsys.readouterr().out
        assert (await http.delete("/api/v1/silences/1")).status == 200
        await eventually(lambda: not firing(app)[0].muted, 10.0, lambda: "still silenced")
        assert (await get(http, "/api/v1/alerts"))["alerts"][0]["muted"] == ""
        for number in ("1", "99", "x", "9" * 40):
            assert (await http.delete(f"/api/v1/silences/{number}")).status == 404
        assert (await get(http, "/api/v1/silences"))["silences"] == []


async def test_maintenance_shows_and_measuring_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with failing(tmp_path, "s1") as (app, http):
        await send(app, senders=["s1"])
        await eventually(lambda: bool(firing(app)), 30.0, lambda: str(firing(app)))
        muted = {a["members"][0]: a["muted"] for a in (await get(http, "/api/v1/alerts"))["alerts"]}
        assert muted == {"s1/box0": "in maintenance: moving the relay"}
        status = await get(http, "/api/v1/status")
        windows = {r["sender"]: (r["outcome"], r["maintenance"]) for r in status["routes"]}
        assert windows == {"s0": (None, None), "s1": ("fail", "moving the relay")}
        assert "in maintenance: moving the relay" in await get(http, "/")
        assert "in maintenance: moving the relay" in await get(http, "/alerts")
        assert await command(tmp_path, "status") == 1
        text = capsys.readouterr().out
        assert "in maintenance: moving the relay" in text
        assert await command(tmp_path, "alerts", "list") == 0
        assert text.count("in maintenance: moving the relay") == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{", "not JSON"),
        (b"[]", "JSON object"),
        (b'{"match": {}}', "at least one of"),
        (b'{"match": {"senders": ["nobody"]}}', "there is no sender 'nobody'; there are: s0, s1"),
        (b'{"match": {"sender": ["s0"]}}', "match has no 'sender'"),
        (b'{"match": {"senders": "s0"}}', "list of short texts"),
        (b'{"match": {"senders": ["s0"]}, "for": "soon"}', "for: "),
        (b'{"match": {"senders": ["s0"]}, "for": "999d"}', "a year at most"),
    ],
)
async def test_a_silence_that_would_cover_nothing_is_refused(tmp_path: Path, body: bytes, says: str) -> None:
    async with failing(tmp_path) as (_, http), http.post("/api/v1/silences", data=body) as answer:
        assert answer.status == 400
        assert says in (await answer.json())["detail"]


async def test_every_runbook_is_served_and_listed(tmp_path: Path) -> None:
    async with failing(tmp_path) as (_, http):
        index = await get(http, "/runbooks/")
        for name in runbooks.names():
            assert f'href="/runbooks/{name}"' in index
            assert (await http.get(f"/runbooks/{name}")).status == 200
        for missing in ("nothing", "..%2F__init__", "missing.md"):
            assert (await http.get(f"/runbooks/{missing}")).status == 404
