"""Agents of a fleet as processes: begun, killed, frozen, thawed; all of them share one config file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.fleet.launcher import REFUSED
from tests.fleet.world import ROOT, Load
from tests.guarantees.agents import free_port

TICK = os.sysconf("SC_CLK_TCK")
Tree = dict[str, Any]


def fleet_config(
    world: Load,
    folder: Path,
    store: str,
    *,
    senders: int,
    seeds: int,
    every: str,
    deadline: str = "8s",
    providers: Sequence[str] = ("dovecot",),
    **sections: Any,
) -> Path:
    """A config of senders s0, s1, ... through the load world to mailboxes box0, box1, ... of it, whose
    providers take turns.

    `sections` are merged into the top-level sections of that name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "password"
    secret.touch(mode=0o600)
    secret.write_text("secret")
    relay = {"host": "127.0.0.1", "port": world.smtp, "security": "none"}
    imap = {"host": "127.0.0.1", "port": world.imap, "security": "none", "timeout": "5s"}
    unlimited = 10_000_000
    document: Tree = {
        "agent": {"name": "fleet", "store": store, "listen": "127.0.0.1:9465", "log_format": "json"},
        "resolver": {"nameservers": ["127.0.0.1:9"]},
        "senders": {f"s{n}": {"from": f"canary@s{n}.example.org", "relay": relay} for n in range(senders)},
        "seeds": {
            f"box{n}": {
                "provider": providers[n % len(providers)],
                "address": f"box{n}@example.net",
                "password": {"file": str(secret)},
                "imap": imap,
                "daily_limit": unlimited,
            }
            for n in range(seeds)
        },
        "routes": [{"every": every, "deadline": deadline, "late_after": "1h"}],
        "limits": {"per_seed_per_day": unlimited, "per_provider_per_minute": unlimited, "in_flight": 32},
    }
    for name, section in sections.items():
        old = document.get(name)
        merged = isinstance(old, dict) and isinstance(section, Mapping)
        document[name] = {**old, **section} if merged else section  # type: ignore[dict-item]
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


@dataclass
class FleetAgent:
    """One agent's place in the fleet: its address and its log outlive its processes."""

    listen: str
    log_file: Path
    region: str = ""
    pid: int = 0
    frozen: bool = False
    _end: asyncio.Future[int] | None = None

    @property
    def alive(self) -> bool:
        """Whether its process is there, frozen or not."""
        return self._end is not None and not self._end.done()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            if self.alive:
                os.kill(self.pid, number)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen = False
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and waits for its end."""
        self._signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.thaw()
        self._signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self, timeout: float = 60.0) -> int:
        """Its exit code, once it has ended."""
        return 0 if self._end is None else await asyncio.wait_for(asyncio.shield(self._end), timeout)

    def begun(self, pid: int) -> asyncio.Future[int]:
        """A new process of it; the future takes its exit code."""
        self.pid, self.frozen = pid, False
        self._end = asyncio.get_running_loop().create_future()
        return self._end

    @property
    def cpu(self) -> float:
        """CPU seconds of its process so far."""
        return cpu_of(self.pid)

    def log(self) -> str:
        """Everything that any process of it has logged."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    @property
    def refused(self) -> int:
        """Stale writes of it that were refused."""
        return self.log().count(REFUSED)


def cpu_of(*pids: int) -> float:
    """CPU seconds of processes so far; those that have gone count nothing."""
    found = 0.0
    for pid in pids:
        with suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found += sum(map(int, words[11:13])) / TICK
    return found


@dataclass
class Fleet:
    """So many agents on one config. lease: seconds of a membership, 0: as the product has it."""

    config: Path
    lease: float
    agents: list[FleetAgent] = field(default_factory=list)
    root: Path = ROOT
    _launcher: asyncio.subprocess.Process | None = None
    _hearing: asyncio.Task[None] | None = None
    _born: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    _ends: dict[int, asyncio.Future[int]] = field(default_factory=dict)

    def add(self, region: str = "") -> FleetAgent:
        """One more place; nothing is started yet."""
        name = "agent" if self.root == ROOT else self.root.name
        log = self.config.parent / f"{name}{len(self.agents)}.log"
        self.agents.append(FleetAgent(f"127.0.0.1:{free_port()}", log, region))
        return self.agents[-1]

    async def open(self) -> None:
        """Starts the process that agents are forked from."""
        pipe = asyncio.subprocess.PIPE
        self._launcher = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fleet.launcher"), cwd=self.root, stdin=pipe, stdout=pipe
        )
        self._hearing = asyncio.create_task(self._hear(self._launcher))

    async def _hear(self, launcher: asyncio.subprocess.Process) -> None:
        assert launcher.stdout is not None
        while line := await launcher.stdout.readline():
            said = json.loads(line)
            if "code" in said:
                self._ends.pop(said["pid"]).set_result(said["code"])
            else:
                self._ends[said["pid"]] = asyncio.get_running_loop().create_future()
                self._born.put_nowait(said["pid"])

    async def start(self, agent: FleetAgent) -> None:
        """Begins a process of the agent."""
        assert self._launcher is not None
        assert self._launcher.stdin is not None
        order = {
            "config": str(self.config),
            "log": str(agent.log_file),
            "listen": agent.listen,
            "lease": self.lease,
            "region": agent.region,
        }
        self._launcher.stdin.write(json.dumps(order).encode() + b"\n")
        pid = await asyncio.wait_for(self._born.get(), 30.0)
        told, end = self._ends[pid], agent.begun(pid)
        told.add_done_callback(lambda done: None if end.done() else end.set_result(done.result()))

    async def close(self) -> None:
        """Ends whatever still runs."""
        for agent in self.agents:
            with suppress(TimeoutError):
                await agent.kill()
        if self._launcher is not None and self._launcher.stdin is not None:
            self._launcher.stdin.close()
            await asyncio.wait_for(self._launcher.wait(), 10.0)
        if self._hearing is not None:
            self._hearing.cancel()

    @property
    def up(self) -> Sequence[FleetAgent]:
        """The agents that run and are not frozen."""
        return [agent for agent in self.agents if agent.alive and not agent.frozen]

    def logs(self, most: int = 1500) -> str:
        """The ends of all logs, for complaints."""
        return "\n".join(f"--- {one.log_file.name}\n{one.log()[-most:]}" for one in self.agents)


@asynccontextmanager
async def fleet(config: Path, agents: int, *, lease: float = 0.0, root: Path = ROOT) -> AsyncIterator[Fleet]:
    """So many started agents of the checkout at root."""
    found = Fleet(config, lease, root=root)
    await found.open()
    try:
        for _ in range(agents):
            await found.start(found.add())
        yield found
    finally:
        await found.close()
