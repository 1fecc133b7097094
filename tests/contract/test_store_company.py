"""Units of work that may wait share the next transaction, in their order; none waits for long or is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from agent.store import database, rows
from agent.store.database import Database, Tx
from agent.store.schema import open_store
from probes.errors import StoreError


@pytest.fixture
def store(store_url: str) -> Iterator[Database]:
    found = open_store(store_url)
    yield found
    found.close()


class Taken:
    """Which unit was done in which transaction."""

    def __init__(self, store: Database) -> None:
        self.store, self.units = store, list[tuple[str, Tx]]()

    def unit(self, name: str) -> Callable[[Tx], None]:
        return lambda tx: self.units.append((name, tx))

    def begin(self, name: str, *, order: str = "") -> asyncio.Task[None]:
        work = self.store.write(self.unit(name), durable=False, order=order, may_wait=True)
        return asyncio.create_task(work)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.units]

    @property
    def transactions(self) -> int:
        return len({id(tx) for _, tx in self.units})


@pytest.fixture
async def taken(store: Database, monkeypatch: pytest.MonkeyPatch) -> Taken:
    """Just after a transaction, with more patience than a test has."""
    monkeypatch.setattr(database, "COMPANY_SECONDS", 60.0)
    await store.write(lambda tx: None)
    return Taken(store)


async def test_what_may_wait_goes_along_with_the_next_that_may_not(taken: Taken) -> None:
    waiting = [taken.begin("one"), taken.begin("two")]
    await asyncio.sleep(0.05)
    assert taken.names == []
    await taken.store.write(taken.unit("three"))
    await asyncio.gather(*waiting)
    assert taken.names == ["one", "two", "three"]
    assert taken.transactions == 1


async def test_the_order_of_one_row_is_kept(taken: Taken) -> None:
    waiting = [taken.begin(name, order="canary") for name in ("sent", "seen")]
    await asyncio.sleep(0)
    await taken.store.write(taken.unit("claim"), order="a pace")
    await asyncio.gather(*waiting)
    assert taken.names == ["claim", "sent", "seen"]


async def test_the_first_after_a_quiet_while_goes_at_once(store: Database) -> None:
    taken = Taken(store)
    await asyncio.sleep(2 * database.COMPANY_SECONDS)
    monitor = taken.begin("one")
    await asyncio.wait_for(monitor, 5)
    assert taken.names == ["one"]


async def test_nobody_waits_longer_than_that(store: Database) -> None:
    await store.write(lambda tx: None)
    taken = Taken(store)
    await asyncio.wait_for(asyncio.gather(taken.begin("one"), taken.begin("two")), 5)
    assert taken.transactions == 1


async def test_many_need_no_more_company(taken: Taken) -> None:
    many = [taken.begin(str(number)) for number in range(database.COMPANY)]
    await asyncio.wait_for(asyncio.gather(*many), 5)
    assert taken.transactions == 1


async def test_one_that_fails_fails_alone(taken: Taken) -> None:
    def fails(_tx: Tx) -> None:
        raise StoreError("this one")

    work = taken.store.write(fails, durable=False, may_wait=True)
    failing, other = asyncio.create_task(work), taken.begin("other")
    await asyncio.sleep(0)
    await taken.store.write(lambda tx: None)
    await other
    with pytest.raises(StoreError, match="this one"):
        await failing


async def test_closing_commits_what_waits(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "COMPANY_SECONDS", 60.0)
    store = open_store(store_url)
    await store.write(lambda tx: None)
    work = store.write(lambda tx: rows.set_setting(tx.conn, "kept", True), durable=False, may_wait=True)
    waiting = asyncio.create_task(work)
    await asyncio.sleep(0)
    await asyncio.to_thread(store.close)
    await waiting
    again = open_store(store_url)
    assert again.read_now(lambda conn: rows.setting(conn, "kept")) is True
    again.close()
