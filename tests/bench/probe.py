"""A whole probe beside Debian's check_email_delivery: CPU of send, read back, judge and store; and how
well the agent knows when a canary arrived. Same servers, same run, in turn."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from agent.app import App
from agent.process import run, started
from agent.runner.ledger import Change
from agent.store.database import Tx
from probes.canary.state import Canary
from tests.bench.row import BenchRow
from tests.lab.agents import LabAgent, lab_agent
from tests.lab.world.lab import Lab, User

PLUGINS = Path("/usr/lib/nagios/plugins")
RUNS = 5
SPACING = 0.02
"""Seconds between canaries: a fleet of routes, not one."""

BURST = 60
"""Canaries of one of our runs; the peer sends one a run."""


def rows() -> list[BenchRow]:
    """The group `probe`."""
    with Lab.start() as lab, tempfile.TemporaryDirectory() as folder:
        return run(_measure(lab, Path(folder)))


async def _measure(lab: Lab, folder: Path) -> list[BenchRow]:
    ours: list[float] = []
    theirs: list[float] = []
    errors: list[float] = []
    other = lab.fresh_user("a")
    limits = {"per_provider_per_minute": 60_000}
    async with lab_agent(lab, folder, deadline="30s", limits=limits) as agent:
        sender = _Sender(agent.app)
        await _round(sender, 5)
        started()
        for _ in range(RUNS):
            cpu, canaries = await _round(sender, BURST)
            ours.append(cpu)
            errors += _errors(lab, canaries)
            if _peer_is_there():
                theirs.append(await asyncio.to_thread(_peer, lab, other))
        idle = await _idle_delays(lab, agent)
    figure = statistics.median(ours) * 1e3
    peer = statistics.median(theirs) * 1e3 if theirs else None
    error, delay = statistics.median(errors) * 1e3, statistics.median(idle) * 1e3
    return [
        BenchRow(
            "one whole probe, CPU",
            figure,
            "ms",
            peer,
            "check_email_delivery" if peer else "check_email_delivery is not there",
            figure / peer if peer else None,
            1 / 40,
            figure / peer <= 1 / 40 if peer else None,
        ),
        BenchRow(
            "latency as told, median error",
            error,
            "ms",
            delay,
            "IDLE's own delay",
            error / delay,
            1 / 5,
            error / delay <= 1 / 5,
        ),
    ]


async def _round(sender: _Sender, count: int) -> tuple[float, list[Canary]]:
    """CPU seconds of this process for each canary, from before the send until all have a verdict."""
    began = time.process_time()
    sent = []
    for _ in range(count):
        sent.append(asyncio.create_task(sender.one()))
        await asyncio.sleep(SPACING)
    canaries = list(await asyncio.gather(*sent))
    return (time.process_time() - began) / count, canaries


class _Sender:
    """Sends as the schedule does, and awaits the verdict by its event: the watching must cost nothing."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.route = next(r for r in app.services.config.routes_resolved if r.name == "bulk/a")
        self.waiting: dict[str, asyncio.Future[Canary]] = {}
        app.ledger.listen(self._heard)

    def _heard(self, change: Change) -> None:
        after = change.after
        if after.settled_at is not None and after.accepted and after.id in self.waiting:
            self.waiting.pop(after.id).set_result(after)

    def _claim(self, tx: Tx) -> Change:
        app = self.app
        app.services.fence(tx)
        now = app.services.now()
        if app.sending.held(tx, self.route, now) is not None:
            raise RuntimeError("the bench goes beyond the pace of its own config")
        return app.sending.intend(tx, self.route, now, "")

    async def one(self) -> Canary:
        """One canary, as it is once it has a verdict."""
        change = await self.app.services.database.write(self._claim, may_wait=True)
        done = self.waiting[change.after.id] = asyncio.get_running_loop().create_future()
        self.app.ledger.committed([change])
        await self.app.sending.submit(change.after)
        async with asyncio.timeout(40):
            return await done


def _errors(lab: Lab, canaries: list[Canary]) -> list[float]:
    """How far each told arrival is from the moment the lab's Dovecot stored the message, in seconds."""
    found = []
    for canary in canaries:
        stored = [s.time for s in lab.delivery_log(canary.message_id) if s.stage == "stored"]
        if stored and canary.accepted is not None and canary.latency is not None:
            found.append(abs(canary.accepted.wall + canary.latency - stored[0]))
    return found


def _peer_is_there() -> bool:
    return (PLUGINS / "check_email_delivery").exists() and shutil.which("perl") is not None


def _peer(lab: Lab, user: User) -> float:
    """CPU seconds of one run of the plugin, the same way as ours: relay and IMAP with login over TLS."""
    relay = lab.relay("bulk")
    send = (
        f"{PLUGINS}/check_smtp_send -H {relay.ip} --port {relay.tls_port} --ssl -U {relay.username} "
        f"-P {relay.password} --mailto {user.address} --mailfrom noreply@{relay.sender.domain} "
        f"--header 'Subject: Nagios %TOKEN1%.'"
    )
    read = (
        f"{PLUGINS}/check_imap_receive -H {user.imap_ip} --ssl --ssl-ca-file {lab.ca_file} "
        f"-U {user.address} -P {user.password} "
        f"-s SUBJECT -s 'Nagios %TOKEN1%.' --imap-check-interval 1 --imap-retries 15"
    )
    environment = {**os.environ, "SSL_CERT_FILE": str(lab.ca_file)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(PLUGINS / "check_email_delivery"), "-p", send, "-p", read, "--wait", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if "EMAIL DELIVERY OK" not in done.stdout:
        raise RuntimeError(f"the peer failed: {done.stdout} {done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


async def _idle_delays(lab: Lab, agent: LabAgent) -> list[float]:
    """How late Dovecot tells an IDLE client of a message, on the same server."""
    return await asyncio.to_thread(_idle_samples, lab, lab.fresh_user("a"))


def _idle_samples(lab: Lab, user: User) -> list[float]:
    import imaplib
    import ssl

    context = ssl.create_default_context(cafile=str(lab.ca_file))
    context.check_hostname = False
    found = []
    with imaplib.IMAP4_SSL(user.imap_ip, user.imap_port, ssl_context=context) as client:
        client.login(user.address, user.password)
        client.select("INBOX", readonly=True)
        for number in range(7):
            client.send(b"I%d IDLE\r\n" % number)
            client.readline()
            name = f"idle-{number}-{time.time_ns()}@bench.test"
            letter = f"Message-ID: <{name}>\r\nSubject: idle\r\n\r\nx\r\n".encode()
            lab.imap("a").deliver(user.address, "INBOX", letter)
            saved = time.time()
            while b"EXISTS" not in client.readline():
                pass
            found.append(time.time() - saved)
            client.send(b"DONE\r\n")
            while not client.readline().startswith(b"I%d " % number):
                pass
    return found
