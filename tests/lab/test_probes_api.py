"""The API of rounds: idempotency key, long poll, events, cancel, rate limit, only configured seeds."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.cli import main
from tests.lab.agents import lab_agent
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab


async def test_the_api_of_rounds(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, serve=True, deadline="20s") as agent:
        base = f"http://{agent.app.services.config.agent.listen}/api/v1/probes"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http:

            async def post(body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
                async with http.post(base, json=body, headers=headers) as response:
                    return response.status, await response.json()

            route = {"senders": ["app"], "seeds": ["a"]}
            status, first = await post(route | {"by": "pipeline 7"}, **{"Idempotency-Key": "k1"})
            assert status == 202
            assert (await post(route, **{"Idempotency-Key": "k1"}))[1]["id"] == first["id"]
            async with http.get(f"{base}/{first['id']}?wait=20") as response:
                report = await response.json()
            assert (report["done"], report["outcome"], report["by"]) == (True, "pass", "pipeline 7")
            assert len(report["canaries"]) == 1

            # Recipients are configured seeds, whatever is asked for.
            for wrong in (
                {"seeds": ["victim@elsewhere.example"]},
                {"to": "victim@elsewhere.example"},
                {"count": 10_000},
                {"count": 0},
                {"count": True},
                {"deadline": "soon"},
                {"baseline": "round-none"},
                {"kind": "else"},
                ["a"],
            ):
                status, problem = await post(wrong)
                assert status == 400, wrong
                assert problem["schema"] == "mailcanary.problem/1"

            lab.postfix("a").hold()
            _, slow = await post(route | {"deadline": "1m"})
            events = []
            async with http.get(f"{base}/{slow['id']}/events") as stream:
                assert stream.content_type == "text/event-stream"
                async for line in stream.content:
                    if line.startswith(b"event: "):
                        events.append(line[7:].strip().decode())
                    if line.startswith(b"data: ") and events == ["progress", "progress"]:
                        told = json.loads(line[6:])
                        assert told["routes"][0]["route"] == "app/a"
                        assert "not seen yet" in told["routes"][0]["waits"]
                        assert told["routes"][0]["eta_seconds"] > 0
                        async with http.delete(f"{base}/{slow['id']}") as response:
                            assert response.status == 200
            assert events[-1] == "done"
            async with http.get(f"{base}/{slow['id']}") as response:
                report = await response.json()
            assert (report["cancelled"], report["outcome"]) == (True, None)
            async with http.delete(f"{base}/{slow['id']}") as response:
                assert response.status == 409
            async with http.delete(f"{base}/round-none") as response:
                assert response.status == 404

            answers = [(await post(route))[0] for _ in range(12)]
            assert 429 in answers


async def test_the_command_without_a_config_by_url_and_token(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.touch(mode=0o600)
    token.write_text("a-token-of-the-lab-0123456789\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    async with lab_agent(lab, tmp_path, serve=True, agent={"token": {"file": str(token)}}) as agent:
        asked = ["probe", "--agent", f"http://{agent.app.services.config.agent.listen}/", "--json"]
        asked += ["--sender", "app", "--provider", "dovecot", "--seed", "a"]
        assert await asyncio.to_thread(main, asked) == 3
        assert "401" in capsys.readouterr().err
        assert await asyncio.to_thread(main, [*asked, "--token-file", str(token)]) == 0
        report = json.loads(capsys.readouterr().out)
        assert {c["seed"] for c in report["canaries"]} == {"a", "b"}, "a provider's seeds, and the named one"
        monkeypatch.setenv("MAILCANARY_TOKEN", token.read_text().strip())
        assert await asyncio.to_thread(main, asked) == 0
