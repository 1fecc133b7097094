"""The end of a proof: no more is sent, every canary gets its verdict, all agents stop in good order."""

from __future__ import annotations

import asyncio

from tests.fleet.incidents import Scene
from tests.fleet.truth import every_canary, pause, unsettled

LONGEST = 90.0


async def settle(scene: Scene, store: str) -> None:
    """Raises AssertionError where a canary stays open or an agent does not end well."""
    await asyncio.to_thread(pause, store)
    end = asyncio.get_running_loop().time() + LONGEST
    while left := unsettled(await asyncio.to_thread(every_canary, store)):
        assert asyncio.get_running_loop().time() < end, f"{left[:2]}\n{scene.fleet.logs()}"
        await asyncio.sleep(0.3)
    await asyncio.sleep(0.5)  # further copies are still being read
    codes = await asyncio.gather(*(agent.stop() for agent in scene.fleet.agents))
    assert not any(codes), f"ended with {codes}\n{scene.fleet.logs()}"
