"""An owner that remembers, a clock that runs fast, a reader in a task: for tests of the mailbox reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from probes.mailbox.access import MailboxAccess, Password, Security
from probes.mailbox.model import Expectation, ReaderState, Reason, ScanReport, SeenMessage
from probes.mailbox.presets import preset
from probes.mailbox.reader import MailboxReader


class FastClock:
    """`factor` seconds pass in one: waits shrink, the deadlines of commands (real time) do not."""

    boot = "fast"

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self._began = time.monotonic()
        self._wall = time.time()

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self.factor + 1000.0

    def wall(self) -> float:
        return self._wall + self.monotonic() - 1000.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.factor)

    def call_later(self, seconds: float, call: Callable[[], object]) -> asyncio.TimerHandle:
        return asyncio.get_running_loop().call_later(max(0.0, seconds) / self.factor, call)


class Owner:
    """Expects what `expected` says and concludes as DESIGN section 2 has it: `missing` holds the tokens that
    a complete scan, begun after the deadline, did not show."""

    def __init__(self, clock: FastClock) -> None:
        self.clock = clock
        self.expected = Expectation()
        self.tokens: set[bytes] = set()
        self.seen: list[SeenMessage] = []
        self.scans: list[ScanReport] = []
        self.states: list[ReaderState] = []
        self.missing: list[bytes] = []
        self.fail: Exception | None = None

    def expecting(self) -> Expectation:
        return self.expected

    def expect(self, *tokens: bytes, deadline: float, burst: float = 0.0) -> None:
        """Waits for these, seconds from now by the owner's clock."""
        now = self.clock.monotonic()
        self.tokens.update(tokens)
        self.expected = Expectation(
            open=len(self.tokens),
            oldest_sent_at=self.clock.wall(),
            burst=(now, now + burst) if burst else None,
            scan_after=self.clock.wall() + deadline,
        )

    def found(self, token: bytes) -> list[SeenMessage]:
        return [message for message in self.seen if token in message.header]

    async def on_message(self, message: SeenMessage) -> None:
        if self.fail is not None:
            raise self.fail
        self.seen.append(message)

    async def on_scan(self, report: ScanReport) -> None:
        self.scans.append(report)
        after = self.expected.scan_after
        if report.complete and after is not None and report.started_wall > after:
            self.missing.extend(token for token in self.tokens if not self.found(token))
            self.expected = Expectation()

    async def on_state(self, state: ReaderState) -> None:
        self.states.append(state)

    @property
    def reason(self) -> Reason | None:
        return self.states[-1].reason if self.states else None

    @property
    def readable(self) -> bool:
        return bool(self.states) and self.states[-1].readable


def canary(token: str, body: bytes = b"hello\r\n") -> bytes:
    head = f"From: a@example.net\r\nSubject: test [{token}]\r\nX-Mailcanary-Token: {token}\r\n\r\n"
    return head.encode() + body


async def until(true: Callable[[], Any], timeout: float = 8.0) -> None:
    """Waits for a condition in real time; fails with TimeoutError."""
    async with asyncio.timeout(timeout):
        while not true():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def reading(
    port: int,
    factor: float = 1.0,
    provider: str = "dovecot",
    access: dict[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[tuple[MailboxReader, Owner]]:
    """A reader that runs against 127.0.0.1:port, stopped at the end within a bounded time."""
    clock = FastClock(factor)
    owner = Owner(clock)
    given = {"security": Security.NONE, "timeout": 0.4, "connect_timeout": 1.0} | (access or {})
    host, name = given.pop("host", "127.0.0.1"), given.pop("username", "seed")
    credential = given.pop("credential", Password("secret"))
    reader = MailboxReader(
        MailboxAccess(host, port, name, credential, **given),
        owner,
        clock,
        preset=preset(provider),
        rnd=more.pop("rnd", lambda: 0.5),
        **more,
    )
    stop = asyncio.Event()
    task = asyncio.create_task(reader.run(stop))
    try:
        yield reader, owner
    finally:
        stop.set()
        try:
            await asyncio.wait_for(task, 5)
        except TimeoutError:
            task.cancel()
            raise
