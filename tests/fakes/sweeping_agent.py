"""An agent that looks subjects up in blocklists and does nothing else, and what its store says of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import yaml

from agent.app import App, open_app
from agent.config.load import load
from agent.reports.status import Status, read_status
from agent.store.tables import observations
from tests.fakes.stores import store_in

Tree = dict[str, Any]
Rows = list[dict[str, Any]]


def _config(folder: Path, servers: Sequence[str], zones: Sequence[Tree], timeout: str, section: Tree) -> Tree:
    password = folder / "password"
    password.touch(mode=0o600)
    password.write_text("x")
    catalogue = folder / "zones.yaml"
    catalogue.write_text(yaml.safe_dump({"zones": list(zones)}))
    nowhere = {"host": "127.0.0.1", "port": 9, "security": "none"}
    box = {
        "provider": "dovecot",
        "address": "box@example.net",
        "password": {"file": str(password)},
        "imap": nowhere,
    }
    return {
        "agent": {"store": store_in(folder), "listen": "127.0.0.1:1"},
        "resolver": {"nameservers": list(servers), "timeout": timeout},
        "senders": {"app": {"from": "canary@acme.example", "relay": nowhere}},
        "seeds": {"box": box},
        "routes": [{"every": "1d"}],
        "blocklists": {
            "zones": [zone["zone"] for zone in zones],
            "catalogue": str(catalogue),
            "every": "1h",
            **section,
        },
    }


@asynccontextmanager
async def sweeping_agent(
    folder: Path,
    servers: Sequence[str],
    zones: Sequence[Tree],
    *,
    timeout: str = "300ms",
    scheduled: bool = False,
    evaluated: bool = False,
    **section: Any,
) -> AsyncIterator[App]:
    """A started agent; zones: entries of a catalogue; section: more settings of `blocklists`. It sweeps when
    its schedule says so, or when a test calls `app.watching.sweep()`. evaluated: what it sees becomes alerts;
    else the observations stay to be looked at."""
    folder.mkdir(exist_ok=True)
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(_config(folder, servers, zones, timeout, section)))
    app = await open_app(load(path, require_secrets=True), scheduled=scheduled, reload_from=str(path))
    app.watching.retries, app.watching.retry_after = 1, 0.01
    try:
        await app.start()
        async with nullcontext() if evaluated else app.evaluator._turn:
            yield app
    finally:
        await app.close()


def rows(app: App, table: sa.Table) -> Rows:
    """All rows of a table of the agent's store."""
    found = app.services.database.read_now(lambda conn: conn.execute(sa.select(table)).mappings().all())
    return [dict(row) for row in found]


def observed(app: App, kind: str) -> list[Mapping[str, Any]]:
    """What the evaluator was told, of one kind."""
    return [row["body"] for row in rows(app, observations) if row["kind"] == kind]


def status(app: App) -> Status:
    """What `mailcanary status` would say."""
    services = app.services
    return services.database.read_now(lambda conn: read_status(conn, services.config, services.clock.wall()))
