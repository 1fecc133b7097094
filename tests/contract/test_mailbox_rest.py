"""A reader with nothing to do costs nothing."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from probes.mailbox.model import Expectation
from tests.fakes.imap_server import mini
from tests.fakes.mailbox_owner import reading, until


async def test_a_reader_that_was_woken_rests_again() -> None:
    async with mini() as server, reading(server.port) as (reader, owner):
        await until(lambda: owner.readable)
        looked = 0
        expecting = owner.expecting

        def counted() -> Expectation:
            nonlocal looked
            looked += 1
            return expecting()

        owner.expecting = counted  # type: ignore[method-assign]
        for _ in range(5):
            reader.kick()
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert 0 < looked < 50
