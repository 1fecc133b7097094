"""An agent that took longer to start than its lease lasts is given up, and one of the fleet all the same."""

from __future__ import annotations

from pathlib import Path

from agent.app import open_app
from agent.config.load import load
from agent.store import members
from agent.store.database import Tx
from tests.fleet.pairs import quick, write
from tests.guarantees.agents import eventually, free_port

__all__ = ["quick"]


async def test_who_was_given_up_while_it_started_joins_again(
    tmp_path: Path, postgres_url: str, quick: None
) -> None:
    path = write(tmp_path, postgres_url, 2)
    own = {"listen": f"127.0.0.1:{free_port()}"}
    app = await open_app(load(path, require_secrets=True, own=own), reload_from=str(path), own=own)
    database, me = app.services.database, app.services.fleet.membership
    try:
        await app.start()
        first = me.epoch

        def give_up(tx: Tx) -> None:
            found = members.every(tx.conn)
            assert all(members.evict(tx.conn, member) for member in found)

        await database.write(give_up)
        await app.serve()
        await eventually(lambda: me.epoch > first, 20.0, lambda: str(app.services.me))
        (row,) = database.read_now(members.every)
        assert (row.listen, row.state) == (own["listen"], "working")
    finally:
        await app.close()
