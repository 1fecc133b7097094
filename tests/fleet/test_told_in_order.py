"""What people are told while agents come and go: once, in order, and a zombie does not have the last word."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.app import App
from agent.fleet.fleet import DRAINING
from agent.fleet.resources import RECEIVER
from agent.store import members
from agent.store.database import Tx
from tests.fleet.heard import Heard, listed, pager
from tests.fleet.pairs import agent, quick, write
from tests.guarantees.agents import eventually

__all__ = ["quick"]
SUBJECT = "told.example"


def config(folder: Path, store: str, heard: Heard) -> Path:
    path = write(folder, store, 1)
    document = yaml.safe_load(path.read_text())
    document["blocklists"] = {"subjects": {"from_senders": False}, "zones": ["bl.example"]}
    document["alerts"] = {"receivers": heard.settings(folder)}
    path.write_text(yaml.safe_dump(document))
    return path


def said(heard: Heard) -> list[str]:
    return heard.of([SUBJECT])[SUBJECT]


async def until(true: Callable[[], bool], heard: Heard) -> None:
    await eventually(true, 30.0, lambda: str(said(heard)))


async def told(app: App, heard: Heard, there: bool, *actions: str) -> None:
    """It is listed or delisted; waits until the pager has heard just that."""
    await asyncio.to_thread(listed, app.services.database, [SUBJECT], there)
    await until(lambda: said(heard) == list(actions), heard)


async def test_a_receiver_given_away_while_it_is_told(tmp_path: Path, postgres_url: str, quick: None) -> None:
    async with pager() as heard:
        path = config(tmp_path, postgres_url, heard)
        async with agent(path) as a:
            heard.door.clear()
            await told(a, heard, True, "trigger")
            async with agent(path) as b:
                a.services.me.state = DRAINING
                leaving = asyncio.create_task(a.services.fleet.hand_over())
                await until(lambda: RECEIVER + "pager" not in a.services.fleet._held, heard)
                await asyncio.sleep(0.3)
                assert not b.services.fleet.holds(RECEIVER + "pager"), "while the first one still speaks"
                heard.door.set()
                await leaving
                await until(lambda: b.services.fleet.holds(RECEIVER + "pager"), heard)
                await told(b, heard, False, "trigger", "resolve")
                await asyncio.sleep(0.5)
                assert said(heard) == ["trigger", "resolve"]


async def test_a_zombies_late_word_is_not_the_last(
    tmp_path: Path, postgres_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first agent is frozen after it has looked whether it may speak and before it does."""
    async with pager() as heard:
        path = config(tmp_path, postgres_url, heard)
        async with agent(path) as a:
            thaw, frozen = freeze(a, monkeypatch)
            await asyncio.to_thread(listed, a.services.database, [SUBJECT], True)
            await asyncio.wait_for(frozen.wait(), 20.0)
            async with agent(path) as b:
                await b.services.database.write(lambda tx: evict(tx, a.services.me.holder))
                await until(lambda: said(heard) == ["trigger"], heard)
                await told(b, heard, False, "trigger", "resolve")
                thaw.set()
                await until(lambda: said(heard) == ["trigger", "resolve", "trigger", "resolve"], heard)
                await asyncio.sleep(1.0)
                assert len(said(heard)) == 4
                assert a.services.epoch > 0, "it has joined again"


def freeze(app: App, monkeypatch: pytest.MonkeyPatch) -> tuple[asyncio.Event, asyncio.Event]:
    """The agent stands still at its first word to the pager until the first event is set; the second says
    when it does."""
    thaw, frozen = asyncio.Event(), asyncio.Event()
    membership, poster = app.services.fleet.membership, app.services.poster
    post, beat = poster.post, membership.beat

    async def late(*args: Any, **more: Any) -> Any:
        frozen.set()
        await thaw.wait()
        return await post(*args, **more)

    async def no_beat() -> Any:
        if frozen.is_set():
            await thaw.wait()
        return await beat()

    monkeypatch.setattr(poster, "post", late)
    monkeypatch.setattr(membership, "beat", no_beat)
    monkeypatch.setattr(app.delivering._outbox, "_left", lambda: 60.0)
    return thaw, frozen


def evict(tx: Tx, holder: str) -> None:
    zombie = next(one for one in members.every(tx.conn) if one.holder == holder)
    assert members.evict(tx.conn, zombie)
