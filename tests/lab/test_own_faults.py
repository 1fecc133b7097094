"""Faults of our own reach their own receiver, never the one for mail; nobody expects paused canaries."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent.app import App
from agent.runner.evaluating import Evaluator
from agent.store import rows
from alerts.settings import AlertKind
from probes.clock import SystemClock
from tests.fakes.stores import ON_POSTGRESQL
from tests.guarantees.agents import app_on, eventually, send, sink_config
from tests.guarantees.sink import sink
from tests.guarantees.test_g10_disk_full import fill, small_disk

pytestmark = pytest.mark.lab
Tree = dict[str, Any]
OWN = [kind for kind in AlertKind if kind.own]


class Heard:
    """Two webhooks: ours is for our own faults, mail for mail."""

    def __init__(self) -> None:
        self.ours: list[Tree] = []
        self.mail: list[Tree] = []
        self.port = 0

    def alerts(self, folder: Path) -> Tree:
        """The config: each to its own, and no own fault waits before it is told."""
        hooks = {}
        for name in ("ours", "mail"):
            secret = folder / f"{name}.url"
            secret.touch(mode=0o600)
            secret.write_text(f"http://127.0.0.1:{self.port}/{name}")
            hooks[name] = {"webhook": {"url": {"file": str(secret)}}}
        routes = [{"receivers": [name], "match": {"own": name == "ours"}} for name in hooks]
        return {"receivers": hooks, "routes": routes, "rules": {kind.value: {"after": "0s"} for kind in OWN}}

    def kinds(self, action: str = "trigger") -> set[str]:
        """What our own receiver was told."""
        return {str(n["kind"]) for n in self.ours if n["action"] == action}

    async def take(self, request: web.Request) -> web.Response:
        getattr(self, request.path.strip("/")).append(await request.json())
        return web.Response()


@asynccontextmanager
async def hearing() -> AsyncIterator[Heard]:
    heard = Heard()
    site = web.Application()
    for path in ("/ours", "/mail"):
        site.router.add_post(path, heard.take)
    runner = web.AppRunner(site, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    heard.port = runner.addresses[0][1]
    try:
        yield heard
    finally:
        await runner.cleanup()


class Jumpy(SystemClock):
    """A wall clock that can be moved."""

    off = 0.0

    def wall(self) -> float:
        return super().wall() + self.off


def hurt(world: Any, folder: Path, heard: Heard) -> Path:
    """A config in which a sender's relay and a seed's mailbox and the resolver are not there."""
    gone = {"from": "canary@gone.example.org", "relay": {"host": "127.0.0.1", "port": 9, "security": "none"}}
    path = sink_config(
        world,
        folder,
        senders=1,
        senders_gone=gone,
        alerts=heard.alerts(folder),
        resolver={"timeout": "100ms"},
        blocklists={"subjects": {"from_senders": False, "ips": ["192.0.2.1"]}, "zones": ["bl.spamcop.net"]},
    )
    import yaml

    document = yaml.safe_load(path.read_text())
    document["senders"]["gone"] = document.pop("senders_gone")
    document["seeds"]["lost"] = {**document["seeds"]["box0"], "address": "lost@example.net"}
    document["seeds"]["lost"]["imap"] = {**document["seeds"]["box0"]["imap"], "port": 9}
    path.write_text(yaml.safe_dump(document))
    return path


async def test_each_own_fault_reaches_its_own_receiver_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.runner.upkeep.BEAT", 1.0)
    clock = Jumpy()
    async with (
        hearing() as heard,
        sink("box0@example.net") as world,
        app_on(hurt(world, tmp_path, heard), clock=clock, seeds=["box0"]) as app,
    ):
        await send(app, senders=["s0"], seeds=["box0"])
        await send(app, senders=["gone"], seeds=["box0"])
        app.watching.retries = 0
        await app.watching.sweep()
        wanted = {"seed_unreadable", "sender_unreachable", "resolver"}
        await eventually(lambda: wanted <= heard.kinds(), 30.0, lambda: str(heard.kinds()))
        if not ON_POSTGRESQL:  # times are the database's there, whatever this machine's clock does
            clock.off = 3600.0
            await eventually(lambda: "clock" in heard.kinds(), 30.0, lambda: str(heard.kinds()))
            await eventually(lambda: "clock" in heard.kinds("resolve"), 30.0, lambda: str(heard.ours[-1]))
    assert heard.mail == []
    assert {n["own"] for n in heard.ours} == {True}
    texts = {str(n["kind"]): str(n["title"]) for n in heard.ours}
    assert texts["sender_unreachable"].endswith("The agent cannot reach sender gone's relay")
    assert texts["seed_unreadable"].endswith("The agent cannot read seed lost")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
async def test_a_full_disk_is_told_once_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.runner.upkeep.BEAT", 1.0)
    async with hearing() as heard, sink("box0@example.net") as world:
        with small_disk(tmp_path / "disk") as disk:
            store = {"store": f"sqlite:///{disk}/mailcanary.db"}
            path = sink_config(world, tmp_path, senders=1, agent=store, alerts=heard.alerts(tmp_path))
            async with app_on(path, seeds=["box0"]) as app:
                database = app.services.database
                await send(app)
                for _ in range(200):
                    fill(disk / "ballast")
                    await asyncio.sleep(0.05)
                    if database.failures:
                        break
                assert "full" in database.failure
                await asyncio.sleep(2.0)
                (disk / "ballast").unlink()
                await eventually(lambda: "store" in heard.kinds(), 60.0, lambda: str(heard.ours))
                await eventually(lambda: "store" in heard.kinds("resolve"), 60.0, lambda: str(heard.ours))
    assert heard.mail == []
    told = next(n for n in heard.ours if n["kind"] == "store")
    assert told["title"].endswith("The agent cannot write its store mailcanary.db")
    assert "nothing was sent meanwhile" in str(told["sections"])


async def test_no_canary_is_missed_while_none_is_expected(tmp_path: Path) -> None:
    async with hearing() as heard, sink("box0@example.net") as world:
        path = sink_config(world, tmp_path, senders=1, alerts=heard.alerts(tmp_path))
        async with app_on(path, seeds=["box0"]) as app:
            evaluator = on_days(app)
            await evaluator("nothing is scheduled", False, hours=0.0)
            await evaluator("", False, hours=72.0)
            app.evaluator.scheduled = True
            await pause(app, True)
            await evaluator("paused", False, hours=200.0)
            await pause(app, False)
            await evaluator("resumed a moment ago", False, hours=200.1)
            await evaluator("a day and less is usual here: every is 1d", False, hours=230.0)
            await evaluator("two days without a verdict", True, hours=200.1 + 48.1)
            await pause(app, True)
            await evaluator("paused again, so it is over", False, hours=249.0)
        assert heard.mail == []


def on_days(app: App) -> Any:
    """Evaluates as if it were so many hours later, and says whether no_runs fires."""
    start = app.services.clock.wall()

    async def look(why: str, fires: bool, *, hours: float) -> None:
        def later(_self: Evaluator) -> float:
            return start + hours * 3600.0

        app.evaluator._now = later.__get__(app.evaluator)  # type: ignore[method-assign]
        await app.evaluator.once()
        firing = [a for a in app.evaluator.state.firing() if a.kind is AlertKind.NO_RUNS]
        assert bool(firing) is fires, why

    return look


async def pause(app: App, on: bool) -> None:
    """The kill switch for sending."""
    await app.services.database.write(lambda tx: rows.set_setting(tx.conn, rows.PAUSED, on))
