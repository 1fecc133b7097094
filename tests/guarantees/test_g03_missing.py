"""G3: no fault of reading makes a canary that arrived in time *missing*; all are placed once access is back.

Nine faults are those of a real Dovecot or of its network. [OVERQUOTA] on opening a folder is what no Dovecot
says: that one is of the small server in memory.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from agent.app import App
from probes.canary.state import Canary
from probes.outcome import Placement
from tests.guarantees.agents import app_on, eventually, rows_of, send, sink_config
from tests.guarantees.boxes import CROWDED, Box, crowd, dovecot_boxes
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import Sink, sink

SENDERS = 5
BOXES = 2
"""Mailboxes a fault."""
TIMES = 5
ROUTES = [{"every": "1d", "deadline": "4s", "late_after": "1h"}]
BLIND = 7.0
"""Seconds that a fault lasts: past the deadline of what was sent in it."""
BACK = 90.0

Ending = Callable[[], Awaitable[None]]
Fault = Callable[[Box], Awaitable[Ending]]


def _repeated(act: Callable[[Box], Awaitable[object]], pause: float) -> Fault:
    """A fault that comes again as soon as the reader has recovered."""

    async def begin(box: Box) -> Ending:
        async def again() -> None:
            while True:
                await act(box)
                await asyncio.sleep(pause)

        task = asyncio.create_task(again())

        async def end() -> None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        return end

    return begin


async def _freeze(box: Box) -> Ending:
    assert await box.stop()
    box.proxy.freeze_to_client()

    async def end() -> None:
        box.go_on()
        box.proxy.freeze_to_client(False)

    return end


async def _fin(box: Box) -> None:
    box.proxy.finish()


async def _rst(box: Box) -> None:
    box.proxy.reset()


async def _bye(box: Box) -> None:
    await box.doveadm("kick", box.username)


async def _uidvalidity(box: Box) -> Ending:
    async def renumber() -> None:
        for folder in ("INBOX", "Junk"):
            asked = ("mailbox", "status", "-u", box.username, "uidvalidity", folder)
            told = await box.doveadm("-f", "flow", *asked)
            value = int(told.rpartition("=")[2]) + 7
            await box.doveadm("mailbox", "update", "-u", box.username, "--uid-validity", str(value), folder)

    await renumber()
    return renumber


async def _renamed(box: Box) -> Ending:
    """Junk goes away under another name, with the half of the canaries that are delivered there."""
    box.also = "Weird"
    await box.doveadm("mailbox", "rename", "-u", box.username, "Junk", "Weird")

    async def end() -> None:
        await box.doveadm("mailbox", "delete", "-u", box.username, "Junk")
        await box.doveadm("mailbox", "rename", "-u", box.username, "Weird", "Junk")
        box.also = "Junk"

    return end


async def _limit(box: Box) -> Ending:
    """Somebody else holds the one session there may be, and ours has ended."""
    box.proxy.source = CROWDED
    box.proxy.finish()
    there = await asyncio.to_thread(crowd, box)

    async def end() -> None:
        await asyncio.to_thread(there.shutdown)

    return end


async def _login_refused(box: Box) -> Ending:
    """The password was changed; it comes back in the end."""
    _set_secret(box, "changed")
    box.proxy.finish()

    async def end() -> None:
        _set_secret(box, "secret")

    return end


def _set_secret(box: Box, secret: str) -> None:
    path = box.server.root / "users"
    lines = [line.split(":", 2) for line in path.read_text().splitlines()]
    changed = [(name, secret if name == box.username else old, rest) for name, old, rest in lines]
    stamp = int(path.stat().st_mtime) + 1  # Dovecot compares whole seconds
    path.write_text("".join(":".join(line) + "\n" for line in changed))
    os.utime(path, (stamp, stamp))


async def _slow(box: Box) -> Ending:
    box.proxy.latency = 0.7

    async def end() -> None:
        box.proxy.latency = 0.0

    return end


FAULTS: dict[str, Fault] = {
    "freeze": _freeze,
    "fin": _repeated(_fin, 0.3),
    "bye": _repeated(_bye, 1.0),
    "rst": _repeated(_rst, 0.3),
    "uidvalidity": _uidvalidity,
    "junk renamed": _renamed,
    "limit": _limit,
    "login refused": _login_refused,
    "slow": _slow,
}
ARRIVED = frozenset({Placement.INBOX, Placement.SPAM, Placement.OTHER})
"""OTHER: what lay in the junk folder while it had another name."""


async def part(folder: Path, number: int, times: int = TIMES) -> Tally:
    """Canaries to every mailbox while each is in its own trouble, and what became of them."""
    small = [f"quota{n}@example.net" for n in range(BOXES)]
    async with sink(*small) as world, dovecot_boxes(BOXES * len(FAULTS)) as boxes:
        hurt = {f"{name.replace(' ', '-')}{n}": FAULTS[name] for name in FAULTS for n in range(BOXES)}
        for name, box in zip(hurt, boxes, strict=True):
            box.also = "Junk"
            world.boxes[f"{name}@example.net"] = box
        seeds = [f"box{n}" for n in range(len(world.boxes))]
        path = sink_config(world, folder, senders=SENDERS, routes=ROUTES)
        async with app_on(path, seeds=seeds) as app:
            return await _through(app, world, dict(zip(boxes, hurt.values(), strict=True)), small, times)


async def _through(app: App, world: Sink, hurt: dict[Box, Fault], small: list[str], times: int) -> Tally:
    for address in small:
        world.boxes[address].refuse_folder["Junk"] = b"NO [OVERQUOTA] full"
    endings = await asyncio.gather(*(fault(box) for box, fault in hurt.items()))
    total = times * SENDERS * len(world.boxes)
    await send(app, times=times)
    await eventually(lambda: len(world.accepted) >= total, 60.0, lambda: f"{len(world.accepted)} sent")
    await asyncio.sleep(BLIND)
    unseen = sum(c.seen_at is None for c in rows_of(app))
    await asyncio.gather(*(end() for end in endings))
    for address in small:
        world.boxes[address].refuse_folder.clear()
    for seed in app.services.config.seeds:
        app.mailboxes.retry(seed)
    await _come_back(app, total)
    tally = _judged(rows_of(app), list(world.boxes))
    tally.figures["not seen before access came back"] = unseen
    return tally


async def _come_back(app: App, total: int) -> None:
    """Waits until all were placed or declared missing, at most so long; the verdict is the caller's."""
    end = asyncio.get_running_loop().time() + BACK
    while asyncio.get_running_loop().time() < end:
        if sum(c.placement in ARRIVED or c.placement is Placement.MISSING for c in rows_of(app)) >= total:
            return
        await asyncio.sleep(0.2)


def _judged(found: list[Canary], addresses: list[str]) -> Tally:
    tally = Tally(trials=len(found))
    for canary in found:
        fault = addresses[int(canary.seed.removeprefix("box"))]
        told = f"{fault}: {canary.placement} {canary.reason} {canary.evidence}"
        tally.check(canary.placement is not Placement.MISSING, f"falsely missing: {told}")
        tally.check(canary.placement in ARRIVED, f"not placed: {told}")
    return tally


EACH = TIMES * SENDERS * BOXES * (len(FAULTS) + 1)
PROMISE = "no fault of reading makes a canary missing, all are placed once access is back"
GUARANTEE = Guarantee("G3", PROMISE, "canaries under ten faults", 10_000, EACH, part)


@pytest.mark.skipif(not shutil.which("dovecot"), reason="Debian's dovecot-imapd is not installed")
async def test_a_hundred_canaries_under_ten_faults(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1, times=1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
    assert tally.trials == EACH // TIMES
    assert tally.figures["not seen before access came back"] > 0
