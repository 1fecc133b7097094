"""Observations are evaluated once each, in whatever order their commits came."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from agent.store import rows
from agent.store.database import Database, Tx
from agent.store.schema import open_store
from agent.store.tables import observations
from probes.errors import StaleWrite


def put(database: Database, *ids: int) -> None:
    """Observations with the ids that a sequence gave them, committed now."""

    def work(tx: Tx) -> None:
        for number in ids:
            tx.conn.execute(sa.insert(observations).values(id=number, at=1.0, kind="own", body={"n": number}))

    database.write_now(work)


def waiting(database: Database) -> list[int]:
    return [number for number, _, _ in database.read_now(rows.waiting_observations)]


def test_what_is_committed_late_under_a_smaller_id_is_evaluated_and_nothing_is_twice(store_url: str) -> None:
    database = open_store(store_url)
    try:
        put(database, 1, 2, 4, 5, 9)
        seen = waiting(database)
        put(database, 3, 7, 8)  # drawn before 9, committed after it was read
        database.write_now(lambda tx: rows.evaluated(tx.conn, seen))
        assert waiting(database) == [3, 7, 8]
        with pytest.raises(StaleWrite):
            database.write_now(lambda tx: rows.evaluated(tx.conn, [2, 3]))
        assert waiting(database) == [3, 7, 8], "nothing of what failed was done"
    finally:
        database.close()


def test_an_observation_is_written_with_its_result_and_read_in_order(store_url: str) -> None:
    database = open_store(store_url)
    try:
        for number in range(3):
            database.write_now(lambda tx, at=float(number): rows.observe(tx, at, "own", {"at": at}))  # type: ignore[misc]
        found = database.read_now(rows.waiting_observations)
        assert [body["at"] for _, _, body in found] == [0.0, 1.0, 2.0]
    finally:
        database.close()
