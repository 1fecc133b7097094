"""A canary is moved on from what is known of it, and never past what its row says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.runner.ledger import Ledger
from agent.runner.services import Services
from agent.store import canaries
from agent.store.database import Database
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
