"""`python -m tests.fleet.world`: the load world as a process of its own, so that its CPU is not the agents'.

Standard input takes one JSON list a line, [request, argument ...]; each is answered with one line.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet.imap import ImapPeer, Watch
from tests.fleet.post import Handled, Post
from tests.fleet.smtp import SmtpPeer

ROOT = Path(__file__).parents[2]


class World:
    """The servers and what can be asked of them."""

    def __init__(self) -> None:
        self.post = Post()
        self.watch = Watch()

    async def serve(self) -> tuple[int, int]:
        """Opens both ports: (SMTP, IMAP)."""
        loop = asyncio.get_running_loop()
        smtp = await loop.create_server(lambda: SmtpPeer(self.post), "127.0.0.1", 0, backlog=1000)
        imap = await loop.create_server(lambda: ImapPeer(self.post, self.watch), "127.0.0.1", 0, backlog=1000)
        self._servers = smtp, imap
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        return ports[0], ports[1]

    def shape(self, shares: Mapping[str, int], delay: float) -> None:
        """Sets the fates, in ten thousandths, and the seconds before a final reply."""
        self.post.shares, self.post.delay = dict(shares), delay

    def figures(self) -> dict[str, float]:
        """Counts so far, and this process's CPU seconds."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        handled = self.post.handled.values()
        return {
            "tokens": len(handled),
            "accepted": sum(len(one.at) for one in handled),
            "open": self.watch.open,
            "logins": self.watch.logins,
            "commands": self.watch.commands,
            "stale": self.watch.stale,
            "cpu": used.ru_utime + used.ru_stime,
        }

    def met(self) -> list[tuple[str, int, int, bool]]:
        """Logins to a mailbox that had a session already: (mailbox, older pid, newer pid, frozen)."""
        return self.watch.met

    def newest(self) -> dict[str, float]:
        """When the newest session of each mailbox logged in; a mailbox without a session is left out."""
        return {name: box.sessions[-1].since for name, box in self.post.boxes.items() if box.sessions}

    def log(self) -> dict[str, list[Any]]:
        """What became of each token."""
        return {token: [one.to, one.codes, one.copies, one.at] for token, one in self.post.handled.items()}

    def release(self) -> int:
        """Delivers what was held."""
        return self.post.release()


async def _run() -> None:
    world = World()
    print(json.dumps(await world.serve()), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        request, *args = json.loads(line)
        answer: Callable[..., Any] = getattr(world, request)
        print(json.dumps(answer(*args)), flush=True)


@dataclass
class Load:
    """A running load world, asked from another process."""

    smtp: int
    imap: int
    pid: int
    _process: asyncio.subprocess.Process
    _turn: asyncio.Lock

    async def ask(self, request: str, *args: object) -> Any:
        """What the world answers to one of World's methods."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        async with self._turn:
            stdin.write(json.dumps([request, *args]).encode() + b"\n")
            return json.loads(await asyncio.wait_for(stdout.readline(), 60.0))

    async def shape(self, delay: float = 0.0, **shares: int) -> None:
        """Sets the fates, in ten thousandths of the tokens, and the seconds before a final reply."""
        await self.ask("shape", shares, delay)

    async def figures(self) -> dict[str, float]:
        """Counts so far."""
        return dict(await self.ask("figures"))

    async def handled(self) -> dict[str, Handled]:
        """What became of each token."""
        return {token: Handled(*row) for token, row in (await self.ask("log")).items()}


@asynccontextmanager
async def load_world() -> AsyncIterator[Load]:
    """A load world of one's own."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.fleet.world", cwd=ROOT, stdin=pipe, stdout=pipe, limit=2**28
    )
    try:
        assert process.stdout is not None
        smtp, imap = json.loads(await asyncio.wait_for(process.stdout.readline(), 30.0))
        yield Load(smtp, imap, process.pid, process, asyncio.Lock())
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 10.0)


def many_files() -> None:
    """Lets this process, and those it starts, have as many sockets as the machine allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Serves until standard input ends."""
    many_files()
    try:
        import uvloop
    except ImportError:
        asyncio.run(_run())
    else:
        uvloop.run(_run())


if __name__ == "__main__":
    main()
