"""G8: an alert and its end reach people at least once, whatever the receiver does and whenever we die."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.store import rows
from agent.store.schema import open_store
from alerts.observation import ListingSeen, observation_to_json
from probes.outcome import Severity
from tests.fakes.stores import store_in
from tests.guarantees.agents import AgentProcess, eventually, sink_config
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import sink

ALERTS = 50
KILLS = 4
MOODS = ("ok",) * 12 + ("500", "429", "hang", "reset")
TRIGGER, RESOLVE = "trigger", "resolve"
LONGEST = 240.0


@dataclass
class Receivers:
    """Slack and PagerDuty on one port: they answer 500, 429, hang, reset or accept, and kill at some accepts.

    heard: by receiver and deduplication key, what was accepted, in order.
    """

    chance: random.Random
    kill_at: set[int]
    agent: AgentProcess | None = None
    port: int = 0
    accepted: int = 0
    kills: int = 0
    moods: Counter[str] = field(default_factory=Counter)
    heard: dict[str, dict[str, list[str]]] = field(
        default_factory=lambda: {name: defaultdict(list) for name in ("slack", "pagerduty")}
    )

    def settings(self, folder: Path) -> dict[str, Any]:
        """Both as the config takes them, at a pace that no test wants to wait for."""
        base, key = f"http://127.0.0.1:{self.port}", folder / "routing.key"
        key.touch(mode=0o600)
        key.write_text("key")
        url = folder / "slack.url"
        url.touch(mode=0o600)
        url.write_text(f"{base}/slack")
        fast = {"per_minute": 60_000, "digest_over": 0, "timeout": "1s"}
        return {
            "slack": {"slack": {"url": {"file": str(url)}}, **fast},
            "pagerduty": {
                "pagerduty": {"routing_key": {"file": str(key)}, "url": f"{base}/pagerduty"},
                **fast,
            },
        }

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        mood = self.chance.choice(MOODS)
        self.moods[mood] += 1
        if mood == "hang":
            await asyncio.sleep(1.2)
        if mood in ("reset", "hang"):
            return _cut(request)
        if mood != "ok":
            return web.Response(status=int(mood), headers={"Retry-After": "1"} if mood == "429" else {})
        name = request.path.strip("/")
        key, action = read(name, body)
        self.heard[name][key].append(action)
        self.accepted += 1
        if self.accepted in self.kill_at and self.agent is not None and not self.agent.dead:
            self.kills += 1
            self.agent.signal(signal.SIGKILL)
            return _cut(request)
        return web.Response(status=202 if name == "pagerduty" else 200, text="ok")

    def open(self, action: str, keys: int) -> list[str]:
        """What has not yet been told of so many alerts."""
        return [
            f"{name} {keys - done}"
            for name, found in self.heard.items()
            if (done := sum(action in actions for actions in found.values())) < keys
        ]


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def read(name: str, body: dict[str, Any]) -> tuple[str, str]:
    """The deduplication key and the action of a message."""
    if name == "pagerduty":
        return str(body["dedup_key"]), str(body["event_action"])
    footer = str(body["blocks"][-1]["elements"][0]["text"])
    return footer.rpartition(" · ")[2], RESOLVE if "[RESOLVED" in body["text"] else TRIGGER


@asynccontextmanager
async def receivers(chance: random.Random, kill_at: set[int]) -> AsyncIterator[Receivers]:
    """Both, listening."""
    found = Receivers(chance, kill_at)
    app = web.Application()
    for name in found.heard:
        app.router.add_post(f"/{name}", found.take)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.port = runner.addresses[0][1]
    try:
        yield found
    finally:
        await runner.cleanup()


def see(folder: Path, listed: bool, count: int) -> None:
    """So many subjects are listed, each by a zone of its own: as many alerts; or they are delisted."""
    store = open_store(store_in(folder))
    now = time.time()

    def observe(tx: Any) -> None:
        for n in range(count):
            subject, zone = f"192.0.2.{n}", f"zone{n}.example"
            seen = ListingSeen(subject, zone, listed, now, Severity.ERROR, "a burst", senders=())
            rows.observe(tx, now, "listing", observation_to_json(seen))

    try:
        store.write_now(observe)
    finally:
        store.close()


async def told(agent: AgentProcess, heard: Receivers, action: str, count: int) -> None:
    """Waits until all was told, and starts the agent again whenever it was killed."""
    end = time.monotonic() + LONGEST
    while heard.open(action, count):
        assert time.monotonic() < end, (
            f"{action} not told: {heard.open(action, count)}; {agent.log()[-1500:]}"
        )
        if agent.dead:
            await agent.start()
        await asyncio.sleep(0.1)


async def part(folder: Path, number: int, alerts: int = ALERTS, kills: int = KILLS) -> Tally:
    """So many alerts fire and end; the agent is killed now and then in the middle of a delivery."""
    chance = random.Random(number)
    kill_at = set(chance.sample(range(3, 3 * alerts), kills))
    async with sink("box0@example.net") as world, receivers(chance, kill_at) as heard:
        routes = [{"every": "500ms", "deadline": "10s", "late_after": "1h"}]
        watched = {"subjects": {"from_senders": False}}
        told_to = {"receivers": heard.settings(folder)}
        path = sink_config(world, folder, senders=1, routes=routes, blocklists=watched, alerts=told_to)
        agent = heard.agent = AgentProcess(path)
        began = time.monotonic()
        try:
            await agent.start()
            await eventually(lambda: len(world.accepted) > 2, 30.0, lambda: agent.log()[-2000:])
            see(folder, True, alerts)
            await told(agent, heard, TRIGGER, alerts)
            see(folder, False, alerts)
            await told(agent, heard, RESOLVE, alerts)
        finally:
            await agent.close()
        return judged(heard, alerts, time.monotonic() - began)


def judged(heard: Receivers, alerts: int, seconds: float) -> Tally:
    """What the receivers hold against what happened."""
    tally = Tally(trials=alerts)
    for name, found in heard.heard.items():
        tally.check(len(found) == alerts, f"{name}: {len(found)} incidents of {alerts}")
        for key, actions in found.items():
            tally.check(actions[0] == TRIGGER, f"{name}: {key} begins with {actions[0]}")
            tally.check(actions[-1] == RESOLVE, f"{name}: {key} is left open: {actions}")
            tally.check(actions == sorted(actions, reverse=True), f"{name}: {key} out of order: {actions}")
    again = sum(len(actions) - 2 for actions in heard.heard["slack"].values())
    tally.check(again <= heard.kills, f"{again} Slack duplicates of {heard.kills} kills")
    refused = sum(count for mood, count in heard.moods.items() if mood != "ok")
    tally.figures = {"kills": heard.kills, "Slack duplicates": again, "refusals": refused, "s": seconds}
    return tally


PROMISE = "alerts told at least once with their end, killed mid-send, receivers failing in every way"
GUARANTEE = Guarantee("G8", PROMISE, "alerts", 1000, ALERTS, part)


async def test_no_alert_is_lost_and_none_left_open(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
    assert tally.figures["kills"] == KILLS
