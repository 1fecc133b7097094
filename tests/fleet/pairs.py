"""Agents of a fleet within one process: quick to start, and each can be looked into."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.app import App, open_app
from agent.config.load import load
from tests.guarantees.agents import free_port

NOWHERE = {"host": "127.0.0.1", "port": 9, "security": "none"}


def write(folder: Path, store: str, seeds: int, password: str = "password", **agent: Any) -> Path:
    for name in ("password", password):
        secret = folder / name
        if name == "password":
            secret.touch(mode=0o600)
            secret.write_text("x")
    document = {
        "agent": {"store": store, **agent},
        "resolver": {"nameservers": ["127.0.0.1:9"]},
        "senders": {"app": {"from": "canary@acme.example", "relay": NOWHERE}},
        "seeds": {
            f"box{n}": {
                "provider": "dovecot",
                "address": f"box{n}@example.net",
                "password": {"file": password},
                "imap": NOWHERE,
            }
            for n in range(seeds)
        },
        "routes": [{"every": "1d"}],
    }
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@asynccontextmanager
async def agent(path: Path, region: str | None = None, **more: str) -> AsyncIterator[App]:
    own = {"listen": f"127.0.0.1:{free_port()}"} | ({"region": region} if region else {}) | more
    config = load(path, require_secrets=True, own=own)
    app = await open_app(config, reload_from=str(path), own=own)
    try:
        await app.start()
        await app.serve()
        yield app
    finally:
        await app.close()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fleet that looks often, and processes that are told apart though they are one."""
    numbers = iter(range(100))
    monkeypatch.setattr("agent.fleet.membership.BEAT", 0.1)
    monkeypatch.setattr("agent.runner.configuring.AGAIN", 0.1)
    monkeypatch.setattr("agent.app.own_holder", lambda boot: f"elsewhere:{boot[:8]}:{next(numbers)}:1")
