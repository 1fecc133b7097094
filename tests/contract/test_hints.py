"""What every adapter of the hint port does, in the process and between agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agent.hints import LocalHints
from agent.hints_procrastinate import ProcrastinateHints, open_hints
from agent.store.database import Database, Hint, Tx
from agent.store.schema import open_store
from probes.errors import StaleWrite
from tests.fakes.postgres import Postgres

PATIENCE = 30.0


@dataclass
class Agent:
    """One process' hints over a store of its own connections, and what they brought."""

    database: Database
    hints: LocalHints | ProcrastinateHints
    heard: list[tuple[str, str]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, *hints: Hint) -> None:
        await self.database.write(lambda tx: self.hints.defer(tx, *hints))

    async def until(self, count: int) -> list[tuple[str, str]]:
        async with asyncio.timeout(PATIENCE):
            while len(self.heard) < count:
                self.news.clear()
                await self.news.wait()
        return self.heard

    def handler(self, kind: str) -> Callable[[str], Awaitable[None]]:
        async def heard(key: str) -> None:
            self.heard.append((kind, key))
            self.news.set()

        return heard


@asynccontextmanager
async def agent(url: str, name: str = "one") -> AsyncIterator[Agent]:
    database = await asyncio.to_thread(open_store, url)
    made = Agent(database, open_hints(database, name))
    stop = asyncio.Event()
    handlers = {kind: made.handler(kind) for kind in ("a", "b")}
    running = asyncio.create_task(made.hints.run(handlers, stop))
    try:
        yield made
    finally:
        stop.set()
        await running
        await asyncio.to_thread(database.close)


async def test_a_hint_follows_its_commit(store_url: str) -> None:
    async with agent(store_url) as one:
        await one.write(Hint("a", "1"), Hint("b", "2"))
        assert await one.until(2) == [("a", "1"), ("b", "2")]


async def test_a_hint_of_what_failed_is_never_heard(store_url: str) -> None:
    async with agent(store_url) as one:

        def fail(tx: Tx) -> None:
            one.hints.defer(tx, Hint("a", "never"))
            raise StaleWrite("on purpose")

        with pytest.raises(StaleWrite):
            await one.database.write(fail)
        await one.write(Hint("a", "next"))
        assert await one.until(1) == [("a", "next")]


async def test_hints_without_a_transaction_and_what_is_repeated(store_url: str) -> None:
    async with agent(store_url) as one:
        one.hints.put(*[Hint("a", "1")] * 50)
        one.hints.put(Hint("b", "2"))
        assert await one.until(2) == [("a", "1"), ("b", "2")]


async def test_a_handler_that_fails_hinders_nothing(store_url: str) -> None:
    async with agent(store_url) as one:
        broken = one.handler("b")

        async def fail(key: str) -> None:
            await broken(key)
            raise ZeroDivisionError

        one.hints.put(Hint("a", "1"))
        await one.until(1)
        one.hints.put(Hint("b", "2"), Hint("a", "3"))
        assert set(await one.until(3)) == {("a", "1"), ("b", "2"), ("a", "3")}


async def test_a_hint_to_oneself_by_name_is_heard(store_url: str) -> None:
    async with agent(store_url) as one:
        one.hints.put(Hint("a", "1", "one"))
        assert await one.until(1) == [("a", "1")]


# --- between agents -----------------------------------------------------------------------------------------


async def test_a_hint_to_another_agent_reaches_that_one_only(postgres_url: str) -> None:
    async with agent(postgres_url, "one") as one, agent(postgres_url, "two") as two:
        await one.write(Hint("a", "mine"), Hint("a", "yours", "two"), Hint("b", "too", "two"))
        assert await two.until(2) == [("a", "yours"), ("b", "too")]
        assert await one.until(1) == [("a", "mine")]
        one.hints.put(Hint("b", "later", "two"))
        assert (await two.until(3))[-1] == ("b", "later")


async def test_what_was_sent_to_one_that_is_not_there_waits_or_is_forgotten(
    postgres_url: str, postgres: Postgres
) -> None:
    async with agent(postgres_url, "one") as one:
        await one.write(Hint("a", "first", "two"), Hint("a", "gone", "nobody"))
        async with agent(postgres_url, "two") as two:
            assert await two.until(1) == [("a", "first")]
        assert isinstance(one.hints, ProcrastinateHints)
        assert await one.hints.drop_forgotten() == 0, "it may still come"
        name = postgres_url.rpartition("/")[2]
        postgres.sql("UPDATE procrastinate_events SET at = at - interval '1 hour'", name)
        assert await one.hints.drop_forgotten() == 1
        assert postgres.sql("SELECT count(*) FROM procrastinate_jobs", name) == [(0,)]


async def test_after_an_outage_hints_are_heard_again(
    postgres_url: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.hints_procrastinate.AGAIN", 0.1)
    async with agent(postgres_url, "one") as one, agent(postgres_url, "two") as two:
        await one.write(Hint("a", "before", "two"))
        await two.until(1)
        postgres.stop()
        one.hints.put(Hint("a", "here"))
        assert await one.until(1) == [("a", "here")], "what stays in the process needs no server"
        postgres.start()
        sent = 0
        async with asyncio.timeout(PATIENCE):
            while len(two.heard) < 2:
                sent += 1
                one.hints.put(Hint("a", f"after {sent}", "two"))
                await asyncio.sleep(0.2)
