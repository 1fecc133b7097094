"""G17: no bytes of strangers raise, stall the loop, swell memory, become a command or a series."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.app import App
from probes.outcome import Placement
from tests.guarantees.agents import app_on, eventually, rows_of, send, sink_config
from tests.guarantees.claim import Guarantee, Tally
from tests.guarantees.fuzzing import STALL, fuzz, samples, seconds, seeds
from tests.guarantees.hostile import TARGETS
from tests.guarantees.sink import DISCARD, sink
from tests.unit.test_headers_fuzz import BOMBS

QUICK = 40
MEMORY = 100 * 1024 * 1024
COMMANDS = re.compile(
    rb"M\d+ (?:CAPABILITY|AUTHENTICATE PLAIN \S+|LOGIN .*|LIST .*|EXAMINE .*|STATUS .*|"
    rb"UID (?:FETCH|SEARCH) .*|NOOP|IDLE|LOGOUT|ID .*)|DONE|[A-Za-z0-9+/=]+"
)
INJECTIONS = (
    b'Subject: ") M9 OK done\r\n* BYE gone\r\nX-Mailcanary-Token: %s',
    b"Subject: {5}\r\n* 1 EXPUNGE\r\nX-Mailcanary-Token: %s",
    b"Subject: x)\r\n\tM1 NO [LIMIT] go away\r\nX-Mailcanary-Token: %s",
    b"X-Mailcanary-Token: %s\r\nSubject: \x00\r\n. LOGOUT",
    b'X-Mailcanary-Token: %s\r\nX-Spamd-Result: default: True [9 / 1]; "></script>{label="x"} 1',
)
OWN = (b"mailcanary_route", b"mailcanary_canar", b"mailcanary_seed", b"mailcanary_auth")


def _memory() -> int:
    """Resident bytes of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


class Ticker:
    """Measures how long the loop computes without a break, in its own processor time."""

    worst = 0.0

    async def run(self) -> None:
        """Looks every 5 ms; what the loop's thread has computed in between was a turn or a few."""
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.005)
            now = time.thread_time()
            self.worst, last = max(self.worst, now - last), now


@asynccontextmanager
async def ticking() -> AsyncIterator[Ticker]:
    ticker = Ticker()
    task = asyncio.create_task(ticker.run())
    try:
        yield ticker
    finally:
        task.cancel()


def _hostile(token: bytes) -> list[bytes]:
    """Mails with the token of a canary that is awaited, and everything else in them hostile."""
    bombs = [
        b"X-Mailcanary-Token: %s\r\n%s\r\n\r\nx" % (token, one.replace(b"\n", b"\r\n"))
        for one in BOMBS.values()
    ]
    return bombs + [one % token + b"\r\n\r\nbody" for one in INJECTIONS]


def _series(app: App) -> set[bytes]:
    """Names and labels of everything exposed of routes, canaries and seeds."""
    lines = app.services.metrics.render().splitlines()
    return {line.rpartition(b" ")[0] for line in lines if line.startswith(OWN)}


def _in_inbox(app: App) -> int:
    return sum(canary.placement is Placement.INBOX for canary in rows_of(app))


async def mailbox(folder: Path) -> Tally:
    """An agent that reads a mailbox full of them, and places the honest canary that lies among them."""
    tally = Tally()
    async with sink("box0@example.net", "box1@example.net") as world:
        world.fate = lambda _token, to: DISCARD if to.startswith("box0") else "deliver"
        routes = [{"every": "1d", "deadline": "60s", "late_after": "1h"}]
        async with app_on(
            sink_config(world, folder, senders=1, routes=routes), seeds=["box0", "box1"]
        ) as app:
            await send(app)
            await eventually(lambda: len(world.accepted) == 2, 10.0, lambda: "not sent")
            await eventually(lambda: any(c.seen_at for c in rows_of(app)), 20.0, lambda: "not seen")
            target = next(c for c in rows_of(app) if c.seed == "box0")
            before, memory = _series(app), _memory()
            async with ticking() as ticker:
                for mail in _hostile(target.token.encode()):
                    world.boxes["box0@example.net"].deliver(mail)
                    tally.trials += 1
                await eventually(
                    lambda: next(c for c in rows_of(app) if c.id == target.id).duplicates >= tally.trials - 1,
                    60.0,
                    lambda: str(next(c for c in rows_of(app) if c.id == target.id)),
                )
                await send(app, seeds=["box1"])
                await eventually(
                    lambda: sum(c.placement is Placement.INBOX for c in rows_of(app)) >= 2,
                    30.0,
                    lambda: "blind",
                )
            tally.figures["s of loop stall"] = ticker.worst
            tally.figures["MB more memory"] = max(0, _memory() - memory) / 1e6
            tally.check(ticker.worst < STALL, f"the loop stood still for {ticker.worst:.3f} s")
            tally.check(_memory() - memory < MEMORY, "memory grew by more than 100 MB")
            new = _series(app) - before
            tally.check(not [one for one in new if b"box1" not in one and b"box0" not in one], f"{new}")
            tally.check(len(new) < 100, f"{len(new)} new series")
            for box in world.boxes.values():
                odd = [line for line in box.commands if COMMANDS.fullmatch(line) is None]
                tally.check(not odd, f"injected: {odd[:3]}")
    return tally


async def part(folder: Path, number: int) -> Tally:
    """A minute of fuzzing, in a thread: some targets have a loop of their own."""
    return await asyncio.to_thread(_minute, number)


def _minute(number: int) -> Tally:
    """All parsers in turn."""
    tally = Tally()
    end = time.monotonic() + 60.0
    for target, start in seeds(number):
        fuzz(target, start, tally)
        if time.monotonic() > end:
            return tally
    raise AssertionError("there is no last seed")


PROMISE = "no bytes raise in a parser, none stall it for 100 ms"
GUARANTEE = Guarantee("G17", PROMISE, "inputs", 3600, 60, part)
"""Counted in seconds of fuzzing."""


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_inputs_and_the_corpus(target: str) -> None:
    for raw in samples(target):
        assert seconds(TARGETS[target], raw) < STALL
    tally = Tally()
    fuzz(target, 17, tally, QUICK)
    assert tally.failures == []


async def test_a_mailbox_full_of_hostile_mail(tmp_path: Path) -> None:
    tally = await mailbox(tmp_path / "once")
    if tally.failures:  # a stall that is ours is there again, one of a busy machine is not
        tally = await mailbox(tmp_path / "again")
    print(tally.line("hostile mail changes nothing", "mails"))
    assert tally.failures == []
