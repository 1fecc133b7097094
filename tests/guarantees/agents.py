"""Agents for the proofs: as a process that can be killed, or in this process on the sink's world."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from agent.app import App, open_app
from agent.config.load import load
from agent.store import canaries
from agent.store.database import Database
from agent.store.schema import current, head
from probes.canary.state import Canary
from probes.clock import Clock
from tests.fakes.stores import store_in, store_is_there
from tests.guarantees.sink import Sink

ROOT = Path(__file__).parents[2]
Tree = dict[str, Any]


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sink_config(world: Sink, folder: Path, *, senders: int = 2, **sections: Any) -> Path:
    """A config of senders s0, s1, ... through the sink to a seed for each of its mailboxes.

    `sections` replace settings of the top-level sections of that name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text("secret")
    relay = {"host": "127.0.0.1", "port": world.port, "security": "none"}
    document: Tree = {
        "agent": {
            "name": "proof",
            "store": store_in(folder),
            "listen": f"127.0.0.1:{free_port()}",
            "log_format": "json",
        },
        "resolver": {"nameservers": ["127.0.0.1:9"]},
        "senders": {f"s{n}": {"from": f"canary@s{n}.example.org", "relay": relay} for n in range(senders)},
        "seeds": {
            f"box{n}": {
                "provider": "dovecot",
                "address": address,
                "username": getattr(box, "username", address),
                "password": {"file": str(secret)},
                "imap": {"host": "127.0.0.1", "port": box.port, "security": "none", "timeout": "5s"},
                "daily_limit": 10_000_000,
            }
            for n, (address, box) in enumerate(world.boxes.items())
        },
        "routes": [{"every": "1d", "deadline": "3s", "late_after": "1h"}],
        "limits": {"per_seed_per_day": 10_000_000, "per_provider_per_minute": 100_000, "in_flight": 32},
    }
    for name, section in sections.items():
        old = document.get(name)
        document[name] = (
            {**old, **section} if isinstance(old, dict) and isinstance(section, Mapping) else section
        )
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def stored(folder: Path) -> list[Canary]:
    """Every canary of the store, read without disturbing the agent."""
    if not store_is_there(folder):
        return []
    database = Database(store_in(folder))
    try:
        return database.read_now(canaries.everything) if current(database.engine) == head() else []
    finally:
        database.close()


async def eventually(true: Callable[[], bool], timeout: float, complaint: Callable[[], str]) -> None:
    """Waits for a condition, bounded."""
    end = asyncio.get_running_loop().time() + timeout
    while not true():
        assert asyncio.get_running_loop().time() < end, complaint()
        await asyncio.sleep(0.05)


class AgentProcess:
    """A real `mailcanary run`, killed and started again at will. Its log is agent.log in the folder."""

    def __init__(self, config: Path, *, env: Mapping[str, str] | None = None) -> None:
        self.config = config
        self._env = {**os.environ, **(env or {})}
        self._launcher: asyncio.subprocess.Process | None = None
        self._end: asyncio.Task[int] | None = None
        self.pid = 0

    async def start(self, point: str = "-") -> None:
        """Starts it, to die at a named point of the launcher where one is given."""
        launcher = await self._launched()
        assert launcher.stdin is not None
        launcher.stdin.write(f"{point}\n".encode())
        self.pid = await self._number(launcher)
        self._end = asyncio.create_task(self._number(launcher))

    async def _launched(self) -> asyncio.subprocess.Process:
        if self._launcher is None:
            command = (sys.executable, "-m", "tests.guarantees.launcher", str(self.config))
            pipe = asyncio.subprocess.PIPE
            with (self.config.parent / "agent.log").open("ab") as log:
                self._launcher = await asyncio.create_subprocess_exec(
                    *command, cwd=ROOT, env=self._env, stdin=pipe, stdout=pipe, stderr=log
                )
        return self._launcher

    @staticmethod
    async def _number(launcher: asyncio.subprocess.Process) -> int:
        assert launcher.stdout is not None
        return int(await launcher.stdout.readline())

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return self._end is None or self._end.done()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal; nothing where it is gone."""
        with suppress(ProcessLookupError):
            if not self.dead:
                os.kill(self.pid, number)

    async def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self, timeout: float = 40.0) -> int:
        """Its exit code, once it has ended."""
        return 0 if self._end is None else await asyncio.wait_for(asyncio.shield(self._end), timeout)

    async def close(self) -> None:
        """Ends it and its launcher for good."""
        await self.kill()
        if self._launcher is not None and self._launcher.stdin is not None:
            self._launcher.stdin.close()
            await asyncio.wait_for(self._launcher.wait(), 10.0)

    def log(self) -> str:
        """Everything it has logged."""
        return (self.config.parent / "agent.log").read_text(errors="replace")


@asynccontextmanager
async def app_on(
    config: Path, *, clock: Clock | None = None, seeds: Sequence[str] = ()
) -> AsyncIterator[App]:
    """An agent in this process that sends what it is asked to; these seeds' mailboxes are readable."""
    loaded = load(config, require_secrets=True)
    app = await open_app(loaded, clock=clock, scheduled=False, reload_from=str(config))
    try:
        await app.start()
        await eventually(
            lambda: all(map(app.mailboxes.readable, seeds)), 20.0, lambda: "a seed is unreadable"
        )
        yield app
    finally:
        await app.close()


async def send(app: App, times: int = 1, senders: Sequence[str] = (), seeds: Sequence[str] = ()) -> list[str]:
    """Sends one canary on each route that matches, so many times; returns the ids of their rounds."""
    return [await app.rounds.start(list(senders), list(seeds)) for _ in range(times)]


def rows_of(app: App) -> list[Canary]:
    """Every canary of the agent's store."""
    return app.services.database.read_now(canaries.everything)
