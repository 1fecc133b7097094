"""What the store promises: nothing unless durable, nothing twice, nothing by one who has lost the right."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from agent.store import canaries, paging, retention, rows, schema, verdicts
from agent.store.database import Database, Hint, Tx
from agent.store.schema import open_store
from agent.store.tables import metadata, outbox, schedules, sightings
from probes.canary.state import Canary, Moment, Reply, State
from probes.canary.token import TokenKeys, mint
from probes.errors import MailcanaryError, SchemaMismatch, StaleWrite, StoreError
from probes.outcome import Evidence, Outcome, Placement

NOW = 1_800_000_000.0
DAY = 86_400.0


@pytest.fixture
def url(store_url: str) -> str:
    return store_url


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/folder/mailcanary.db"


@pytest.fixture
def file_store(file_url: str) -> Iterator[Database]:
    database = open_store(file_url)
    yield database
    database.close()


@pytest.fixture
def store(url: str) -> Iterator[Database]:
    database = open_store(url)
    yield database
    database.close()


def canary(name: str = "c1", **changes: object) -> Canary:
    made = Canary(
        *(name, f"token-{name}", f"<{name}@example.org>", "app", "box", "dovecot", "round"),
        created=Moment(NOW, 1_000.0, "boot"),
        deadline=600.0,
        late_after=3_600.0,
        due_at=NOW + 600.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


FULL = canary(
    "full",
    state=State.SETTLED,
    accepted=Moment(NOW + 1, 1_001.0, "boot"),
    reply=Reply(250, "2.0.0", "ok", "data", "accepted", "nothing"),
    stages={"connect": 0.01, "data": 0.2},
    placement=Placement.INBOX,
    outcome=Outcome.PASS,
    reason="",
    settled_at=NOW + 3,
    seen_at=NOW + 2,
    latency=1.25,
    folder="INBOX",
    verdicts={"spf": "pass"},
    evidence=(Evidence("smtp", "said", NOW),),
)


def keep(tx: Tx, wanted: Canary) -> None:
    """Inserts the intent and moves it to what is wanted, as the agent does."""
    first = canary(wanted.id, created=wanted.created)
    canaries.insert(tx, first)
    tx.flush()
    canaries.save(tx, replace(wanted, version=2), first)


# --- rows ---------------------------------------------------------------------------------------------------


async def test_a_canary_comes_back_as_it_was(store: Database) -> None:
    await store.write(lambda tx: canaries.insert(tx, canary()))
    assert await store.read(lambda conn: canaries.get(conn, "c1")) == canary()
    await store.write(lambda tx: keep(tx, FULL))
    assert await store.read(lambda conn: canaries.get(conn, "full")) == replace(FULL, version=2)


async def test_a_stale_write_is_refused(store: Database) -> None:
    first = canary()
    await store.write(lambda tx: canaries.insert(tx, first))
    moved = replace(first, version=2, state=State.SENT)
    await store.write(lambda tx: canaries.save(tx, moved, first))
    with pytest.raises(StaleWrite):
        await store.write(lambda tx: canaries.save(tx, replace(first, version=2, state=State.CLOSED), first))
    found = await store.read(lambda conn: canaries.get(conn, "c1"))
    assert found is not None
    assert (found.state, found.version) == (State.SENT, 2)


async def test_a_token_belongs_to_one_canary(store: Database) -> None:
    token = mint(TokenKeys(1, {1: bytes(32)}), agent="a", route="app/box", at=NOW, nonce=bytes(16))
    first = canary(canaries.id_of(token), token=token)
    await store.write(lambda tx: canaries.insert(tx, first))
    with pytest.raises(StoreError):
        await store.write(lambda tx: canaries.insert(tx, first))
    assert await store.read(lambda conn: canaries.by_token(conn, token)) == first
    for other in (token[:-1] + ("A" if token[-1] != "A" else "B"), "MC1", ""):
        assert await store.read(lambda conn, t=other: canaries.by_token(conn, t)) is None


async def test_a_schedule_runs_once(store: Database) -> None:
    await store.write(lambda tx: rows.put_schedules(tx.conn, {"canary:a/b": NOW}))
    row = await store.read(lambda conn: rows.schedule_row(conn, "canary:a/b"))
    assert row is not None
    claims = [await store.write(lambda tx: rows.move_schedule(tx.conn, row, NOW + 60, NOW)) for _ in range(2)]
    assert claims == [True, False]


async def test_a_jump_of_the_clock_moves_what_lies_ahead(store: Database) -> None:
    def fill(tx: Tx) -> None:
        keep(tx, canary(retry_at=NOW + 5))
        rows.put_schedules(tx.conn, {"canary:a/b": NOW + 9})
        rows.set_pace(tx.conn, "provider/x", NOW + 1)

    await store.write(fill)
    await store.write(lambda tx: rows.shift_times(tx.conn, -3_600.0))
    found = await store.read(lambda conn: canaries.get(conn, "c1"))
    assert found is not None
    assert (found.due_at, found.retry_at) == (NOW + 600 - 3_600, NOW + 5 - 3_600)
    found_at = await store.read(lambda conn: rows.next_schedule(conn, 0.0, lambda name, at: True))
    assert found_at == NOW + 9 - 3_600
    assert await store.read(lambda conn: rows.pace(conn, "provider/x")) == NOW + 1 - 3_600


# --- transactions -------------------------------------------------------------------------------------------


async def test_what_was_awaited_is_on_disk(file_store: Database, file_url: str) -> None:
    await file_store.write(lambda tx: canaries.insert(tx, canary()))
    with closing(sqlite3.connect(file_url.removeprefix("sqlite:///"))) as other:
        assert other.execute("select count(*) from canaries").fetchone() == (1,)
        assert other.execute("pragma journal_mode").fetchone() == ("wal",)
    pragma = await file_store.read(lambda conn: conn.exec_driver_sql("pragma synchronous").scalar())
    assert pragma == 2, "FULL: every commit is synced"


async def test_of_those_that_share_a_commit_one_that_fails_fails_alone(
    store: Database,
) -> None:
    def fail(tx: Tx) -> None:
        canaries.insert(tx, canary("lost"))
        raise StaleWrite("on purpose")

    def work(number: int) -> asyncio.Future[None]:
        unit = fail if number == 50 else lambda tx: canaries.insert(tx, canary(f"c{number}"))
        return asyncio.ensure_future(store.write(unit))

    results = await asyncio.gather(*map(work, range(100)), return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [StaleWrite]
    found = await store.read(canaries.everything)
    assert {c.id for c in found} == {f"c{n}" for n in range(100) if n != 50}


async def test_a_foreign_exception_is_told_as_a_store_error_and_the_writer_lives(store: Database) -> None:
    def fail(tx: Tx) -> None:
        raise ZeroDivisionError("in a unit")

    with pytest.raises(MailcanaryError):
        await store.write(fail)
    await store.write(lambda tx: canaries.insert(tx, canary()))


async def test_hints_follow_the_commit_and_never_a_failure(store: Database) -> None:
    heard: list[Hint] = []
    store.subscribe(heard.extend)

    def fail(tx: Tx) -> None:
        tx.defer(Hint("never"))
        raise StaleWrite("on purpose")

    with pytest.raises(StaleWrite):
        await store.write(fail)
    await store.write(lambda tx: tx.defer(Hint("evaluate")))
    assert heard == [Hint("evaluate")]


async def test_a_listener_that_fails_does_not_have_the_work_done_twice(store: Database) -> None:
    def deaf(hints: object) -> None:
        raise RuntimeError("the loop is closed")

    store.subscribe(deaf)

    def work(tx: Tx) -> None:
        canaries.insert(tx, canary())
        tx.defer(Hint("evaluate"))

    await store.write(work)
    assert len(await store.read(canaries.everything)) == 1


async def test_a_closed_store_says_so_instead_of_hanging(url: str) -> None:
    database = open_store(url)
    database.close()
    with pytest.raises(StoreError):
        await database.write(lambda tx: None)


def test_a_loop_that_ended_does_not_stop_the_writer(store: Database) -> None:
    async def leave() -> None:
        waiting = asyncio.ensure_future(store.write(lambda tx: canaries.insert(tx, canary("left"))))
        await asyncio.sleep(0)
        assert not waiting.done()

    asyncio.run(leave())
    store.write_now(lambda tx: canaries.insert(tx, canary("next")))
    assert {c.id for c in store.read_now(canaries.everything)} >= {"next"}


def test_the_file_is_the_owners_alone(file_store: Database, file_url: str) -> None:
    path = Path(file_url.removeprefix("sqlite:///"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


# --- schema and files ---------------------------------------------------------------------------------------


def test_migrations_make_what_the_program_works_with(store: Database) -> None:
    with store.engine.connect() as conn:
        ours = {
            "include_name": lambda name, kind, _: kind != "table" or not name.startswith("procrastinate_")
        }
        opts = {"compare_type": True, "target_metadata": metadata, **ours}
        context = MigrationContext.configure(conn, opts=opts)
        assert compare_metadata(context, metadata) == []


def test_down_and_up_again(store: Database) -> None:
    assert schema.current(store.engine) == schema.head()
    schema.downgrade(store.engine, "base")
    assert schema.current(store.engine) is None
    left = set(sa.inspect(store.engine).get_table_names()) - {"alembic_version"}
    assert left == set()
    schema.upgrade(store.engine)
    assert set(sa.inspect(store.engine).get_table_names()) >= set(metadata.tables)


def test_a_store_of_a_newer_program_is_refused(url: str) -> None:
    database = open_store(url)
    database.write_now(
        lambda tx: tx.conn.exec_driver_sql("update alembic_version set version_num = '9999'") and None
    )
    database.close()
    with pytest.raises(SchemaMismatch):
        open_store(url)


def test_no_store_in_memory() -> None:
    with pytest.raises(StoreError):
        open_store("sqlite:///:memory:")


def test_a_backup_restores(file_store: Database, file_url: str, tmp_path: Path) -> None:
    for number in range(50):
        file_store.write_now(lambda tx, n=number: canaries.insert(tx, canary(f"c{n}")))  # type: ignore[misc]
    target = tmp_path / "backup.db"
    assert schema.backup(file_url, target) > 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with pytest.raises(StoreError):
        schema.backup(file_url, target)
    restored = open_store(f"sqlite:///{target}")
    assert len(restored.read_now(canaries.everything)) == 50
    restored.close()


def test_retention_never_touches_what_is_open(store: Database) -> None:
    def fill(tx: Tx) -> None:
        old = Moment(NOW - 100 * DAY, 1.0, "boot")
        canaries.insert(tx, canary("0000open", created=old))
        # Ids grow with time (canaries.id_of): old ones sort first.
        keep(tx, canary("0000closed", created=old, due_at=None, state=State.CLOSED))
        keep(tx, canary("recent", due_at=None, state=State.CLOSED))
        for uid, name, ago in ((1, "0000closed", 100), (2, "recent", 20), (3, "recent", 1)):
            canaries.sight(tx, "box", ("INBOX", 1, uid), name, NOW - ago * DAY, b"header")
        for name, due in (("waiting", NOW), ("done", None)):
            tx.conn.execute(
                sa.insert(outbox).values(
                    id=name,
                    dedup_key="k",
                    receiver="r",
                    created_at=NOW - 100 * DAY,
                    due_at=due,
                    leased_until=0.0,
                    attempts=0,
                    error="",
                    body={},
                )
            )

    store.write_now(fill)
    steps = 1
    while store.write_now(lambda tx: retention.expire(tx.conn, NOW, 90 * DAY, 14 * DAY, most=1)):
        steps += 1
    assert steps == 3, "one row of a kind at a time"
    assert {c.id for c in store.read_now(canaries.everything)} == {"0000open", "recent"}
    query = sa.select(sightings.c.uid, sightings.c.header).order_by(sightings.c.uid)
    kept = store.read_now(lambda conn: [tuple(row) for row in conn.execute(query)])
    assert kept == [(2, None), (3, b"header")]
    left = store.read_now(lambda conn: conn.execute(sa.select(outbox.c.id)).scalars().all())
    assert left == ["waiting"]
    assert store.read_now(lambda conn: conn.execute(sa.select(schedules)).all()) == []


def test_schedules_are_read_in_pages_and_what_is_due_in_its_order(
    store: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = {f"canary:{number}": NOW + number % 3 for number in range(9)}
    store.write_now(lambda tx: rows.put_schedules(tx.conn, due))
    first = store.read_now(lambda conn: rows.schedule_rows(conn, most=5))
    rest = store.read_now(lambda conn: rows.schedule_rows(conn, first[-1].name, 5))
    assert {row.name: row.due_at for row in (*first, *rest)} == due
    assert len(first) == 5
    wanted = [name for name, at in sorted(due.items(), key=lambda item: (item[1], item[0])) if at <= NOW + 1]
    for page in (1, 2, 100):
        monkeypatch.setattr(paging, "PAGE", page)
        found = store.read_now(lambda conn: rows.due_schedules(conn, NOW + 1, lambda name, at: True))
        assert found == wanted
        odd = store.read_now(lambda conn: rows.due_schedules(conn, NOW + 1, lambda name, at: at > NOW, 2))
        assert odd == [name for name in wanted if due[name] > NOW][:2]


def test_the_newest_of_each_route(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(tx: Tx) -> None:
        for number, (sender, outcome, seen) in enumerate(
            [
                ("app", Outcome.PASS, NOW + 1),
                ("app", Outcome.PASS, NOW + 2),
                ("app", Outcome.FAIL, None),
                ("app", None, None),
                ("web", Outcome.FAIL, NOW + 5),
                ("shop", Outcome.PASS, NOW + 6),
            ]
        ):
            made = Moment(NOW + number, 1.0, "boot")
            first = canary(f"c{number}", sender=sender, created=made)
            canaries.insert(tx, first)
            tx.flush()
            done = replace(first, version=2, outcome=outcome, seen_at=seen, accepted=made)
            canaries.save(tx, done, first)

    store.write_now(fill)
    routes = [("app", "box"), ("web", "box"), ("none", "box")]
    seen = store.read_now(lambda conn: verdicts.last_seen(conn, routes))
    assert seen == {("app", "box"): NOW + 2}
    settled = store.read_now(lambda conn: canaries.latest_settled(conn, routes))
    assert {one.id for one in settled} == {"c2", "c4"}
    pages = store.read_now(lambda conn: list(verdicts.verdicts_since(conn, NOW + 2)))
    assert [(row[0], row[2]) for page in pages for row in page] == [
        ("shop", Outcome.PASS),
        ("web", Outcome.FAIL),
        ("app", Outcome.FAIL),
    ]
    monkeypatch.setattr(verdicts, "PAGE", 2)
    cut = store.read_now(lambda conn: list(verdicts.verdicts_since(conn, NOW + 2)))
    assert [len(page) for page in cut] == [2, 1]
    assert [row for page in cut for row in page] == [row for page in pages for row in page]
    monkeypatch.setattr(verdicts, "TOGETHER", 2)
    assert store.read_now(lambda conn: verdicts.last_seen(conn, routes)) == seen
    assert store.read_now(lambda conn: verdicts.last_loop(conn, NOW + 10)) == (NOW + 5, NOW + 6)
