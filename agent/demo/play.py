"""The demo from beginning to end: a folder, a world, the unmodified agent in it, the story, the judgement."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog
from rich.console import Console

from agent.app import App, open_app
from agent.config.load import load
from agent.demo import settings
from agent.demo.stage import Lines, Screen
from agent.demo.story import Story
from agent.demo.world import World
from probes.clock import SystemClock

EXIT_WRONG = 1
EXIT_INTERRUPTED = 130


async def play(console: Console, *, once: bool, keep: bool) -> int:
    """Plays the story; 0 where the agent found out what was done, else 1. Stays on, unless `once`."""
    folder = Path(tempfile.mkdtemp(prefix="mailcanary-demo-"))
    _log_to(folder / "agent.log")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    try:
        async with World(folder, SystemClock()) as world:
            path = settings.write(world)
            async with running_agent(path) as app:
                return await _show(console, app, world, path, stop, once=once)
    finally:
        if keep:
            console.print(f"Kept: {folder}", markup=False, highlight=False, soft_wrap=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def running_agent(path: Path) -> AsyncIterator[App]:
    """The agent as `mailcanary run` starts it."""
    app = await open_app(load(path, require_secrets=True), reload_from=str(path))
    try:
        await app.start()
        await app.serve()
        yield app
    finally:
        await app.close()


async def _show(
    console: Console, app: App, world: World, path: Path, stop: asyncio.Event, *, once: bool
) -> int:
    _directions(console, app, path)
    stage = (Screen if console.is_terminal else Lines)(console, world.clock)
    story = Story(app, world, stage)
    with stage:
        playing = asyncio.create_task(story.play())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not playing.done():
            playing.cancel()
            with suppress(asyncio.CancelledError):
                await playing
            return EXIT_INTERRUPTED
    wrong = playing.result()
    _judgement(console, story, wrong)
    if not once and not stop.is_set():
        console.print("It runs on, all green, for you to look around. Ctrl-C ends it.")
        await stop.wait()
    return EXIT_WRONG if wrong else 0


def _directions(console: Console, app: App, path: Path) -> None:
    base = f"http://{app.services.config.agent.listen}"
    lines = (
        f"page     {base}/",
        f"metrics  {base}/metrics",
        f"config   {path}",
        f"log      {path.parent / 'agent.log'}",
        f"ask      mailcanary --config {path} status    (or: why shop/northmail, probe)",
    )
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print()


def _judgement(console: Console, story: Story, wrong: list[str]) -> None:
    judged = [canary for canary in story.found.canaries if canary.outcome is not None]
    told = len(story.world.receivers.told)
    if not wrong:
        text = (
            f"Right in all: {len(judged)} canaries judged, each as its provider filed it; one alert, "
            f"{told} notifications, listing and delisting."
        )
        console.print(text, style="green", soft_wrap=True)
        return
    console.print("What the agent concluded is not what was done to it:", style="red")
    for line in wrong:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _log_to(path: Path) -> None:
    """All logs go to a file: the terminal belongs to the table."""
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(path.open("a", encoding="utf-8", buffering=1)),
    )
    logging.basicConfig(level=logging.WARNING, filename=path, force=True)
    logging.captureWarnings(True)
