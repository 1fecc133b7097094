"""How the process of a long-running agent is set up: its event loop and its collector of garbage."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

RARELY = (20_000, 20, 20)
"""The collector looks for circles each 20,000 new objects (Python's own 700 are a canary or two): there are
few, and looking took 4 percent of what a probe costs."""


def run(work: Coroutine[Any, Any, T]) -> T:
    """asyncio.run on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def started() -> None:
    """What is there by now (modules, config, catalogues) stays: the collector need not go through it again
    and again, which would also hold up the loop that times probes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*RARELY)
