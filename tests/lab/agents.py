"""An agent in the test's own loop, on the lab's servers, sending only what the test asks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agent.app import App, open_app
from agent.config.load import load
from agent.store import canaries
from probes.canary.state import Canary
from tests.fakes.stores import store_in
from tests.lab.world import agent_config
from tests.lab.world.lab import Lab, User

Tree = dict[str, Any]


@dataclass
class LabAgent:
    """A running agent and what a test wants of it."""

    app: App
    folder: Path
    users: Mapping[str, User]

    async def send(self, sender: str, seed: str) -> Canary:
        """Sends one canary on the route and returns it as it is once the submission has ended."""
        round_id = await self.app.rounds.start([sender], [seed])
        return await self.until(lambda: self._sent(round_id), "the canary was never submitted")

    def _sent(self, round_id: str) -> Canary | None:
        found = self.app.services.database.read_now(lambda conn: canaries.of_round(conn, round_id))
        return found[0] if found and found[0].attempts else None

    def get(self, canary: Canary) -> Canary:
        """The canary as the store has it now."""
        found = self.app.services.database.read_now(lambda conn: canaries.get(conn, canary.id))
        assert found is not None
        return found

    async def settled(self, canary: Canary, timeout: float = 40.0) -> Canary:
        """The canary once it has an outcome."""
        return await self.when(canary, lambda c: c.outcome is not None, timeout)

    async def when(self, canary: Canary, wanted: Callable[[Canary], bool], timeout: float = 40.0) -> Canary:
        """The canary once it is as wanted."""

        def look() -> Canary | None:
            now = self.get(canary)
            return now if wanted(now) else None

        return await self.until(look, f"the canary stayed {self.get(canary)}", timeout)

    async def until(self, look: Callable[[], Canary | None], complaint: str, timeout: float = 40.0) -> Canary:
        """What `look` finds, asked for until it does, less and less often: a hundred that wait like this ask
        the store in the agent's own loop, and would leave it no time to do what they wait for."""
        end, pause = asyncio.get_running_loop().time() + timeout, 0.02
        while (found := look()) is None:
            assert asyncio.get_running_loop().time() < end, complaint
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, 0.25)
        return found

    async def readable(self, *seeds: str, timeout: float = 20.0) -> None:
        """Waits until the mailboxes can be read."""
        end = asyncio.get_running_loop().time() + timeout
        while not all(self.app.mailboxes.readable(seed) for seed in seeds):
            assert asyncio.get_running_loop().time() < end, "a seed never became readable"
            await asyncio.sleep(0.02)


def write_config(
    lab: Lab, folder: Path, *, deadline: str = "20s", late_after: str = "1h", **sections: Any
) -> tuple[Path, dict[str, User]]:
    """A config with fresh mailboxes: senders app, bulk, strict (relay) and direct; seeds a and b."""
    folder.mkdir(parents=True, exist_ok=True)
    users = {name: lab.fresh_user(name) for name in ("a", "b")}
    document: Tree = {
        "agent": {
            "name": "lab",
            "store": store_in(folder),
            "listen": f"127.0.0.1:{_free_port()}",
        },
        "resolver": {"nameservers": [lab.resolver_ip]},
        "senders": {
            "app": agent_config.relay_sender(lab, folder),
            "bulk": agent_config.relay_sender(lab, folder, "bulk", "tls"),
            "strict": agent_config.relay_sender(lab, folder, "strict"),
            "direct": agent_config.direct_sender(lab),
        },
        "seeds": {
            name: agent_config.seed(lab, folder, name, user) | {"daily_limit": 5000}
            for name, user in users.items()
        },
        "bounces": agent_config.bounces(lab, folder),
        "routes": [{"every": "1d", "deadline": deadline, "late_after": late_after}],
        "limits": {"per_seed_per_day": 5000, "per_provider_per_minute": 6000, "in_flight": 32},
    }
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(_merged(document, sections), sort_keys=False))
    return path, users


def _merged(document: Tree, sections: Mapping[str, Any]) -> Tree:
    for name, section in sections.items():
        old = document.get(name)
        document[name] = (
            {**old, **section} if isinstance(old, dict) and isinstance(section, dict) else section
        )
    return document


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def lab_agent(lab: Lab, folder: Path, *, serve: bool = False, **config: Any) -> AsyncIterator[LabAgent]:
    """A started agent whose mailboxes are readable."""
    path, users = write_config(lab, folder, **config)
    app = await open_app(load(path, require_secrets=True), scheduled=False, reload_from=str(path))
    agent = LabAgent(app, folder, users)
    try:
        await app.start()
        if serve:
            await app.serve()
        await agent.readable("a", "b")
        yield agent
    finally:
        await app.close()
