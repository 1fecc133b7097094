"""A real Prometheus and Alertmanager (Debian's), on loopback with ports of their own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.promtool import find

Found = list[dict[str, Any]]
SCRAPE = 2.0
"""Seconds between two scrapes."""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Watchers:
    """Both servers, and what a test asks of them."""

    prometheus: str
    alertmanager: str
    session: aiohttp.ClientSession

    async def get(self, url: str, **params: str) -> Any:
        """The JSON behind a URL. Fails where it is refused."""
        async with self.session.get(url, params=params) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def query(self, expression: str, at: float | None = None) -> Found:
        """An instant query's series; at: epoch seconds, now where left out."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        answer = await self.get(f"{self.prometheus}/api/v1/query", query=expression, **moment)
        result = answer["data"]["result"]
        return result if answer["data"]["resultType"] == "vector" else [{"metric": {}, "value": result}]

    async def value(self, expression: str) -> float | None:
        """An instant query's first value."""
        found = await self.query(expression)
        return float(found[0]["value"][1]) if found else None

    async def range(self, expression: str, start: float, end: float, step: float) -> Found:
        """A range query's series."""
        params = {"query": expression, "start": f"{start}", "end": f"{end}", "step": f"{step}"}
        return list((await self.get(f"{self.prometheus}/api/v1/query_range", **params))["data"]["result"])

    async def alerts(self) -> set[str]:
        """Names of what fires in Alertmanager."""
        found = await self.get(f"{self.alertmanager}/api/v2/alerts", active="true")
        return {alert["labels"]["alertname"] for alert in found}

    async def until(self, look: Callable[[], Any], complaint: str, timeout: float = 40.0) -> Any:
        """What `look` finds, asked for until it does."""
        end = asyncio.get_running_loop().time() + timeout
        while not (found := await look()):
            assert asyncio.get_running_loop().time() < end, complaint
            await asyncio.sleep(0.2)
        return found


@asynccontextmanager
async def watchers(folder: Path, target: str, rules: str) -> AsyncIterator[Watchers]:
    """Starts both, scraping the agent every other second."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = free_port(), free_port()
    (folder / "rules.yml").write_text(rules)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(_config(target, ports[1])))
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(ALERTMANAGER))
    commands = [
        [find("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
         f"--web.listen-address=127.0.0.1:{ports[0]}", "--log.level=warn"],
        [find("prometheus-alertmanager"), f"--config.file={folder}/alertmanager.yml",
         f"--storage.path={folder}/am", f"--web.listen-address=127.0.0.1:{ports[1]}",
         "--cluster.listen-address=", "--log.level=warn"],
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        running = [subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) for command in commands]
        try:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
                both = Watchers(f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", session)
                await both.until(lambda: _ready(both), (folder / "log").read_text(errors="replace"))
                yield both
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(timeout=20)


async def _ready(both: Watchers) -> bool:
    try:
        for url in (f"{both.prometheus}/-/ready", f"{both.alertmanager}/-/ready"):
            async with both.session.get(url) as answer:
                if answer.status != 200:
                    return False
    except aiohttp.ClientError:
        return False
    return True


def _config(target: str, alertmanager: int) -> dict[str, Any]:
    return {
        "global": {
            "scrape_interval": f"{SCRAPE:g}s",
            "scrape_timeout": f"{SCRAPE:g}s",
            "evaluation_interval": "1s",
        },
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]},
        "scrape_configs": [{"job_name": "mailcanary", "static_configs": [{"targets": [target]}]}],
    }


ALERTMANAGER = {
    "route": {"receiver": "nobody", "group_wait": "1s", "group_interval": "1s"},
    "receivers": [{"name": "nobody"}],
}
