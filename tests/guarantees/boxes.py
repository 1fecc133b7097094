"""A real Dovecot's mailboxes in place of the sink's own, each behind a proxy that breaks its network."""

from __future__ import annotations

import asyncio
import imaplib
import itertools
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.dovecot import GID, Dovecot, open_folder, owner_of, running
from tests.lab.world.proxy import FaultProxy

CROWDED = "127.0.0.10"
"""From this address a user may have one session (tests/fakes/dovecot.py): the second gets NO [LIMIT]."""
USUAL = "127.0.0.9"


@dataclass(eq=False)
class Box:
    """One user's mailbox. Every second message goes to `also`, where that is set."""

    server: Dovecot
    username: str
    proxy: FaultProxy
    also: str = ""
    stopped: list[int] = field(default_factory=list)
    _count: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def port(self) -> int:
        """Where the proxy listens."""
        return self.proxy.port

    def deliver(self, data: bytes) -> None:
        """Puts a message into the Maildir as an MDA does: written aside, then renamed."""
        number = next(self._count)
        folder = self.also if self.also and number % 2 else ""
        home = self.server.root / "home" / self.username / "mail"
        place = home / f".{folder}" if folder else home
        name = f"{number}.{os.getpid()}.proof"
        scratch = place / "tmp" / name
        scratch.write_bytes(data)
        os.chown(scratch, owner_of(self.username), GID)
        scratch.rename(place / "new" / name)

    async def doveadm(self, *args: str) -> str:
        """Runs doveadm beside the loop."""
        return await asyncio.to_thread(self.server.doveadm, *args)

    async def stop(self) -> int:
        """SIGSTOP to the processes that serve it; how many there are."""
        self.stopped = await asyncio.to_thread(self.server.processes, self.username)
        for pid in self.stopped:
            os.kill(pid, signal.SIGSTOP)
        return len(self.stopped)

    def go_on(self) -> None:
        """SIGCONT to what was stopped."""
        for pid in self.stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped = []


def _maildirs(server: Dovecot) -> None:
    """All folders there are from the start, so that mail can be put into them."""
    for name in server.users:
        home = server.root / "home" / name / "mail"
        for place in (home, home / ".Junk", home / ".Archive"):
            for part in (place, place / "cur", place / "new", place / "tmp"):
                part.mkdir(exist_ok=True)
                os.chown(part, owner_of(name), GID)


@asynccontextmanager
async def dovecot_boxes(number: int) -> AsyncIterator[list[Box]]:
    """A running Dovecot and so many mailboxes of it."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(open_folder()))
        server = stack.enter_context(running(folder, number))
        _maildirs(server)
        boxes = []
        for name in list(server.users):
            proxy = FaultProxy("127.0.0.1", server.port)
            proxy.source = USUAL
            boxes.append(Box(server, name, await stack.enter_async_context(proxy)))
        try:
            yield boxes
        finally:
            for box in boxes:
                box.go_on()


class _FromCrowded(imaplib.IMAP4):
    """A session from the address at which a user may have one."""

    def _create_socket(self, timeout: float | None) -> socket.socket:  # type: ignore[override]
        return socket.create_connection((self.host, self.port), timeout, (CROWDED, 0))


def crowd(box: Box) -> imaplib.IMAP4:
    """Takes the one place, as soon as it is free."""
    for _ in range(40):
        there = _FromCrowded("127.0.0.1", box.server.port, timeout=10)
        with suppress(imaplib.IMAP4.error):
            there.login(box.username, "secret")
            return there
        there.shutdown()
        time.sleep(0.1)
    raise AssertionError("the session of ours did not make room")
