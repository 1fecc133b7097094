"""Idle mailbox sessions over TLS (memory, CPU) and delivery to knowledge, each beside its peer in one run.

Every side runs in a process of its own: a server that speaks as much IMAP as idling needs, our readers, bare
aioimaplib, and IMAPClient with a thread a session. The peers idle with fewer sessions; what they take of the
processor is told for as many as ours. They only wait and would not notice a connection that is dead; ours
prove every 44 s that theirs are not.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import resource
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from agent.process import run as run_in_loop
from probes.clock import SystemClock
from probes.mailbox.access import MailboxAccess, Password, Security
from probes.mailbox.model import Expectation
from probes.mailbox.presets import preset
from probes.mailbox.reader import MailboxReader
from tests.bench.row import BenchRow
from tests.fakes import dovecot

SESSIONS = int(os.environ.get("MAILBOX_SESSIONS", "5000"))
PEER_SESSIONS = int(os.environ.get("MAILBOX_PEER_SESSIONS", "1000"))
IDLE_SECONDS = 60.0
DELIVERIES = 80
SEEDS = int(os.environ.get("MAILBOX_SEEDS", "1000"))


def rows() -> list[BenchRow]:
    """All rows of this group."""
    return [*idle_rows(), *knowledge_rows()]


# idle sessions


def idle_rows() -> list[BenchRow]:
    """Memory a session and CPU of all while nothing happens."""
    with tempfile.TemporaryDirectory() as folder:
        dovecot.make_certificate(Path(folder))
        with _child("server", folder) as server:
            port = json.loads(_line(server))["port"]
            ours = _measure("ours", folder, port, SESSIONS)
            peers = {
                "aioimaplib": _measure("bare", folder, port, PEER_SESSIONS),
                "IMAPClient threads": _measure("threads", folder, port, PEER_SESSIONS),
            }
    kib, cpu = ours["kib"], ours["cpu"] * 100
    memory, processor = "idle TLS session", f"{SESSIONS} idle sessions, CPU"
    found = [BenchRow(memory, kib, "KiB", 40.0, "goal", kib / 40.0, 1.0, kib <= 40.0)]
    found += [
        BenchRow(memory, kib, "KiB", told["kib"], name, kib / told["kib"], None, None)
        for name, told in peers.items()
    ]
    found.append(BenchRow(processor, cpu, "% of a core", 1.0, "goal", cpu, 1.0, cpu <= 1.0))
    for name, told in peers.items():
        as_many = told["cpu"] * 100 * SESSIONS / PEER_SESSIONS
        name = f"{name}, from {PEER_SESSIONS}"
        ratio = cpu / as_many if as_many else None
        found.append(BenchRow(processor, cpu, "% of a core", as_many, name, ratio, None, None))
    return found


@contextlib.contextmanager
def _child(*args: str) -> Any:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.mailboxes", *args],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def _measure(kind: str, folder: str, port: int, count: int) -> dict[str, float]:
    with _child(kind, folder, str(port), str(count)) as process:
        told: dict[str, float] = json.loads(_line(process))
        return told


def _rss() -> float:
    """KiB of this process that are its own."""
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(float(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


class IdleServer(asyncio.Protocol):
    """As much IMAP as a session needs that never gets mail."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.idle = b""
        transport.write(b"* OK [CAPABILITY IMAP4rev1 IDLE LITERAL+] ready\r\n")

    def data_received(self, data: bytes) -> None:
        for line in data.split(b"\r\n")[:-1]:
            self.transport.write(self._answer(line))

    def _answer(self, line: bytes) -> bytes:
        if line == b"DONE":
            return self.idle + b" OK done\r\n"
        tag, _, rest = line.partition(b" ")
        verb = rest.split(b" ")[0].upper()
        untagged = {
            b"CAPABILITY": b"* CAPABILITY IMAP4rev1 IDLE\r\n",
            b"LIST": b'* LIST (\\Junk) "/" "Junk"\r\n* LIST () "/" "INBOX"\r\n',
            b"EXAMINE": b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1] ok\r\n",
            b"SELECT": b"* 0 EXISTS\r\n* OK [UIDVALIDITY 1] ok\r\n* OK [UIDNEXT 1] ok\r\n",
            b"STATUS": b'* STATUS "Junk" (UIDNEXT 1 UIDVALIDITY 1)\r\n',
        }.get(verb, b"")
        if verb == b"IDLE":
            self.idle = tag
            return b"+ idling\r\n"
        return untagged + tag + b" OK done\r\n"


def _client_tls(folder: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=f"{folder}/cert.pem")


