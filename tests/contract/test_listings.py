"""Listings in the store: one open row a pair, with what each resolver says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.store import reputation, schema
from agent.store.database import Database
from agent.store.reputation import Told
from agent.store.schema import open_store
from agent.store.tables import listings
from probes.blocklists.check import Listing
from probes.blocklists.judge import Reason
from probes.errors import StoreError
from probes.outcome import Outcome, Severity

NOW, HOUR = 1_800_000_000.0, 3600.0


@pytest.fixture
async def database(store_url: str) -> Iterator[Database]:  # type: ignore[misc]
    Path(sa.make_url(store_url).database or "").parent.mkdir(exist_ok=True) if "sqlite" in store_url else None
    found = await asyncio.to_thread(open_store, store_url)
    yield found
    await asyncio.to_thread(found.close)


def listing(listed: bool, code: str = "127.0.0.2", severity: Severity = Severity.ERROR) -> Listing:
    reason = Reason.LISTED if listed else Reason.NOT_LISTED
    outcome = Outcome.FAIL if listed else Outcome.PASS
    codes = (code,) if listed else ()
    return Listing("192.0.2.1", "bl.example", outcome, listed, reason, codes, "spam", severity=severity)


async def note(database: Database, found: Listing, resolver: str, at: float) -> Told | None:
    return await database.write(lambda tx: reputation.note_listing(tx.conn, found, resolver, NOW + at, HOUR))


async def test_a_zone_that_passes_to_another_resolver_and_back_is_no_event(database: Database) -> None:
    began = await note(database, listing(True), "a", 0)
    assert began is not None
    assert (began.listed, began.event, began.reason) == (True, True, "spam")
    disputed = await note(database, listing(False), "b", 10)
    assert disputed is not None
    assert (disputed.listed, disputed.event) == (True, False)
    assert disputed.reason == "resolvers disagree (listed through a; not listed through b): spam"
    assert await note(database, listing(False), "b", 20) is None  # nothing new
    again = await note(database, listing(True), "a", 30)
    assert again is not None
    assert not again.event
    agreed = await note(database, listing(True), "b", 40)
    assert agreed is not None
    assert (agreed.event, agreed.reason) == (False, "spam")
    assert await note(database, listing(False), "b", 50) is not None
    ended = await note(database, listing(False), "a", 60)
    assert ended is not None
    assert (ended.listed, ended.event) == (False, True)
    assert await note(database, listing(False), "a", 70) is None
    rows = await database.read(lambda conn: conn.execute(sa.select(listings)).mappings().all())
    assert [(row["since"], row["delisted_at"]) for row in rows] == [(NOW, NOW + 60)]


async def test_what_is_kept_is_the_gravest_of_what_is_seen(database: Database) -> None:
    await note(database, listing(True, "127.0.0.9", Severity.CRITICAL), "a", 0)
    await note(database, listing(True, "127.0.0.3", Severity.INFO), "b", 10)
    assert await kept(database) == ("critical", ["127.0.0.9"])
    await note(database, listing(True, "127.0.0.3", Severity.INFO), "a", 20)
    assert await kept(database) == ("info", ["127.0.0.3"])


async def kept(database: Database) -> tuple[str, list[str]]:
    row = (await database.read(lambda conn: conn.execute(sa.select(listings)).mappings().all()))[0]
    return row["severity"], row["codes"]


async def test_a_resolver_knows_what_it_said_itself(database: Database) -> None:
    await note(database, listing(True), "a", 0)
    await note(database, listing(False), "b", 10)
    pair = ("192.0.2.1", "bl.example")
    for resolver, said in (("a", True), ("b", False), ("c", None)):
        found = await database.read(lambda conn, name=resolver: reputation.open_listings(conn, name))  # type: ignore[misc]
        assert found[pair].said is said


async def test_of_two_that_see_it_begin_one_keeps_it(database: Database) -> None:
    await note(database, listing(True), "a", 0)
    row = {"subject": "192.0.2.1", "zone": "bl.example", "since": NOW + 1, "last_seen": NOW + 1}
    rest = {"codes": [], "meaning": "", "txt": "", "severity": "info", "delist_url": ""}
    with pytest.raises(StoreError):
        await database.write(lambda tx: tx.conn.execute(sa.insert(listings).values(**row, **rest)) and None)


async def test_a_row_of_the_version_before_is_of_whoever_looks(database: Database) -> None:
    await note(database, listing(True), "a", 0)
    await database.write(lambda tx: tx.conn.execute(sa.update(listings).values(views=None)) and None)
    found = await database.read(lambda conn: reputation.open_listings(conn, "b"))
    assert found["192.0.2.1", "bl.example"].said is True
    ended = await note(database, listing(False), "b", 10)
    assert ended is not None
    assert ended.event


async def test_the_migration_there_and_back(database: Database) -> None:
    await note(database, listing(True), "a", 0)
    state = reputation.SweepState(NOW, None, "a", done=3)
    await database.write(lambda tx: reputation.set_sweep(tx.conn, "0", state))
    await asyncio.to_thread(schema.downgrade, database.engine, "0002")
    await asyncio.to_thread(schema.upgrade, database.engine)
    assert await database.read(reputation.sweep) == state
    found = await database.read(lambda conn: reputation.open_listings(conn, "b"))
    assert found["192.0.2.1", "bl.example"].said is True
