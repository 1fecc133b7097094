"""CPU of building and sending one canary, each over a new TLS connection, with the sink in another process.

    python -m tests.bench.probe_send [N] [direct]

Prints one line a part: microseconds of this process's CPU for each canary, median of five runs, beside the
goal. `direct` sends by STARTTLS to an MX, instead of over implicit TLS with a login. Loopback only.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import socket
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from agent.process import run
from probes.canary.message import MessageTemplate, new_message_id
from probes.canary.submission import SubmitResult
from probes.canary.submit import submit
from probes.canary.token import TokenKeys, mint
from probes.canary.ways import Direct, Relay, Way
from probes.clock import SystemClock
from probes.dns import StaticResolver
from tests.bench.row import BenchRow
from tests.fakes.certificates import client_context, server_context
from tests.fakes.smtp_server import FakeSmtp, Script

GOAL_MICROSECONDS = 1_500.0
BUILD_GOAL_MICROSECONDS = 50.0
RUNS = 5


def _sink(pipe: Connection, implicit: bool) -> None:
    async def serve() -> None:
        async with FakeSmtp(Script(tls=server_context(), implicit_tls=implicit)) as server:
            pipe.send(server.port)
            await asyncio.to_thread(pipe.recv)

    asyncio.run(serve())


def _spent(count: int, work: Callable[[], None]) -> float:
    """CPU microseconds for each of `count`."""
    begun = time.process_time()
    work()
    return (time.process_time() - begun) / count * 1e6


def _bare(port: int, implicit: bool, count: int) -> None:
    """The limit: connect, TLS handshake, greeting."""
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as plain:
            if not implicit:
                plain.recv(512)
                plain.sendall(b"EHLO a.example\r\n")
                plain.recv(4096)
                plain.sendall(b"STARTTLS\r\n")
                plain.recv(512)
            with client_context().wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                if implicit:
                    sock.recv(512)


class _Canary:
    """Builds and sends canaries one after the other."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self.template = MessageTemplate.compile(from_address="Acme <noreply@acme.example>", sender="app")
        self.keys = TokenKeys(1, {1: secrets.token_bytes(32)})
        self.clock = SystemClock()
        self.resolver = StaticResolver(
            {("example.net", "MX"): ["10 mx.example.net."], ("mx.example.net", "A"): ["127.0.0.1"]}
        )

    def build(self) -> tuple[str, bytes]:
        at = self.clock.wall()
        token = mint(self.keys, agent="bench", route="app/seed", at=at, nonce=secrets.token_bytes(16))
        message_id = new_message_id("acme.example", secrets.token_bytes(16))
        return token, self.template.build(token, "seed@example.net", message_id, at)

    async def send(self, count: int) -> None:
        for _ in range(count):
            token, message = self.build()
            done = await submit(
                self.way,
                mail_from="bounce@acme.example",
                rcpt_to="seed@example.net",
                message=message,
                envid=token,
                resolver=self.resolver,
                ssl_context=client_context(),
                clock=self.clock,
            )
            assert done.result is SubmitResult.ACCEPTED, done


def _rows(way: Way, port: int, count: int) -> list[BenchRow]:
    canary = _Canary(way)
    run(canary.send(1))
    bare, sent, built = [], [], []
    for _ in range(RUNS):
        bare.append(_spent(count, lambda: _bare(port, isinstance(way, Relay), count)))
        sent.append(_spent(count, lambda: run(canary.send(count))))
        built.append(_spent(1_000, lambda: [canary.build() for _ in range(1_000)] and None))
    build, send, limit = (statistics.median(costs) for costs in (built, sent, bare))
    name = "relay" if isinstance(way, Relay) else "direct"
    return [
        _row("mint a token and build its message", build, BUILD_GOAL_MICROSECONDS, None),
        _row(f"build and send over new TLS, {name}", send, GOAL_MICROSECONDS, limit),
    ]


def _row(name: str, cost: float, goal: float, limit: float | None) -> BenchRow:
    """Beside the bare connection where there is one; the goal is microseconds."""
    ratio = None if limit is None else cost / limit
    return BenchRow(name, cost, "us CPU", limit, "bare TLS connection", ratio, goal, cost <= goal)


def rows() -> list[BenchRow]:
    """The way through a relay, for the group `probe`."""
    return measure()


def measure(*, direct: bool = False, count: int = 100) -> list[BenchRow]:
    """The rows, with a sink of its own in another process."""
    server_context()
    client_context()
    ours, theirs = multiprocessing.Pipe()
    sink = multiprocessing.get_context("fork").Process(target=_sink, args=(theirs, not direct))
    sink.start()
    port = ours.recv()
    try:
        if direct:
            return _rows(Direct(helo="out.acme.example", port=port), port, count)
        return _rows(Relay(host="127.0.0.1", port=port, username="canary", password="secret"), port, count)
    finally:
        ours.send(None)
        sink.join(5)
        if sink.is_alive():
            sink.terminate()


def main(arguments: list[str]) -> int:
    """0 when every goal is met."""
    count = next((int(word) for word in arguments if word.isdecimal()), 100)
    rows = measure(direct="direct" in arguments, count=count)
    for row in rows:
        beside = f"{row.ratio:5.2f} x {row.peer_name} ({row.peer:.0f})" if row.peer and row.ratio else ""
        print(f"{row.name:<42}{row.figure:>9.1f} {row.unit}   goal {row.goal:>7.1f}   {beside}")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
