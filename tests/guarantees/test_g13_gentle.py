"""G13: a mailbox that is locked, full or crowded and a provider that asks for silence are left alone."""

from __future__ import annotations

import asyncio
import imaplib
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from probes.mailbox.access import Password
from probes.mailbox.model import Reason
from probes.mailbox.patience import HOLD, STRIKES
from probes.mailbox.presets import preset
from tests.fakes.imap_server import mini
from tests.fakes.mailbox_owner import FastClock, reading, until
from tests.guarantees.agents import app_on, eventually, rows_of, send, sink_config
from tests.guarantees.boxes import CROWDED, Box, crowd, dovecot_boxes
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.sink import DELIVER, sink

FACTOR = 1500.0
"""An hour without logins passes in 2.4 s."""
SILENCE = 600.0


def _logins(box: Box) -> int:
    """How many logins Dovecot has refused this user."""
    log = (box.server.root / "dovecot.log").read_text(errors="replace")
    lines = [line for line in log.splitlines() if f"user=<{box.username}>" in line]
    return sum("auth failed" in line or "Maximum number of connections" in line for line in lines)


def _hours(arrivals: list[float]) -> list[int]:
    """How many logins each hour of the reader's clock has that begins with one."""
    hour = 0.95 * HOLD / FACTOR
    return [sum(start <= at < start + hour for at in arrivals) for start in arrivals]


async def _left_alone(box: Box, reason: Reason, password: str) -> Tally:
    """Three refused logins, none for an hour, then three again; `retry` (mailcanary seeds retry) tries at
    once."""
    tally = Tally(trials=1)
    given = {"username": box.username, "credential": Password(password), "timeout": 5.0}
    async with reading(box.port, factor=FACTOR, access=given) as (reader, owner):
        await until(lambda: owner.reason is reason, 20.0)
        await until(lambda: box.proxy.connections > 2 * STRIKES, 30.0)
        hours = _hours(box.proxy.arrivals)
        tally.check(max(hours) == STRIKES, f"{reason}: logins by the hour: {hours}, {owner.states}")
        await until(lambda: box.proxy.connections == 3 * STRIKES, 20.0)
        reader.retry()
        await until(lambda: box.proxy.connections > 3 * STRIKES, 0.9 * HOLD / FACTOR)
        tally.figures["refused logins an hour"] = max(hours)
    await until(lambda: _logins(box) >= 2 * STRIKES, 5.0)  # it was Dovecot's own word, its log has it
    return tally


async def locked(box: Box) -> Tally:
    """The password is wrong."""
    return await _left_alone(box, Reason.LOGIN_REFUSED, "wrong")


async def crowded(box: Box) -> Tally:
    """Another program holds the one session that there may be: [LIMIT]."""
    box.proxy.source = CROWDED
    other = await asyncio.to_thread(crowd, box)
    try:
        return await _left_alone(box, Reason.LIMITED, "secret")
    finally:
        with suppress(OSError, imaplib.IMAP4.error):
            await asyncio.to_thread(other.shutdown)


async def full(folder: Path) -> Tally:
    """The seed's mailbox is full: refused once, and not offered again."""
    async with sink("full@example.net") as world:
        world.fate = lambda _token, _to: "552 5.2.2 Quota exceeded (mailbox for user is full)"
        async with app_on(sink_config(world, folder, senders=1), seeds=["box0"]) as app:
            await send(app, times=3)
            await eventually(
                lambda: all(c.settled_at for c in rows_of(app)) and len(rows_of(app)) == 3,
                20.0,
                lambda: str(rows_of(app)),
            )
            await app.timer.sweep()
            await asyncio.sleep(0.5)
            tally = Tally(trials=1)
            offers = [len(codes) for codes in world.offers.values()]
            tally.check(offers == [1, 1, 1], f"a full mailbox was offered the same again: {offers}")
            return tally


async def silent(folder: Path) -> Tally:
    """After a 4.7.28 nothing is sent to that provider for ten minutes of the injected clock."""
    clock = FastClock(60.0)
    stages: list[tuple[str, float]] = []
    async with sink("flooded@example.net") as world:
        world.on_stage = lambda stage: stages.append((stage, clock.monotonic()))
        world.fate = lambda _token, _to: "421 4.7.28 Our system has detected an unusual rate of mail"
        routes = [{"every": "1d", "deadline": "1h", "late_after": "2h"}]
        path = sink_config(world, folder, senders=1, routes=routes)
        async with app_on(path, clock=clock, seeds=["box0"]) as app:
            await send(app)
            await eventually(lambda: bool(world.offers), 10.0, lambda: "nothing was sent")
            world.fate = lambda _token, _to: DELIVER
            for _ in range(40):
                await asyncio.sleep(0.5)
                if len(world.accepted) >= 2:
                    break
                await send(app)
            assert len(world.accepted) >= 2, "sending did not go on after the silence"
    tally = Tally(trials=1)
    asked = next(at for stage, at in stages if stage == "DOT")
    offered = [at - asked for stage, at in stages if stage == "MAIL" and at > asked]
    tally.check(min(offered) >= SILENCE, f"sent {min(offered)} s after it was asked for silence")
    return tally


async def bursts() -> Tally:
    """NOOPs of a burst stay below what the preset allows a window, and are none where it allows none."""
    tally = Tally()
    for provider in ("dovecot", "generic", "gmail"):
        cap = preset(provider).limits.noops_per_window
        async with (
            mini() as server,
            reading(server.port, provider=provider, known_junk=["Junk"]) as (reader, owner),
        ):
            await until(lambda o=owner: bool(o.scans))  # type: ignore[misc]
            owner.expect(b"NEVER", deadline=1e6, burst=1.5)
            reader.kick()
            await asyncio.sleep(2.0)
            tally.trials += 1
            tally.check(server.noops <= cap, f"{provider}: {server.noops} NOOPs, cap {cap}")
            tally.check(server.most_open == 1, f"{provider}: {server.most_open} connections")
    return tally


async def part(folder: Path, number: int) -> Tally:
    """Every case once."""
    tally = await full(folder / "full")
    async with dovecot_boxes(2) as boxes:
        found = await asyncio.gather(locked(boxes[0]), crowded(boxes[1]), silent(folder / "silent"), bursts())
    for one in found:
        tally.add(one)
    return tally


PROMISE = (
    "a refused login, a full seed, a call for silence: three logins an hour, one connection, nothing sent"
)
GUARANTEE = Guarantee("G13", PROMISE, "cases", 20, 1, part)


@pytest.mark.skipif(not shutil.which("dovecot"), reason="Debian's dovecot-imapd is not installed")
async def test_every_case_is_left_alone(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
