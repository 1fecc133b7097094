"""A PagerDuty on loopback that remembers what it was told, and alerts to be told of."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.store import rows
from agent.store.database import Database, Tx
from alerts.observation import ListingSeen, observation_to_json
from probes.outcome import Severity


@dataclass
class Heard:
    """told: by deduplication key, the actions in order, each with its time. door: closed, nobody is answered
    though all are heard."""

    port: int = 0
    door: asyncio.Event = field(default_factory=asyncio.Event)
    told: dict[str, list[tuple[str, float]]] = field(default_factory=lambda: defaultdict(list))

    def settings(self, folder: Path) -> dict[str, Any]:
        """The receiver as the config takes it, at a pace that no test wants to wait for."""
        key = folder / "routing.key"
        folder.mkdir(parents=True, exist_ok=True)
        key.touch(mode=0o600)
        key.write_text("key")
        url = f"http://127.0.0.1:{self.port}/v2/enqueue"
        pager = {"routing_key": {"file": str(key)}, "url": url}
        return {"pager": {"pagerduty": pager, "per_minute": 60_000, "digest_over": 0, "timeout": "2s"}}

    async def take(self, request: web.Request) -> web.Response:
        """One event."""
        event = await request.json()
        self.told[event["dedup_key"]].append((event["event_action"], time.time()))
        await self.door.wait()
        return web.json_response({"status": "success", "dedup_key": event["dedup_key"]}, status=202)

    def of(self, subjects: Sequence[str]) -> dict[str, list[str]]:
        """The actions by subject, for keys that name one of the subjects."""
        found: dict[str, list[str]] = {subject: [] for subject in subjects}
        for key, actions in self.told.items():
            for subject in subjects:
                if subject in key:
                    found[subject] += [action for action, _ in actions]
        return found


@asynccontextmanager
async def pager() -> AsyncIterator[Heard]:
    """It, listening."""
    found = Heard()
    found.door.set()
    app = web.Application()
    app.router.add_post("/v2/enqueue", found.take)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


def listed(store: Database, subjects: Sequence[str], there: bool) -> None:
    """Each subject is listed by a zone of its own: as many alerts; or is delisted: as many ends."""
    now = time.time()

    def observe(tx: Tx) -> None:
        for subject in subjects:
            zone = f"zone-{subject.replace('.', '-')}.example"
            seen = ListingSeen(subject, zone, there, now, Severity.ERROR, "a proof", senders=())
            rows.observe(tx, now, "listing", observation_to_json(seen))

    store.write_now(observe)
