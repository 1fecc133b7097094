"""Receivers on loopback that answer as Slack's webhook and PagerDuty's events do, and keep what they got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.lab.world import agent_config

ROUTING_KEY = "0123456789abcdef0123456789abcdef"
Tree = dict[str, Any]


@dataclass
class Receivers:
    """slack, pagerduty: the bodies each was sent, in order; pings: when the heartbeat came (loop time)."""

    port: int = 0
    slack: list[Tree] = field(default_factory=list)
    pagerduty: list[Tree] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)

    def settings(self, folder: Path) -> Tree:
        """The config of both: chat is Slack, oncall is PagerDuty."""
        base = f"http://127.0.0.1:{self.port}"
        key = agent_config.secret(folder, "pagerduty", ROUTING_KEY)
        return {
            "chat": {"slack": {"url": agent_config.secret(folder, "slack", f"{base}/services/T0/B0/X")}},
            "oncall": {"pagerduty": {"routing_key": key, "url": f"{base}/v2/enqueue"}},
        }

    async def until(self, true: Callable[[], bool], complaint: str, timeout: float = 30.0) -> None:
        """Waits for a condition, bounded."""
        end = asyncio.get_running_loop().time() + timeout
        while not true():
            assert asyncio.get_running_loop().time() < end, f"{complaint}: {self}"
            await asyncio.sleep(0.05)

    async def _slack(self, request: web.Request) -> web.Response:
        self.slack.append(await request.json())
        return web.Response(text="ok")

    async def _pagerduty(self, request: web.Request) -> web.Response:
        event = await request.json()
        self.pagerduty.append(event)
        return web.json_response({"status": "success", "dedup_key": event["dedup_key"]}, status=202)

    async def _ping(self, _request: web.Request) -> web.Response:
        self.pings.append(asyncio.get_running_loop().time())
        return web.Response(text="OK")


@asynccontextmanager
async def receivers() -> AsyncIterator[Receivers]:
    """All of them on one free port."""
    found = Receivers()
    app = web.Application(client_max_size=2**20)
    app.router.add_post("/services/T0/B0/X", found._slack)
    app.router.add_post("/v2/enqueue", found._pagerduty)
    app.router.add_post("/ping/uuid", found._ping)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()
