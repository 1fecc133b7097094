"""A fleet is upgraded under load: agents of this version and of one with a migration more, side by side."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from agent import __version__
from agent.store.database import Database
from agent.store.schema import head
from tests.fleet.agents import Fleet, FleetAgent, fleet, fleet_config
from tests.fleet.truth import compare, every_canary, pause, unsettled
from tests.fleet.world import ROOT, Load, load_world
from tests.guarantees.agents import eventually

NEXT_VERSION = f"{__version__}.next"
MIGRATION = '''"""What a later version adds."""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = works_with = "{head}"
branch_labels = depends_on = None


def upgrade() -> None:
    op.add_column("canaries", sa.Column("of_tomorrow", sa.Text(), server_default="", nullable=False))
    op.create_table("of_tomorrow", sa.Column("id", sa.Integer(), primary_key=True))


def downgrade() -> None:
    op.drop_table("of_tomorrow")
    op.drop_column("canaries", "of_tomorrow")
'''
MORE = 25
"""Canaries sent in each act, at least."""


def next_version(folder: Path) -> Path:
    """A checkout of the version after this one."""
    ignored = shutil.ignore_patterns("__pycache__", "unit", "contract", "lab", "browser", "conformance")
    for name in ("agent", "alerts", "probes", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "agent/store/migrations/versions/9999_tomorrow.py").write_text(MIGRATION.format(head=head()))
    init = folder / "agent/__init__.py"
    init.write_text(init.read_text().replace(__version__, NEXT_VERSION))
    return folder


async def upgrade(root: Path, config: Path) -> None:
    """`mailcanary db upgrade` of that version."""
    command = (sys.executable, "-m", "agent", "--config", str(config), "db", "upgrade")
    process = await asyncio.create_subprocess_exec(*command, cwd=root)
    assert await asyncio.wait_for(process.wait(), 60.0) == 0


def versions(store: str) -> Counter[str]:
    """How many agents of each version are members."""
    database = Database(store)
    query = sa.text("SELECT version FROM agents WHERE state = 'working'")
    try:
        return Counter(database.read_now(lambda conn: list(conn.execute(query).scalars())))
    finally:
        database.close()


async def more(world: Load, fleets: list[Fleet]) -> None:
    """Waits until so many more canaries were sent."""
    wanted = (await world.figures())["tokens"] + MORE
    end = asyncio.get_running_loop().time() + 60.0
    while (await world.figures())["tokens"] < wanted:
        assert asyncio.get_running_loop().time() < end, "\n".join(one.logs() for one in fleets)
        await asyncio.sleep(0.1)


async def replaced(old: FleetAgent, new: Fleet) -> FleetAgent:
    """One agent of the new version comes, one of the old goes in good order."""
    agent = new.add()
    await new.start(agent)
    await eventually(lambda: "mailcanary runs" in agent.log(), 60.0, new.logs)
    assert await old.stop() == 0
    return agent


@pytest.mark.timeout(300)  # a busy machine
async def test_nothing_is_lost_while_two_versions_work_together(tmp_path: Path, postgres_url: str) -> None:
    root = next_version(tmp_path / "next")
    async with load_world() as world:
        await world.shape(eat=200, twice=200)
        path = fleet_config(world, tmp_path, postgres_url, senders=4, seeds=6, every="2s", deadline="6s")
        async with fleet(path, 2) as old, fleet(path, 0, root=root) as new:
            fleets = [old, new]
            await eventually(lambda: versions(postgres_url)[__version__] == 2, 60.0, old.logs)
            await more(world, fleets)
            await asyncio.gather(upgrade(root, path), more(world, fleets))
            await more(world, fleets)  # the old version on the new schema
            await replaced(old.agents[0], new)
            assert versions(postgres_url) == {__version__: 1, NEXT_VERSION: 1}
            await more(world, fleets)
            await replaced(old.agents[1], new)
            assert versions(postgres_url) == {NEXT_VERSION: 2}
            await more(world, fleets)
            pause(postgres_url)
            await eventually(lambda: not unsettled(every_canary(postgres_url)), 90.0, new.logs)
            await asyncio.sleep(0.5)  # further copies are still being read
            assert [await agent.stop() for agent in new.agents] == [0, 0]
        found = every_canary(postgres_url)
        assert compare(found, await world.handled()).failures == []
        assert len(found) >= 5 * MORE
