"""What PostgreSQL makes different: several agents write at the same time, and the server may be away."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
import sqlalchemy as sa

from agent.schedule import Pace
from agent.store import canaries, clock, database, rows
from agent.store.database import Database, Tx
from agent.store.limits import limits
from agent.store.outbox import SqlOutbox, add
from agent.store.schema import make, open_store
from agent.store.tables import paces
from alerts.notification import Action, Notification, Section
from probes.canary.state import Canary, Moment
from probes.errors import StoreError
from probes.outcome import Severity
from tests.fakes.postgres import Postgres, running

NOW = 1_800_000_000.0
AGENTS = 4


@pytest.fixture
def agents(postgres_url: str) -> Iterator[list[Database]]:
    opened = [open_store(postgres_url) for _ in range(AGENTS)]
    yield opened
    for one in opened:
        one.close()


def together(agents: list[Database], work: Callable[[Database], object]) -> list[object]:
    """Does it in all agents at the same time."""
    with ThreadPoolExecutor(len(agents)) as pool:
        return list(pool.map(work, agents))


def canary(name: str) -> Canary:
    return Canary(
        *(name, f"token-{name}", f"<{name}@example.org>", "app", "box", "dovecot", ""),
        created=Moment(NOW, 1_000.0, "boot"),
        deadline=600.0,
        late_after=3_600.0,
        due_at=NOW + 600.0,
    )


# --- at the same time ---------------------------------------------------------------------------------------


def test_a_pace_is_one_for_all_agents(agents: list[Database]) -> None:
    pace = Pace(rate=1.0, burst=25)

    def take(tx: Tx) -> bool:
        free, at = pace.take(rows.lock_pace(tx.conn, "provider/x"), NOW)
        if free:
            rows.set_pace(tx.conn, "provider/x", at)
        return free

    taken = together(agents, lambda one: sum(one.write_now(take) for _ in range(20)))
    assert taken != [20] * AGENTS
    assert sum(map(int, map(str, taken))) == 25, "the burst, and not one more"


def test_the_day_of_a_seed_is_counted_behind_the_lock(agents: list[Database]) -> None:
    def send(tx: Tx, name: str) -> bool:
        rows.lock_pace(tx.conn, "provider/x")
        if limits(tx.conn, "silence/x", "box", NOW - 86_400.0).sent >= 30:
            return False
        canaries.insert(tx, canary(name))
        return True

    def day(one: Database) -> int:
        return sum(one.write_now(lambda tx, n=n: send(tx, f"{id(one)}-{n}")) for n in range(20))  # type: ignore[misc]

    together(agents, day)
    assert len(agents[0].read_now(canaries.everything)) == 30


def test_a_canary_is_moved_by_one_after_the_other(agents: list[Database]) -> None:
    agents[0].write_now(lambda tx: canaries.insert(tx, canary("c")))

    def move(tx: Tx) -> None:
        held = canaries.hold(tx.conn, "c")
        assert held is not None
        canaries.save(tx, replace(held, version=held.version + 1, attempts=held.attempts + 1), held)

    together(agents, lambda one: [one.write_now(move) for _ in range(10)])
    (found,) = agents[0].read_now(canaries.everything)
    assert found.attempts == 10 * AGENTS, "none was refused, none lost"


def test_a_schedule_is_claimed_by_one(agents: list[Database]) -> None:
    agents[0].write_now(lambda tx: rows.put_schedules(tx.conn, {f"canary:{n}": NOW for n in range(25)}))

    def claim(tx: Tx, name: str) -> bool:
        row = rows.schedule_row(tx.conn, name)
        return row is not None and row.due_at <= NOW and rows.move_schedule(tx.conn, row, NOW + 60, NOW)

    def all_of_them(one: Database) -> int:
        return sum(one.write_now(lambda tx, n=n: claim(tx, f"canary:{n}")) for n in range(25))  # type: ignore[misc]

    claimed = together(agents, all_of_them)
    assert sum(map(int, map(str, claimed))) == 25


def note(name: str, key: str) -> Notification:
    section = (Section("What", "x"),)
    return Notification(name, "r", key, Action.TRIGGER, Severity.ERROR, name, section, NOW, NOW)


async def test_a_notification_is_claimed_by_one_and_each_key_stays_in_order(agents: list[Database]) -> None:
    told = [note(f"{key}-{n}", f"k{key}") for n in range(5) for key in range(8)]
    await agents[0].write(lambda tx: add(tx.conn, told, NOW))
    sent: list[str] = []

    async def deliver(box: SqlOutbox) -> None:
        while await box.count_due("r", NOW):
            items = await box.claim_due("r", NOW, 3, 60.0)
            for item in items:
                sent.append(item.id)
                await box.mark_sent([item.id], NOW)
            await asyncio.sleep(0.001)

    await asyncio.gather(*(deliver(SqlOutbox(one)) for one in agents))
    assert sorted(sent) == sorted(one.id for one in told), "each once"
    for key in range(8):
        assert [name for name in sent if name.startswith(f"{key}-")] == [f"{key}-{n}" for n in range(5)]


async def test_batches_that_lock_in_one_order_never_wait_in_a_circle(agents: list[Database]) -> None:
    names = [f"provider/{n}" for n in range(6)]
    await agents[0].write(lambda tx: [rows.lock_pace(tx.conn, name) for name in names] and None)

    def move(tx: Tx, name: str) -> None:
        at = rows.lock_pace(tx.conn, name)
        rows.set_pace(tx.conn, name, at + 1.0)

    def burst(one: Database, number: int) -> list[asyncio.Future[None]]:
        order = names[number:] + names[:number]
        return [
            asyncio.ensure_future(one.write(lambda tx, n=name: move(tx, n), order=name))  # type: ignore[misc]
            for name in order * 20
        ]

    await asyncio.gather(*(work for number, one in enumerate(agents) for work in burst(one, number)))
    found = await agents[0].read(lambda conn: conn.execute(sa.select(paces.c.free_at)).scalars().all())
    assert found == [20.0 * AGENTS] * 6
    deadlocks = await agents[0].read(
        lambda conn: conn.exec_driver_sql(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).scalar()
    )
    assert deadlocks == 0


def test_what_ends_in_a_deadlock_is_done_again(agents: list[Database]) -> None:
    gate = threading.Barrier(2, timeout=10)
    tries: list[str] = []

    def work(first: str, second: str) -> Callable[[Tx], None]:
        def both(tx: Tx) -> None:
            tries.append(first)
            rows.set_pace(tx.conn, first, NOW)
            if tries.count(first) == 1:
                gate.wait()
            rows.set_pace(tx.conn, second, NOW)

        return both

    for name in ("a", "b"):
        agents[0].write_now(lambda tx, n=name: rows.set_pace(tx.conn, n, 0.0))  # type: ignore[misc]
    pairs = [(agents[0], work("a", "b")), (agents[1], work("b", "a"))]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda pair: pair[0].write_now(pair[1]), pairs))
    assert len(tries) == 3, "one of the two had to be done twice"


def test_the_databases_clock_is_measured_with_its_error(agents: list[Database]) -> None:
    first = agents[0].read_now(clock.measure)
    assert 0.0 < first.error < 5.0
    assert abs(first.seconds + time.monotonic() - time.time()) < first.error + 1.0
    later = clock.Offset(first.seconds + 1e-4, 10.0, first.at + 10.0)
    assert clock.better(first, later) is first, "a worse one that may be true is left"
    jumped = clock.Offset(first.seconds + 3_600.0, 10.0, first.at + 10.0)
    assert clock.better(first, jumped) is jumped, "the database's clock was set"
    assert clock.better(None, later) is later
    sharper = clock.Offset(first.seconds, first.error / 2, first.at + 10.0)
    assert clock.better(first, sharper) is sharper


def test_text_that_postgresql_cannot_hold(agents: list[Database]) -> None:
    agents[0].write_now(lambda tx: rows.set_sender(tx.conn, "app", False, "nul \0 here", NOW))
    assert agents[1].read_now(rows.sender_rows)["app"]["detail"] == "nul � here"


# --- the server is away -------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Postgres]:
    """One of its own: it is stopped and frozen."""
    with running() as started:
        yield started


@pytest.fixture
def store(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(database, "AWAY_SECONDS", 0.05)
    with server.database(make) as url:
        opened = open_store(url)
        yield opened
        opened.close()


async def _until_taken(store: Database, work: Callable[[Tx], None]) -> int:
    """Tries as an agent does; returns how often it was refused."""
    refused = 0
    async with asyncio.timeout(30):
        while True:
            try:
                await store.write(work)
                return refused
            except StoreError:
                refused += 1
            await asyncio.sleep(0.02)


async def test_a_server_that_stops_is_told_counted_and_gone_on_with(
    store: Database, server: Postgres
) -> None:
    done: list[str] = []
    stop = asyncio.Event()

    async def send(sender: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            name = f"{sender}-{number}"
            try:
                await store.write(lambda tx, n=name: canaries.insert(tx, canary(n)))  # type: ignore[misc]
                done.append(name)
            except StoreError:
                await asyncio.sleep(0.01)

    senders = [asyncio.ensure_future(send(number)) for number in range(8)]
    for _ in range(3):
        before = len(done)
        while len(done) < before + 50:
            await asyncio.sleep(0.01)
        failures = store.failures
        await asyncio.to_thread(server.stop)
        async with asyncio.timeout(30):
            while store.failures < failures + 3:
                await asyncio.sleep(0.01)
        with pytest.raises(StoreError):
            await store.read(canaries.everything)
        await asyncio.to_thread(server.start)
    await _until_taken(store, lambda tx: None)
    stop.set()
    await asyncio.gather(*senders)
    found = {one.id for one in await store.read(canaries.everything)}
    assert found >= set(done), "what was acknowledged is there"
    assert store.failure


async def test_a_connection_that_was_closed_meanwhile_costs_no_failure(
    store: Database, server: Postgres
) -> None:
    await store.write(lambda tx: canaries.insert(tx, canary("before")))
    await store.read(canaries.everything)
    await asyncio.to_thread(server.stop)
    await asyncio.to_thread(server.start)
    await store.write(lambda tx: canaries.insert(tx, canary("after")))
    assert len(await store.read(canaries.everything)) == 2
    assert store.failures == 0


async def test_a_server_that_became_a_standby_is_left_and_counted(store: Database, server: Postgres) -> None:
    def read_only(switch: str) -> None:
        for statement in (
            f"ALTER SYSTEM SET default_transaction_read_only = {switch}",
            "SELECT pg_reload_conf()",
        ):
            server.sql(statement)

    await store.write(lambda tx: canaries.insert(tx, canary("before")))
    read_only("on")
    async with asyncio.timeout(30):
        while not store.failures:  # the server takes its new settings in its own time
            with suppress(StoreError):
                await store.write(lambda tx: rows.set_setting(tx.conn, "x", 1))
    assert "read-only" in store.failure
    read_only("off")
    await _until_taken(store, lambda tx: canaries.insert(tx, canary("after")))
    assert len(await store.read(canaries.everything)) == 2


async def test_a_frozen_server_is_not_waited_for_for_ever(
    store: Database, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WRITE_SECONDS", 0.5)
    monkeypatch.setattr(database, "READ_SECONDS", 0.5)
    await store.write(lambda tx: canaries.insert(tx, canary("before")))
    server.freeze()
    try:
        async with asyncio.timeout(30):
            with pytest.raises(StoreError):
                await store.write(lambda tx: canaries.insert(tx, canary("frozen")))
            with pytest.raises(StoreError):
                await store.read(canaries.everything)
    finally:
        server.thaw()
    assert store.failures == 1
    await _until_taken(store, lambda tx: canaries.insert(tx, canary("after")))
    assert {one.id for one in await store.read(canaries.everything)} >= {"before", "after"}


async def test_a_frozen_agent_holds_no_lock_for_long(agents: list[Database], postgres_url: str) -> None:
    await agents[0].write(lambda tx: rows.lock_pace(tx.conn, "provider/x") and None)
    with agents[1].engine.connect() as frozen:
        rows.lock_pace(frozen, "provider/x")  # and says nothing more
        async with asyncio.timeout(30):
            await agents[0].write(lambda tx: rows.set_pace(tx.conn, "provider/x", NOW))


def test_a_password_is_used_and_never_told(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    server.sql("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD 'sentinel-right'")
    hba = server.root / "data/pg_hba.conf"
    hba.write_text("host all keeper 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    server.sql("SELECT pg_reload_conf()")
    with server.database(make) as url:
        named = url.replace("mailcanary@", "keeper@")
        given = ["sentinel-wrong"]
        with pytest.raises(StoreError) as refused:
            open_store(named, password=lambda: given[0])
        assert "sentinel" not in f"{refused.value!r} {refused.value.__cause__!r}"
        given[0] = "sentinel-right"
        opened = open_store(named, password=lambda: given[0])
        try:
            assert "sentinel" not in f"{opened.url!r} {opened.engine!r}"
            opened.write_now(lambda tx: rows.set_setting(tx.conn, "x", 1))
        finally:
            opened.close()
        pgpass = server.root / "pgpass"
        pgpass.write_text("*:*:*:keeper:sentinel-right\n")
        pgpass.chmod(0o600)
        monkeypatch.setitem(os.environ, "PGPASSFILE", str(pgpass))
        open_store(named).close()
