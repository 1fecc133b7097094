"""A real Alertmanager receives, deduplicates and resolves what the notifier sends; amtool shows it."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from alerts.causes import Scope, ScopeKind
from alerts.http import AiohttpPoster
from alerts.lifecycle import Alert, AlertState, Member
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.settings import AlertKind, AlertmanagerSettings
from alerts.texts import Pages
from probes.outcome import Severity
from tests.lab.agents import lab_agent
from tests.lab.breaking import round_of, settings
from tests.lab.world.lab import Lab

PROGRAM, TOOL = shutil.which("prometheus-alertmanager"), shutil.which("amtool")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not PROGRAM or not TOOL, reason="needs the Debian package prometheus-alertmanager"),
]

CONFIG = """
route:
  {{receiver: hook, group_by: [alertname, incident], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}}
receivers:
- name: hook
  webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


@dataclass
class Manager:
    """A running Alertmanager and what it told its own receiver."""

    url: str = ""
    told: list[Any] = field(default_factory=list)

    async def hook(self, request: web.Request) -> web.Response:
        self.told.append(await request.json())
        return web.Response()

    async def shown(self) -> list[Any]:
        """What amtool shows of it."""
        assert TOOL
        command = (TOOL, "--alertmanager.url", self.url, "alert", "query", "-o", "json")
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(process.communicate(), 20)
        return list(json.loads(out))

    async def until(self, count: int) -> None:
        """Waits, at most 30 seconds, until it has told its receiver so often."""
        async with asyncio.timeout(30):
            while len(self.told) < count:
                await asyncio.sleep(0.1)

    async def names(self) -> list[str]:
        """The names of the alerts that amtool shows."""
        return sorted(alert["labels"]["alertname"] for alert in await self.shown())

    async def shows(self, *names: str) -> None:
        """Waits, at most 30 seconds, until amtool shows just these."""
        async with asyncio.timeout(30):
            while await self.names() != sorted(names):
                await asyncio.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
async def manager(tmp_path: Path) -> AsyncIterator[Manager]:
    found = Manager()
    app = web.Application()
    app.router.add_post("/", found.hook)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "am.yml").write_text(CONFIG.format(url=f"http://127.0.0.1:{runner.addresses[0][1]}/"))
    port = _free_port()
    assert PROGRAM
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        f"--config.file={tmp_path}/am.yml",
        f"--storage.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    found.url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.1)
        yield found
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)
        await runner.cleanup()


async def test_received_deduplicated_and_resolved(manager: Manager) -> None:
    start = time.time() - 600
    alert = Alert(
        f"mailcanary/mail/sender:app/{int(start)}",
        AlertKind.SPAM,
        Scope(ScopeKind.SENDER, "app"),
        start,
        AlertState.FIRING,
        Severity.ERROR,
        {"app/gmail-1": Member(AlertKind.SPAM, start, "app", "gmail-1", "gmail", "", "spam, dkim=fail")},
        code="dkim",
        providers=2,
        told="error",
    )
    async with AiohttpPoster() as http:
        notifier = AlertmanagerNotifier(AlertmanagerSettings(manager.url), http)
        for _ in range(3):
            assert (await notifier.feed([alert], Pages("https://canary.example"), time.time())).ok
        await manager.until(1)
        (shown,) = await manager.shown()
        assert shown["labels"] == {
            "agent": "mailcanary",
            "alertname": "MailcanaryDelivery",
            "incident": alert.key,
            "severity": "critical",
        }
        assert shown["annotations"]["runbook_url"] == "https://canary.example/runbooks/spam"
        assert shown["annotations"]["summary"] == (
            "[FIRING error] Mail from sender app lands in spam at 2 providers: DKIM does not pass"
        )
        ended = replace(alert, state=AlertState.RESOLVED, resolved_at=time.time())
        assert (await notifier.feed([ended], Pages(), time.time())).ok
        await manager.until(2)
        assert await manager.shown() == []
    assert [t["status"] for t in manager.told] == ["firing", "resolved"], (
        "told once each, however often re-sent"
    )


async def test_a_running_agent_feeds_it(lab: Lab, manager: Manager, tmp_path: Path) -> None:
    receiver = {"prometheus": {"alertmanager": {"url": manager.url, "resend": "1s"}}}
    beat = {"watchdog": ["prometheus"], "within": "10m"}
    async with lab_agent(lab, tmp_path, **settings(tmp_path, receiver, heartbeat=beat)) as agent:
        assert await manager.names() == [], "no loop was closed yet, so there is no Watchdog"
        await round_of(agent, "app", "bulk", "direct")
        await manager.shows("MailcanaryWatchdog")
        lab.dkim.break_("sender.test")
        lab.spf.break_("sender.test")
        for _ in range(2):
            await round_of(agent, "app")
        await manager.shows("MailcanaryDelivery", "MailcanaryWatchdog")
        # An alert ends by itself four re-sends after the last one: that it is still there proves the feed.
        await asyncio.sleep(6)
        assert await manager.names() == ["MailcanaryDelivery", "MailcanaryWatchdog"]
        lab.dkim.repair("sender.test")
        lab.spf.repair("sender.test")
        for _ in range(2):
            await round_of(agent, "app")
        await manager.shows("MailcanaryWatchdog")
        await asyncio.sleep(3)
        assert await manager.names() == ["MailcanaryWatchdog"], "what is over is not shown again"
    told = [(t["alerts"][0]["labels"]["alertname"], t["status"]) for t in manager.told]
    assert [status for name, status in told if name == "MailcanaryDelivery"] == ["firing", "resolved"]
    await manager.shows()
