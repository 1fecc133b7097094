"""G5: a connection that is dead and still open is found within a minute, on real Dovecots."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.mailbox.agenda import COMMAND_TIMEOUT, PROOF_TIMEOUT
from probes.mailbox.model import Reason
from tests.fakes.mailbox_owner import reading, until
from tests.guarantees.boxes import Box, dovecot_boxes
from tests.guarantees.claim import Guarantee, Tally

LIMIT = 60.0
EACH = 60

Death = Callable[[Box], None]


def _stopped(box: Box) -> None:
    """Its process has stopped (`part` does that): the kernel still acknowledges, nobody answers."""


def _one_way(box: Box) -> None:
    """What the server says is lost, what we say arrives."""
    box.proxy.freeze_to_client()


def _link_down(box: Box) -> None:
    """Nothing gets through either way, and nobody says so."""
    box.proxy.freeze_to_client()
    box.proxy.freeze_to_server()


DEATHS: tuple[Death, ...] = (_stopped, _one_way, _link_down)


async def _dies(box: Box, death: Death, wait: float, factor: float) -> tuple[float, Reason | None]:
    """Seconds of the reader's clock from the death to knowing it, and as what it is known."""
    deadline = COMMAND_TIMEOUT if factor == 1.0 else PROOF_TIMEOUT / factor  # it runs in real time
    given = {"username": box.username, "timeout": deadline, "connect_timeout": 10.0}
    async with reading(box.port, factor=factor, access=given) as (_, owner):
        await until(lambda: owner.readable, 30.0)
        await asyncio.sleep(wait)
        if death is _stopped:
            assert await box.stop()
        death(box)
        began = owner.clock.monotonic()
        try:
            await until(lambda: not owner.readable, 1.5 * LIMIT / factor + 5.0)
        except TimeoutError:
            return float("inf"), None
        finally:
            box.go_on()
            box.proxy.freeze_to_client(False)
            box.proxy.freeze_to_server(False)
        return owner.clock.monotonic() - began, owner.reason


async def part(folder: Path, number: int, each: int = EACH, factor: float = 1.0) -> Tally:
    """As many mailboxes, a third of them dying in each way, at moments spread over a minute of idling."""
    async with dovecot_boxes(each) as boxes:
        dying = [
            _dies(box, DEATHS[n % len(DEATHS)], n * 44.0 / each / factor, factor)
            for n, box in enumerate(boxes)
        ]
        found = await asyncio.gather(*dying)
    tally = Tally(trials=each)
    for n, (seconds, reason) in enumerate(found):
        what = f"{DEATHS[n % len(DEATHS)].__name__}: {seconds:.1f} s, {reason}"
        tally.check(seconds < LIMIT and reason is Reason.TIMEOUT, what)
    tally.figures["s to knowing, at worst"] = max(seconds for seconds, _ in found)
    return tally


GUARANTEE = Guarantee("G5", "a dead connection is found within 60 s", "connections", 300, EACH, part)


@pytest.mark.skipif(not shutil.which("dovecot"), reason="Debian's dovecot-imapd is not installed")
async def test_three_of_three_are_found(tmp_path: Path) -> None:
    """One of each kind, with the clock 15 times as fast."""
    tally = await part(tmp_path, 1, each=3, factor=15.0)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