async def _serve(folder: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")
    loop = asyncio.get_running_loop()
    server = await loop.create_server(IdleServer, "127.0.0.1", 0, ssl=context, backlog=1000)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await server.serve_forever()


class _Quiet:
    """Expects nothing; counts who can read."""

    def __init__(self) -> None:
        self.readable = 0
        self.expected = Expectation()

    def expecting(self) -> Expectation:
        return self.expected

    async def on_message(self, message: Any) -> None:
        pass

    async def on_scan(self, report: Any) -> None:
        pass

    async def on_state(self, state: Any) -> None:
        self.readable += state.readable


async def _ours(folder: str, port: int, count: int) -> None:
    owner, clock, stop, tls = _Quiet(), SystemClock(), asyncio.Event(), _client_tls(folder)
    gc.collect()
    before = _rss()
    tasks = []
    for number in range(count):
        access = MailboxAccess(
            "localhost", port, f"u{number}", Password("x"), tls=tls, timeout=60, connect_timeout=60
        )
        reader = MailboxReader(access, owner, clock, preset=preset("dovecot"))
        tasks.append(asyncio.create_task(reader.run(stop)))
        while number - owner.readable > 20:
            await asyncio.sleep(0.002)
    while owner.readable < count:
        await asyncio.sleep(0.05)
    await _report(before, count)


async def _bare(folder: str, port: int, count: int) -> None:
    from aioimaplib import aioimaplib

    tls, sessions = _client_tls(folder), []
    gc.collect()
    before = _rss()
    for _ in range(count):
        client = aioimaplib.IMAP4_SSL("localhost", port, ssl_context=tls)
        await client.wait_hello_from_server()
        await client.login("u", "x")
        await client.select("INBOX")
        sessions.append((client, await client.idle_start(timeout=3600)))
    await _report(before, count)


async def _threads(folder: str, port: int, count: int) -> None:
    import imapclient

    tls, sessions = _client_tls(folder), []
    gc.collect()
    before = _rss()

    def one() -> None:
        client = imapclient.IMAPClient("localhost", port, ssl_context=tls)
        client.login("u", "x")
        client.select_folder("INBOX", readonly=True)
        client.idle()
        sessions.append(client)
        client.idle_check(timeout=600)

    for number in range(count):
        threading.Thread(target=one, daemon=True).start()
        while number - len(sessions) > 20:
            await asyncio.sleep(0.002)
    while len(sessions) < count:
        await asyncio.sleep(0.05)
    await _report(before, count)


async def _report(before: float, count: int) -> None:
    """Memory a session, and the share of a core that all of them take while idle."""
    await asyncio.sleep(2)
    gc.collect()
    kib = (_rss() - before) / count
    began, used = time.monotonic(), _cpu()
    await asyncio.sleep(IDLE_SECONDS)
    share = (_cpu() - used) / (time.monotonic() - began)
    print(json.dumps({"kib": round(kib, 1), "cpu": round(share, 5)}), flush=True)
    os._exit(0)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# delivery to knowledge


class _Waiting(_Quiet):
    """One seed: when it knew, on the monotonic clock."""

    def __init__(self) -> None:
        super().__init__()
        self.known = asyncio.Event()
        self.knew = 0.0

    async def on_message(self, message: Any) -> None:
        self.knew = message.seen_monotonic
        self.known.set()


def knowledge_rows() -> list[BenchRow]:
    """p95 from the end of delivery to knowing of it, NOOP bursts beside IDLE, on real Dovecot."""
    if not shutil.which("dovecot"):
        return [BenchRow("delivery to knowledge: no dovecot", 0.0, "ms", None, "IDLE", None, 0.1, None)]
    with dovecot.open_folder() as folder, dovecot.running(folder, SEEDS) as server:
        delays = asyncio.run(_knowledge(server))
    burst, idle = (statistics.quantiles(delays[kind], n=20)[18] * 1000 for kind in (True, False))
    ratio = burst / idle
    return [
        BenchRow(
            f"delivery to knowledge, {SEEDS} seeds, p95", burst, "ms", idle, "IDLE", ratio, 0.1, ratio <= 0.1
        )
    ]


async def _knowledge(server: dovecot.Dovecot) -> dict[bool, list[float]]:
    clock, stop, tls = SystemClock(), asyncio.Event(), server.client_tls()
    owners: dict[str, _Waiting] = {}
    readers: dict[str, MailboxReader] = {}
    tasks = []
    for number in range(SEEDS):
        user, owner = server.add_user(), _Waiting()
        access = MailboxAccess(
            "127.0.0.1", server.tls_port, user, Password("secret"), Security.TLS, tls, connect_timeout=60
        )
        owners[user], readers[user] = owner, MailboxReader(access, owner, clock, preset=preset("dovecot"))
        tasks.append(asyncio.create_task(readers[user].run(stop)))
        while number - sum(one.readable for one in owners.values()) > 10:
            await asyncio.sleep(0.01)
    while not all(one.readable for one in owners.values()):
        await asyncio.sleep(0.05)
    delays: dict[bool, list[float]] = {True: [], False: []}
    for number, user in enumerate(list(owners)[:DELIVERIES]):
        kind = number % 2 == 0
        delays[kind].append(await _one(server, clock, owners[user], readers[user], user, kind))
    stop.set()
    await asyncio.wait(tasks, timeout=30)
    return delays


async def _one(
    server: dovecot.Dovecot,
    clock: SystemClock,
    owner: _Waiting,
    reader: MailboxReader,
    user: str,
    burst: bool,
) -> float:
    now = clock.monotonic()
    owner.expected = Expectation(1, clock.wall(), (now, now + 30) if burst else None)
    reader.kick()
    message = b"Subject: x\r\nX-Mailcanary-Token: AAAA\r\n\r\nbody\r\n"
    await asyncio.sleep(0.2)
    delivered = await asyncio.to_thread(_deliver, server, user, message)
    async with asyncio.timeout(20):
        await owner.known.wait()
    owner.expected = Expectation()
    return max(0.0, owner.knew - delivered)


def _deliver(server: dovecot.Dovecot, user: str, message: bytes) -> float:
    """Puts the file into the maildir as a delivery agent does, and says when."""
    folder = server.root / "home" / user / "mail"
    path = folder / "tmp" / f"{time.time_ns()}.bench"
    path.write_bytes(message)
    os.chown(path, dovecot.owner_of(user), dovecot.GID)
    path.rename(folder / "new" / path.name)
    return time.monotonic()


def main() -> None:
    """Runs one side of the idle measurement."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (20_000, max(20_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    )
    kind, folder, *rest = sys.argv[1:]
    numbers = [int(text) for text in rest]
    run = {"server": _serve, "ours": _ours, "bare": _bare, "threads": _threads}[kind](folder, *numbers)
    if kind in ("server", "ours"):  # as the agent runs: on uvloop where that is installed
        run_in_loop(run)
    else:
        asyncio.run(run)


if __name__ == "__main__":
    main()
