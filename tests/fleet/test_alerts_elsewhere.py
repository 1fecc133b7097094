"""Alerts through an agent that does not evaluate them, and an evaluator that is given up in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from agent.app import App
from agent.fleet.resources import EVALUATOR
from agent.store.tables import alerts, observations, outbox
from probes.errors import StaleWrite
from tests.fakes.sweeping_agent import rows
from tests.fleet.heard import Heard, listed, pager
from tests.fleet.pairs import agent, quick
from tests.fleet.test_told_in_order import config, evict
from tests.guarantees.agents import eventually

__all__ = ["quick"]
SUBJECT, SILENT = "told.example", "silent.example"


def roles(*agents: App) -> tuple[App, App]:
    """The one that evaluates, and another."""
    first = next(one for one in agents if one.services.fleet.holds(EVALUATOR))
    return first, next(one for one in agents if one is not first)


async def until(true: Callable[[], bool], heard: Heard) -> None:
    await eventually(true, 30.0, lambda: str(heard.told))


async def post(app: App, path: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"http://{app.services.config.agent.listen}{path}"
    async with aiohttp.ClientSession() as http, http.post(url, json=body) as answer:
        assert answer.status < 300, await answer.text()
        found: dict[str, Any] = await answer.json()
        return found


def evaluates(agents: Sequence[App]) -> bool:
    return sum(one.services.fleet.holds(EVALUATOR) for one in agents) == 1


async def test_acknowledged_and_silenced_at_another_agent(
    tmp_path: Path, postgres_url: str, quick: None
) -> None:
    async with pager() as heard:
        path = config(tmp_path, postgres_url, heard)
        async with agent(path) as a, agent(path) as b:
            await until(lambda: evaluates([a, b]), heard)
            evaluator, other = roles(a, b)
            await asyncio.to_thread(listed, other.services.database, [SUBJECT], True)
            await until(lambda: heard.of([SUBJECT])[SUBJECT] == ["trigger"], heard)
            key = next(row["key"] for row in rows(other, alerts) if SUBJECT in row["key"])
            found = await post(other, "/api/v1/alerts/ack", {"key": key, "by": "me"})
            assert found["acknowledged_by"] == "me"
            await until(lambda: heard.of([SUBJECT])[SUBJECT] == ["trigger", "acknowledge"], heard)
            assert evaluator.evaluator.state.alerts[key].acked_by == "me"
            assert not await other.acknowledge(key, "me too"), "it is taken on already"

            match = {"zones": ["zone-silent-example.example"]}
            await post(
                other, "/api/v1/silences", {"match": match, "for": "1h", "by": "me", "comment": "known"}
            )
            await asyncio.to_thread(listed, other.services.database, [SILENT], True)
            await until(lambda: any(SILENT in row["key"] for row in rows(other, alerts)), heard)
            row = next(row for row in rows(other, alerts) if SILENT in row["key"])
            assert (row["status"], bool(row["body"]["muted"])) == ("firing", True)
            await asyncio.to_thread(listed, other.services.database, [SUBJECT], False)
            await until(lambda: heard.of([SUBJECT])[SUBJECT][-1] == "resolve", heard)
            assert heard.of([SILENT])[SILENT] == []


async def test_an_evaluator_that_is_given_up_before_it_has_written(
    tmp_path: Path, postgres_url: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pager() as heard:
        path = config(tmp_path, postgres_url, heard)
        async with agent(path) as a, agent(path) as b:
            await until(lambda: evaluates([a, b]), heard)
            zombie, other = roles(a, b)
            middle, go_on, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()
            commit, beat = zombie.evaluator._commit, zombie.services.fleet.membership.beat

            async def late(*args: Any) -> None:
                middle.set()
                await go_on.wait()
                try:
                    await commit(*args)
                except StaleWrite:
                    refused.set()
                    raise

            async def no_beat() -> Any:
                if middle.is_set():
                    await go_on.wait()
                return await beat()

            monkeypatch.setattr(zombie.evaluator, "_commit", late)
            monkeypatch.setattr(zombie.services.fleet.membership, "beat", no_beat)
            await asyncio.to_thread(listed, other.services.database, [SUBJECT], True)
            await asyncio.wait_for(middle.wait(), 20.0)
            await other.services.database.write(lambda tx: evict(tx, zombie.services.me.holder))
            await until(lambda: other.services.fleet.holds(EVALUATOR), heard)
            await until(lambda: heard.of([SUBJECT])[SUBJECT] == ["trigger"], heard)
            before = rows(other, alerts), rows(other, outbox)
            go_on.set()
            await asyncio.wait_for(refused.wait(), 20.0)
            assert (rows(other, alerts), rows(other, outbox)) == before
            await until(lambda: zombie.services.epoch > 0 and evaluates([a, b]), heard)
            await asyncio.to_thread(listed, other.services.database, [SUBJECT], False)
            await until(lambda: heard.of([SUBJECT])[SUBJECT] == ["trigger", "resolve"], heard)
            await until(lambda: not rows(other, observations), heard)
            assert heard.of([SUBJECT])[SUBJECT] == ["trigger", "resolve"]
