"""/probe: metrics of one lookup, of targets that the config names and of no others; announced changes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agent.config.load import load
from agent.store import records
from agent.store.schema import open_store
from agent.web import lookups
from probes.clock import SystemClock
from tests.fakes.dns_server import REFUSED, DnsServer, Script, always, zone_data
from tests.unit.test_http import HOSTS, INSIDE, URLS

DATA = {
    "a.example MX": ["0 ."],
    "a.example TXT": ["v=spf1 -all"],
    "_dmarc.a.example TXT": ["v=DMARC1; p=reject"],
    "2.0.0.127.bl.example A": ["127.0.0.2"],
    "1.2.0.192.bl.example A": ["127.0.0.2"],
}
Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def serving(tmp_path: Path, script: Script) -> AsyncIterator[tuple[Client, Any]]:
    """The endpoints with a store, over a scripted resolver."""
    async with DnsServer(script) as server:
        document = {
            "agent": {"store": f"sqlite:///{tmp_path}/x.db"},
            "resolver": {"nameservers": [server.address], "timeout": "1s"},
            "records": {"domains": ["a.example", "bad.example"], "contact": False},
            "blocklists": {"subjects": {"ips": ["192.0.2.1", "192.0.2.2"]}, "zones": ["bl.example"]},
        }
        path = tmp_path / "mailcanary.yaml"
        path.write_text(yaml.safe_dump(document))
        config = load(path)
        database = open_store(config.store_url)
        app = web.Application()
        lookups.add_routes(app, lambda: config, database, SystemClock())
        try:
            async with TestClient(TestServer(app)) as client:
                yield client, database
        finally:
            database.close()


async def scrape(client: Client, module: str, target: str) -> dict[str, float]:
    """The samples of one lookup."""
    response = await client.get("/probe", params={"module": module, "target": target})
    assert response.status == 200, await response.text()
    lines = (await response.text()).splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}


async def test_metrics_of_one_lookup(tmp_path: Path) -> None:
    async with serving(tmp_path, zone_data(DATA)) as (client, _):
        good = await scrape(client, "records", "A.example")
        assert (good["probe_success"], good["probe_unknown"]) == (1.0, 0.0)
        assert good["probe_duration_seconds"] >= 0
        bad = await scrape(client, "records", "bad.example")
        assert bad["probe_success"] == 0.0
        assert bad['probe_record_findings{kind="mx",severity="error"}'] == 1.0
        listed = await scrape(client, "blocklist", "192.0.2.1")
        assert listed["probe_success"] == 0.0
        assert listed['probe_blocklist_listed{subject="192.0.2.1",zone="bl.example"}'] == 1.0
        assert (await scrape(client, "blocklist", "192.0.2.2"))["probe_success"] == 1.0


async def test_what_cannot_be_seen_is_neither_good_nor_bad(tmp_path: Path) -> None:
    async with serving(tmp_path, always(REFUSED)) as (client, _):
        for module, target in (("records", "a.example"), ("blocklist", "192.0.2.1")):
            found = await scrape(client, module, target)
            assert "probe_success" not in found
            assert found["probe_unknown"] == 1.0
        slow = await client.get(
            "/probe",
            params={"module": "records", "target": "a.example"},
            headers={"X-Prometheus-Scrape-Timeout-Seconds": "0.0001"},
        )
        assert "probe_unknown 1.0" in await slow.text()


@pytest.mark.parametrize("module", ["records", "blocklist"])
async def test_only_what_the_config_names_is_looked_up(tmp_path: Path, module: str) -> None:
    async with serving(tmp_path, zone_data(DATA)) as (client, _):
        named = {"a.example", "192.0.2.1"}
        for target in {"", "other.example", "192.0.2.9", "a.example.", *INSIDE, *HOSTS, *URLS} - named:
            response = await client.get("/probe", params={"module": module, "target": target})
            assert response.status == 400, target
        assert (await client.get("/probe", params={"module": "nothing", "target": "a.example"})).status == 400
        assert (await client.get("/probe")).status == 400


async def test_a_change_is_announced_for_a_while(tmp_path: Path) -> None:
    async with serving(tmp_path, zone_data(DATA)) as (client, database):
        item = {"name": "_dmarc.A.example.", "type": "txt", "value": "v=DMARC1; p=none", "seconds": 600}
        response = await client.post("/api/v1/records/expected", json=item)
        assert response.status == 201
        now = SystemClock().wall()
        held = database.read_now(lambda conn: records.announced(conn, now))
        assert [(one["name"], one["type"], one["value"]) for one in held] == [
            ("_dmarc.a.example", "TXT", "v=DMARC1; p=none")
        ]
        assert database.read_now(lambda conn: records.announced(conn, now + 700)) == []
        wrong: list[Any] = [
            *([], 7, {}, {"name": "a.example"}, {"name": "", "type": "TXT"}),
            *({**item, "seconds": wrong} for wrong in (-1, "x", 1e9)),
            *({**item, "type": "T X"}, {**item, "value": "x" * 5000}),
        ]
        for body in wrong:
            assert (await client.post("/api/v1/records/expected", json=body)).status == 400, body
        assert (await client.post("/api/v1/records/expected", data=b"{")).status == 400
