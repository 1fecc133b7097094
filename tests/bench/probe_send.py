"""CPU of building and sending one canary, each over a new TLS connection, with the sink in another process.

    python -m tests.bench.probe_send [N] [direct]

Prints one line a part: microseconds of this process's CPU for each canary, median of five runs, beside the
goal. `direct` sends by STARTTLS to an MX, instead of over implicit TLS with a login. Loopback only.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

from probes.canary.message import MessageTemplate, new_message_id
from probes.canary.submission import SubmitResult
from probes.canary.submit import submit
from probes.canary.token import TokenKeys, mint
from probes.canary.ways import Direct, Relay, Way
from probes.clock import SystemClock
from probes.dns import StaticResolver
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


async def _cost(count: int, one: Callable[[], Awaitable[None]]) -> float:
    """CPU microseconds for each, median of the runs."""
    costs = []
    for _ in range(RUNS):
        begun = time.process_time()
        for _ in range(count):
            await one()
        costs.append((time.process_time() - begun) / count * 1e6)
    return statistics.median(costs)


def _row(name: str, cost: float, goal: float) -> bool:
    print(f"{name:<44}{cost:>9.1f} us   goal {goal:>7.1f}   ratio {cost / goal:5.2f}")
    return cost <= goal


async def _measure(way: Way, count: int) -> bool:
    template = MessageTemplate.compile(from_address="Acme <noreply@acme.example>", sender="app")
    keys = TokenKeys(1, {1: secrets.token_bytes(32)})
    resolver = StaticResolver(
        {("example.net", "MX"): ["10 mx.example.net."], ("mx.example.net", "A"): ["127.0.0.1"]}
    )
    clock, context = SystemClock(), client_context()

    def build() -> tuple[str, bytes]:
        at = clock.wall()
        token = mint(keys, agent="bench", route="app/seed", at=at, nonce=secrets.token_bytes(16))
        mid = new_message_id("acme.example", secrets.token_bytes(16))
        return token, template.build(token, "seed@example.net", mid, at)

    async def build_only() -> None:
        build()

    async def probe() -> None:
        token, message = build()
        done = await submit(
            way,
            mail_from="bounce@acme.example",
            rcpt_to="seed@example.net",
            message=message,
            envid=token,
            resolver=resolver,
            ssl_context=context,
            clock=clock,
        )
        assert done.result is SubmitResult.ACCEPTED, done

    await probe()
    built = _row(
        "mint a token and build its message", await _cost(2_000, build_only), BUILD_GOAL_MICROSECONDS
    )
    return (
        _row("build and send over a new TLS connection", await _cost(count, probe), GOAL_MICROSECONDS)
        and built
    )


def main(arguments: list[str]) -> int:
    """0 when every goal is met."""
    count = next((int(word) for word in arguments if word.isdecimal()), 200)
    is_direct = "direct" in arguments
    server_context(), client_context()
    ours, theirs = multiprocessing.Pipe()
    sink = multiprocessing.get_context("fork").Process(target=_sink, args=(theirs, not is_direct))
    sink.start()
    port = ours.recv()
    if is_direct:
        way: Way = Direct(helo="out.acme.example", port=port)
    else:
        way = Relay(host="127.0.0.1", port=port, username="canary", password="secret")
    try:
        met = asyncio.run(_measure(way, count))
    finally:
        ours.send(None)
        sink.join(5)
        if sink.is_alive():
            sink.terminate()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
