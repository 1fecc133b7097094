"""A canary is moved on from what is known of it, and never past what its row says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.engine import Connection

from agent.runner.ledger import Ledger
from agent.runner.services import Services
from agent.store import canaries
from agent.store.database import Database, Tx
from agent.store.schema import open_store
from probes.canary.state import Canary, Moment, State

NOW = Moment(1_800_000_000.0, 1_000.0, "boot")
NEW = replace(
    Canary(
        *("c1", "token-c1", "<c1@example.org>", "app", "box", "dovecot", ""),
        created=NOW,
        deadline=600.0,
        late_after=3_600.0,
    ),
    due_at=NOW.wall + 600.0,
)


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    database = open_store(store_url)
    yield database
    database.close()


def ledger_on(store: Database) -> Ledger:
    services: Any = SimpleNamespace(database=store, fence=lambda tx: None, now=lambda: NOW)
    services.clock = SimpleNamespace(wall=lambda: NOW.wall)
    services.config = SimpleNamespace(watched={"box": 3_600.0}, longest_deadline=600.0)
    services.metrics = SimpleNamespace(submitted=lambda canary: None)
    return Ledger(cast(Services, services))


def attempted(canary: Canary, now: Moment) -> Canary:
    return replace(canary, version=canary.version + 1, attempts=canary.attempts + 1, state=State.SENT)


async def test_a_canary_that_stands_as_it_is_known_is_moved_on_unread(store: Database) -> None:
    await store.write(lambda tx: canaries.insert(tx, NEW))
    moved = await ledger_on(store).apply("c1", attempted, NEW)
    assert moved == await store.read(lambda conn: canaries.get(conn, "c1"))
    assert moved is not None
    assert (moved.attempts, moved.state) == (1, State.SENT)


async def test_where_the_row_has_moved_on_its_own_words_count(store: Database) -> None:
    await store.write(lambda tx: canaries.insert(tx, NEW))
    ledger = ledger_on(store)
    await ledger.apply("c1", attempted)
    moved = await ledger.apply("c1", attempted, NEW)  # as it was before the first step
    assert moved is not None
    assert moved.attempts == 2
    assert moved == await store.read(lambda conn: canaries.get(conn, "c1"))


async def test_a_canary_that_is_gone_is_not_moved(store: Database) -> None:
    assert await ledger_on(store).apply("c1", attempted, NEW) is None


def change(store: Database, *moved: Canary) -> None:
    def fill(tx: Tx) -> None:
        for after in moved:
            before = replace(after, version=1, state=State.INTENDED)
            canaries.insert(tx, before)
            tx.flush()
            if after is not NEW:
                canaries.save(tx, after, before)

    store.write_now(fill)


def sent(number: int, seed: str, state: State = State.SENT, due: float = 60.0) -> Canary:
    facts: dict[str, Any] = {"id": f"c{number}", "token": f"token-{number}", "seed": seed}
    return replace(NEW, version=2, state=state, due_at=NOW.wall + due, message_id=f"<{number}@x>", **facts)


async def test_mailboxes_that_are_taken_together_are_loaded_in_one_read(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, seed in enumerate(("a", "b", "b", "c")):
        change(store, sent(number, seed))
    ledger, reads = ledger_on(store), []
    read = canaries.awaited

    def counted(conn: Connection, seeds: Sequence[str], until: float) -> list[Canary]:
        reads.append(list(seeds))
        return read(conn, seeds, until)

    monkeypatch.setattr(canaries, "awaited", counted)
    await asyncio.gather(*map(ledger.load, ("a", "b", "none")))
    assert reads == [["a", "b", "none"]]
    assert [one.id for one in ledger.waiting("a")] == ["c0"]
    assert [one.id for one in ledger.waiting("b")] == ["c1", "c2"]
    assert list(ledger.waiting("none")) == []
    assert list(ledger.waiting("c")) == [], "it is read elsewhere"


async def test_what_has_its_verdict_is_not_kept_in_memory(store: Database) -> None:
    change(store, sent(0, "box"), sent(1, "box", State.SETTLED, 3_600.0), sent(2, "box", State.MISSING, 90.0))
    ledger = ledger_on(store)
    await ledger.load("box")
    assert [one.id for one in ledger.waiting("box")] == ["c0"]
    assert ledger.expects("box", "token-1") is None
    ledger.remember(replace(sent(0, "box"), version=3, state=State.SETTLED))
    assert list(ledger.waiting("box")) == []


async def test_an_older_state_that_is_told_late_is_no_news(store: Database) -> None:
    ledger = ledger_on(store)
    await ledger.load("box")
    ledger.remember(replace(NEW, version=3, state=State.SETTLED))
    ledger.remember(replace(NEW, version=2, state=State.SENT))  # read before that, told after it
    assert list(ledger.waiting("box")) == []
    ledger.remember(replace(NEW, version=4, state=State.SENT))
    assert len(ledger.waiting("box")) == 1


async def test_the_oldest_that_may_be_looked_for(store: Database) -> None:
    old = replace(sent(0, "box"), created=replace(NOW, wall=NOW.wall - 90_000.0))
    change(store, old)
    ledger = ledger_on(store)
    await ledger.load("box")
    assert ledger.oldest("box") == old.created.wall, "it could not be judged for longer than it is watched"
    ledger.remember(replace(old, version=3, state=State.CLOSED))
    assert ledger.oldest("box") == NOW.wall - 3_600.0
