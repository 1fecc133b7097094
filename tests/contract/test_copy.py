"""`db copy`: a SQLite history on PostgreSQL, resumable, verified, and never into a store in use."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent.commands import db
from agent.store import canaries, copy, members, rows
from agent.store.database import Database, Tx
from agent.store.members import Member
from agent.store.schema import open_store
from agent.store.tables import mailboxes, observations, transitions
from probes.canary.state import Canary, Moment, Reply, State
from probes.errors import StoreError
from probes.outcome import Evidence, Outcome, Placement

NOW = 1_800_000_000.0
COUNT = 50


def canary(number: int) -> Canary:
    name = f"c{number:04}"
    return Canary(
        *(name, f"token-{name}", f"<{name}@example.org>", "app", "box", "dovecot", "round"),
        created=Moment(NOW + number / 7, 1_000.1, "boot"),
        deadline=600.0,
        late_after=3_600.0,
        due_at=NOW + 600.0,
    )


def fill(tx: Tx) -> None:
    for number in range(COUNT):
        first = canary(number)
        canaries.insert(tx, first)
        tx.flush()
        done = replace(
            first,
            version=2,
            state=State.SETTLED,
            reply=Reply(250, "2.0.0", "ok\0\n", "data", "accepted", "nothing"),
            placement=Placement.INBOX,
            outcome=Outcome.PASS,
            latency=0.1 * number,
            verdicts={"spf": "päss"},
            evidence=(Evidence("smtp", "said", NOW),),
        )
        canaries.save(tx, done, first)
        place = ("INBOX", 4_000_000_000, number)
        canaries.sight(tx, "box", place, first.id, NOW, b"Subject: \x00\xff")
        tx.conn.execute(
            sa.insert(transitions).values(key="k", at=NOW, kind="x", severity="error", title="t", body={})
        )
    rows.observe(tx, NOW, "own", {"n": 1})
    rows.set_mailbox(tx.conn, "box", readable=True, reason="", detail="nul \0 here", since=NOW)
    rows.add_token_key(tx.conn, "1", bytes(range(32)), NOW)
    rows.set_setting(tx.conn, rows.PAUSED, True)


@pytest.fixture
def source_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/old.db"


@pytest.fixture
def source(source_url: str) -> Iterator[Database]:
    database = open_store(source_url)
    database.write_now(fill)
    yield database
    database.close()


@pytest.fixture
def target(postgres_url: str) -> Iterator[Database]:
    database = open_store(postgres_url)
    yield database
    database.close()


def nothing(table: str, done: int, total: int) -> None:
    pass


def test_what_was_there_is_there_and_new_rows_come_behind_it(source: Database, target: Database) -> None:
    found = {one.table: one.rows for one in copy.copy(source, target, NOW, nothing)}
    assert (found["canaries"], found["sightings"], found["transitions"]) == (COUNT, COUNT, COUNT)
    assert target.read_now(canaries.everything) == source.read_now(canaries.everything)
    assert target.read_now(lambda conn: canaries.headers(conn, "c0001")) == [b"Subject: \x00\xff"]
    assert target.read_now(rows.load_token_keys) == {"1": bytes(range(32))}
    assert target.read_now(lambda conn: rows.setting(conn, rows.PAUSED)) is True
    assert target.read_now(lambda conn: conn.execute(sa.select(mailboxes.c.detail)).scalar()) == "nul � here"
    target.write_now(lambda tx: rows.observe(tx, NOW, "own", {}))
    ids = target.read_now(lambda conn: conn.execute(sa.select(observations.c.id)).scalars().all())
    assert len(set(ids)) == 2


def test_one_that_was_broken_off_is_taken_up_where_it_was(
    source: Database, target: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy, "PAGE", 7)
    steps = 0

    def breaks(table: str, done: int, total: int) -> None:
        nonlocal steps
        steps += table == "canaries"
        if steps == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy.copy(source, target, NOW, breaks)
    assert len(target.read_now(canaries.everything)) == 21, "three pages"
    begun: dict[str, int] = {}
    copy.copy(source, target, NOW, lambda table, done, total: begun.setdefault(table, done) and None)
    assert begun["canaries"] == 21, "and not from the start"
    assert target.read_now(canaries.everything) == source.read_now(canaries.everything)
    with pytest.raises(StoreError, match="holds a whole copy"):
        copy.copy(source, target, NOW, nothing)


def test_a_difference_is_told(source: Database, target: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(tx: Tx) -> None:
        tx.conn.exec_driver_sql("UPDATE canaries SET latency = latency + 1e-9 WHERE id = 'c0007'")

    def progress(table: str, done: int, total: int) -> None:
        if table == "transitions" and done == total:
            target.write_now(spoil)

    with pytest.raises(StoreError, match=r"canaries differs: 50 rows .* 50 with"):
        copy.copy(source, target, NOW, progress)


def test_a_store_in_use_is_refused(source: Database, target: Database, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="from SQLite to PostgreSQL"):
        copy.copy(target, source, NOW, nothing)
    announced = Member("h", "n", "1", "", NOW, heartbeat_at=NOW)
    for side, word in ((target, "target"), (source, "source")):
        side.write_now(lambda tx: members.put(tx.conn, announced))
        with pytest.raises(StoreError, match=f"an agent works on the {word}"):
            copy.copy(source, target, NOW, nothing)
        side.write_now(lambda tx: members.drop(tx.conn, "h"))
    target.write_now(lambda tx: rows.add_token_key(tx.conn, "1", bytes(32), NOW))
    with pytest.raises(StoreError, match="the target is in use: it has rows in token_keys"):
        copy.copy(source, target, NOW, nothing)


def test_the_command(
    source_url: str, source: Database, postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"agent: {{store: '{postgres_url}'}}\nrecords: {{domains: [example.org]}}\n")
    parser = argparse.ArgumentParser()
    db.configure(parser)

    def call(*words: str) -> int:
        return db.run(parser.parse_args(words, argparse.Namespace(config=str(config))))

    assert call("copy", source_url, postgres_url) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^canaries +50  [0-9a-f]{16}$", out, re.MULTILINE)
    assert "canaries: 50 of 50 rows" in err
    assert call("upgrade") == 0
    with pytest.raises(StoreError, match="there is no store at"):
        call("copy", f"sqlite:///{tmp_path}/none.db", postgres_url)
