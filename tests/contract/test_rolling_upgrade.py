"""Two versions of the program on one store: this one and one with a migration more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import pytest

from agent.store import canaries, schema
from agent.store.database import Database, Tx
from agent.store.schema import open_store
from probes.canary.state import Canary, Moment, State
from probes.errors import SchemaMismatch

T = TypeVar("T")
NOW = 1_800_000_000.0
MORE = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "{revision}", "{before}"
{declared}

def upgrade() -> None:
    op.add_column("canaries", sa.Column("more_{revision}", sa.String(), server_default="", nullable=False))
    op.create_index("ix_more_{revision}", "canaries", ["more_{revision}"])

def downgrade() -> None:
    op.drop_index("ix_more_{revision}", "canaries")
    op.drop_column("canaries", "more_{revision}")
"""


@dataclass
class Program:
    """A program that knows so many migrations more; `with program:` what runs then is that program."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    revisions: list[str] = field(default_factory=list)

    def add(self, revision: str, *, works: bool) -> None:
        before = self.revisions[-1] if self.revisions else schema.head()
        declared = f'works_with = "{before}"' if works else ""
        self.folder.mkdir(exist_ok=True)
        text = MORE.format(revision=revision, before=before, declared=declared)
        (self.folder / f"{revision}.py").write_text(text)
        self.revisions.append(revision)

    def run(self, work: Callable[[], T]) -> T:
        with self.monkeypatch.context() as patch:
            patch.setattr(schema, "VERSIONS", [*schema.VERSIONS, str(self.folder)])
            return work()


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    return Program(tmp_path / "more", monkeypatch)


class Writer(threading.Thread):
    """Sends and settles canaries until told to stop; keeps what was acknowledged."""

    def __init__(self, url: str, name: str, column: str = "") -> None:
        super().__init__()
        self.database = open_store(url)
        self.prefix, self.column = name, column
        self.done: list[str] = []
        self.error: Exception | None = None
        self.stop = threading.Event()

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self._one(f"{self.prefix}-{len(self.done):06}")
        except Exception as error:
            self.error = error

    def _one(self, name: str) -> None:
        first = canary(name)
        self.database.write_now(lambda tx: self._insert(tx, first))
        sent = replace(first, version=2, state=State.SENT)
        self.database.write_now(lambda tx: canaries.save(tx, sent, first))
        self.done.append(name)

    def _insert(self, tx: Tx, made: Canary) -> None:
        canaries.insert(tx, made)
        if self.column:
            tx.flush()
            tx.conn.exec_driver_sql(f"UPDATE canaries SET {self.column} = 'x' WHERE id = '{made.id}'")

    def end(self) -> None:
        self.stop.set()
        self.join()
        self.database.close()


def canary(name: str) -> Canary:
    return Canary(
        *(name, f"token-{name}", f"<{name}@example.org>", "app", "box", "dovecot", "round"),
        created=Moment(NOW, 1_000.0, "boot"),
        deadline=600.0,
        late_after=3_600.0,
        due_at=NOW + 600.0,
    )


def test_two_versions_through_a_migration_under_load_lose_nothing(postgres_url: str, newer: Program) -> None:
    newer.add("one_more", works=True)
    writers = [Writer(postgres_url, "old-a"), Writer(postgres_url, "old-b")]
    try:
        for writer in writers:
            writer.start()
        _grown(writers, 50)
        newer.run(lambda: schema.make(postgres_url))
        _grown(writers, 50)
        writers.append(newer.run(lambda: Writer(postgres_url, "new", "more_one_more")))
        writers.append(Writer(postgres_url, "old-late"))  # an old one is started again meanwhile
        for writer in writers[2:]:
            writer.start()
        _grown(writers, 50)
        before = schema.head()
        newer.run(lambda: _down(postgres_url, before))
        writers[2].stop.set()
        _grown([writers[0], writers[1], writers[3]], 50)
    finally:
        for writer in writers:
            writer.end()
    assert [writer.error for writer in (writers[0], writers[1], writers[3])] == [None] * 3
    _all_there(postgres_url, writers)


def _down(url: str, revision: str) -> None:
    database = Database(url)
    try:
        schema.downgrade(database.engine, revision)
    finally:
        database.close()


def _grown(writers: list[Writer], more: int) -> None:
    """Waits until each of the writers has done so many more, or failed."""
    goals = [(writer, len(writer.done) + more) for writer in writers]
    tick = threading.Event()
    while any(len(writer.done) < goal and writer.error is None for writer, goal in goals):
        tick.wait(0.01)


def _all_there(url: str, writers: list[Writer]) -> None:
    store = open_store(url)
    try:
        found = {one.id: one for one in store.read_now(canaries.everything)}
    finally:
        store.close()
    done = [name for writer in writers for name in writer.done]
    assert len(done) == len(set(done)) > 300
    assert {found[name].state for name in done} == {State.SENT}
    assert {found[name].version for name in done} == {2}
    assert len(found) - len(done) <= 1, "at most the one that the newer writer was at"


def test_one_newer_is_accepted_where_it_says_so_and_two_are_not(store_url: str, newer: Program) -> None:
    open_store(store_url).close()
    newer.add("one_more", works=True)
    newer.run(lambda: schema.make(store_url))
    open_store(store_url).close()
    newer.add("two_more", works=True)
    newer.run(lambda: schema.make(store_url))
    with pytest.raises(SchemaMismatch):
        open_store(store_url)


def test_one_newer_that_takes_away_is_refused(store_url: str, newer: Program) -> None:
    open_store(store_url).close()
    newer.add("one_more", works=False)
    newer.run(lambda: schema.make(store_url))
    with pytest.raises(SchemaMismatch):
        open_store(store_url)


def test_a_newer_program_waits_for_the_upgrade(postgres_url: str, newer: Program) -> None:
    newer.add("one_more", works=True)
    with pytest.raises(SchemaMismatch, match="run `mailcanary db upgrade`"):
        newer.run(lambda: open_store(postgres_url))


def test_a_migration_gives_way_to_a_long_transaction_and_comes_again(
    postgres_url: str, newer: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer.add("one_more", works=True)
    monkeypatch.setattr(schema, "LOCK_TIMEOUT", "100ms")
    monkeypatch.setattr(schema, "LOCK_PAUSE", 0.05)
    store = open_store(postgres_url)
    with store.engine.connect() as conn:
        conn.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
        conn.exec_driver_sql("LOCK TABLE canaries IN ROW EXCLUSIVE MODE")
        upgrade = threading.Thread(target=lambda: schema.make(postgres_url))
        with monkeypatch.context() as patch:
            patch.setattr(schema, "VERSIONS", [*schema.VERSIONS, str(newer.folder)])
            upgrade.start()
            threading.Event().wait(0.5)
            store.write_now(lambda tx: canaries.insert(tx, canary("meanwhile")))
            assert upgrade.is_alive(), "it waits"
            conn.rollback()
            upgrade.join()
    assert schema.current(store.engine) == "one_more"
    store.close()
