"""Observations are evaluated once each, whatever was evaluated and deleted before them."""

from __future__ import annotations

from pathlib import Path

from agent.store import incidents, rows
from agent.store.schema import open_store


async def test_an_observation_after_all_others_were_evaluated_lies_behind_the_watermark(
    tmp_path: Path,
) -> None:
    database = open_store(f"sqlite:///{tmp_path}/store.db")
    try:
        for number in range(3):
            await database.write(lambda tx, at=float(number): rows.observe(tx, at, "own", {}))
        seen = await database.read(lambda conn: rows.observations_after(conn, 0))
        mark = seen[-1][0]
        await database.write(lambda tx: incidents.write_engine(tx.conn, {}, (), mark))
        await database.write(lambda tx: rows.observe(tx, 9.0, "own", {}))
        found = await database.read(lambda conn: rows.observations_after(conn, mark))
        assert len(seen) == 3
        assert len(found) == 1
    finally:
        database.close()
