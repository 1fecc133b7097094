"""The web of a running agent, asked over HTTP after real canaries."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from tests.lab.agents import LabAgent, lab_agent
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab


def base(agent: LabAgent) -> str:
    return f"http://{agent.app.services.config.agent.listen}"


async def test_metrics_status_timeline_and_pages_tell_the_same(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, serve=True) as agent, aiohttp.ClientSession(base(agent)) as http:
        canary = await agent.settled(await agent.send("app", "b"))
        await http.get("/metrics")  # what counts is 0 in its first scrape
        metrics = await (await http.get("/metrics")).text()
        assert 'mailcanary_canaries_total{placement="inbox",provider="dovecot",sender="app"} 1.0' in metrics
        assert 'mailcanary_canary_outcome{seed="b",sender="app"} 1.0' in metrics
        assert 'mailcanary_seed_readable{seed="b"} 1.0' in metrics
        assert 'mailcanary_sender_usable{sender="app"} 1.0' in metrics
        assert canary.token not in metrics

        status = await (await http.get("/api/v1/status")).json()
        route = next(r for r in status["routes"] if (r["sender"], r["seed"]) == ("app", "b"))
        assert (route["outcome"], route["placement"]) == ("pass", "inbox")

        why = await (await http.get("/api/v1/routes/app/b")).json()
        told = why["events"][0]["canary"]
        assert told["authentication"]["dkim"] == "pass"
        assert told["latency_seconds"] == pytest.approx(canary.latency)
        assert canary.token not in str(why)

        page = await (await http.get("/")).text()
        assert "inbox" in page
        timeline = await (await http.get("/routes/app/b")).text()
        assert "dkim=pass" in timeline
        assert "<script" not in page + timeline
        assert (await http.get("/runbooks/spam")).status == 200
        for missing in ("/routes/app/nowhere", "/runbooks/nothing", "/runbooks/..%2F__init__"):
            assert (await http.get(missing)).status == 404


async def test_a_round_over_the_api(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, serve=True) as agent, aiohttp.ClientSession(base(agent)) as http:
        wrong = await http.post("/api/v1/probes", json={"senders": ["nobody"]})
        assert wrong.status == 400
        assert "nobody" in (await wrong.json())["detail"]
        started = await http.post("/api/v1/probes", json={"senders": ["bulk"], "seeds": ["a", "b"]})
        assert started.status == 202
        round_id = (await started.json())["id"]
        report = await (await http.get(f"/api/v1/probes/{round_id}?wait=30")).json()
        assert report["done"] is True
        assert report["outcome"] == "pass"
        assert {c["seed"] for c in report["canaries"]} == {"a", "b"}
        assert (await http.get("/api/v1/probes/nothing")).status == 404
        for body in (b"{", b"[]", b'{"senders": "app"}', b"\xff"):
            assert (await http.post("/api/v1/probes", data=body)).status == 400


async def test_reload_keeps_the_old_config_where_the_new_one_is_bad(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, serve=True) as agent, aiohttp.ClientSession(base(agent)) as http:
        path = tmp_path / "mailcanary.yaml"
        good = path.read_text()
        path.write_text(good.replace("senders:", "sendres:"))
        answer = await http.post("/-/reload")
        assert answer.status == 422
        assert "did you mean" in await answer.text() or "senders" in await answer.text()
        assert "app" in agent.app.services.config.senders
        metrics = await (await http.get("/metrics")).text()
        assert "mailcanary_config_last_reload_successful 0.0" in metrics
        path.write_text(good)
        assert (await http.post("/-/reload")).status == 200
        assert "mailcanary_config_last_reload_successful 1.0" in await (await http.get("/metrics")).text()
        assert (await http.get("/-/ready")).status == 200
        assert (await http.get("/-/healthy")).status == 200


async def test_a_seed_can_be_retried_and_an_unknown_alert_not_acknowledged(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, serve=True) as agent, aiohttp.ClientSession(base(agent)) as http:
        assert (await http.post("/api/v1/seeds/a/retry")).status == 200
        assert (await http.post("/api/v1/seeds/z/retry")).status == 404
        assert (await http.post("/api/v1/alerts/ack", json={"key": "none"})).status == 404
        assert (await http.post("/api/v1/alerts/ack", json=[])).status == 400
