"""G10: with a full disk nothing is sent without a record, and sending resumes once there is space."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.guarantees.agents import AgentProcess, eventually, sink_config, stored
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import sink

BOXES = tuple(f"box{n}@example.net" for n in range(2))
ROUTES = [{"every": "300ms", "deadline": "10s", "late_after": "1h"}]
SIZE = 12 * 2**20


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A tmpfs of a few MiB at the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path: Path) -> None:
    """Writes until nothing more goes."""
    with suppress(OSError), path.open("ab", buffering=0) as file:
        for piece in (2**20, 4096, 1):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * piece)


async def _full(agent: AgentProcess, ballast: Path, world_count: int) -> None:
    """Fills until the agent says that it cannot persist: freed pages of the store last for a while."""
    said = agent.log().count("cannot persist")
    end = time.monotonic() + 30.0
    while agent.log().count("cannot persist") == said and time.monotonic() < end:
        fill(ballast)
        await asyncio.sleep(0.05)


async def part(folder: Path, number: int) -> Tally:
    """Fills the disk under an agent that sends, waits, frees it, and compares."""
    tally = Tally(trials=1)
    with small_disk(folder / "disk") as disk:
        async with sink(*BOXES) as world:
            where = f"sqlite:///{disk}/mailcanary.db"
            path = sink_config(world, folder, senders=3, routes=ROUTES, agent={"store": where})
            agent = AgentProcess(path)
            try:
                await agent.start()
                await eventually(lambda: len(world.accepted) > 20, 30.0, lambda: agent.log()[-2000:])
                await _full(agent, disk / "ballast", len(world.accepted))
                tally.check("cannot persist" in agent.log(), "the disk was never full")
                await asyncio.sleep(1.0)
                before = len(world.accepted)
                await asyncio.sleep(3.0)
                tally.figures["sent while the disk was full"] = len(world.accepted) - before
                (disk / "ballast").unlink()
                freed = time.monotonic()
                more = len(world.accepted) + 5
                await eventually(lambda: len(world.accepted) > more, 90.0, lambda: agent.log()[-3000:])
                tally.figures["s from space to sending"] = time.monotonic() - freed
                tally.check(time.monotonic() - freed < 60.0, "sending did not resume within 60 s")
                tally.check(not agent.dead, "the agent died")
                code = await agent.stop()
                tally.check(code == 0, f"it ended with {code}")
            finally:
                await agent.close()
            known = {canary.token for canary in stored(disk)}
            unknown = [token for token in world.accepted if token not in known]
            tally.check(not unknown, f"{len(unknown)} sent without a record")
            twice = [token for token, times in world.accepted.items() if times > 1]
            tally.check(not twice and not world.sent_again(), "sent twice")
    return tally


PROMISE = "a full disk: nothing sent without a record, sending resumes within 60 s"
GUARANTEE = Guarantee("G10", PROMISE, "full disks", 50, 1, part)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
@pytest.mark.timeout(400)  # a busy machine
async def test_a_full_disk_sends_nothing_and_resumes(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
