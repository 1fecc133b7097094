"""How commands get a round: from the running agent over its API, or alone with the mailboxes taken here."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.commands.client import request
from probes.errors import ConfigError, DataError, HttpUnavailable

if TYPE_CHECKING:
    from agent.config.models import Config

Show = Callable[[Mapping[str, Any]], None]

POLL = 2.0
"""Seconds of one long poll: how often progress is told."""
PATIENCE = 60.0
"""Seconds that an agent may be away while it is waited for: it may be restarting."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A round as people ask for it. deadline: as in 10m, "" for the routes' own; see Order of the runner."""

    senders: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    count: int = 1
    deadline: str = ""
    baseline: str = ""
    kind: str = "probe"
    by: str = ""
    key: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """What is sent to the API, or read as if it had been."""
        told = {name: value for name, value in asdict(self).items() if value not in ("", ())}
        return {name: value for name, value in told.items() if name != "key"}


def who_asks() -> str:
    """The user and the machine, for the audit trail."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{platform.node()}"


def token_of(config: Config | None, token_file: str | None) -> str | None:
    """The API's token: --token-file, $MAILCANARY_TOKEN, or the config's. Raises ConfigError."""
    if token_file:
        try:
            return Path(token_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--token-file {token_file}: {error}") from None
    if token := os.environ.get("MAILCANARY_TOKEN"):
        return token
    return config.agent.token.reveal() if config and config.agent.token else None


async def through(base: str, token: str | None, ask: Ask, show: Show) -> dict[str, Any]:
    """Has the running agent do it. Raises HttpUnavailable where it does not answer, or refuses."""
    headers = {"Idempotency-Key": ask.key} if ask.key else {}
    started = await request(f"{base}/api/v1/probes", "POST", token, ask.body, headers)
    url = f"{base}/api/v1/probes/{started['id']}"
    try:
        return await _poll(url, token, show)
    except asyncio.CancelledError:
        # Interrupted by hand: what is not sent yet is not to be sent.
        await request(url, "DELETE", token)
        raise


async def _poll(url: str, token: str | None, show: Show) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE
    while True:
        try:
            report = await request(f"{url}?wait={POLL:g}", "GET", token)
        except HttpUnavailable as error:
            if error.facts.get("status") or loop.time() > end:
                raise
            await asyncio.sleep(1.0)
            continue
        end = loop.time() + PATIENCE
        if report["done"]:
            return report
        show(report)


async def alone(config: Config, ask: Ask, show: Show) -> dict[str, Any]:
    """Takes the mailboxes and does it here. Raises ConfigError, StoreError."""
    from agent.app import open_app
    from agent.web.probes import read_order

    app = await open_app(config, scheduled=False)
    try:
        await app.start()
        try:
            await app.rounds.cut_off(ask.key or None)
            round_id = await app.rounds.order(read_order(ask.body, ask.key or None))
        except DataError as error:
            raise ConfigError(error.detail) from None
        try:
            while True:
                report = await app.rounds.wait(round_id, POLL)
                assert report is not None
                if report["done"]:
                    return report
                show(report)
        except asyncio.CancelledError:
            await app.rounds.cancel(round_id)
            raise
    finally:
        await app.close()


def beside(report: dict[str, Any], path: Path) -> dict[str, Any]:
    """The report judged beside a round that was kept in a file. Raises ConfigError."""
    from probes.change.verdict import assess, state_of

    try:
        before = state_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, DataError) as error:
        raise ConfigError(f"--baseline {path}: {error}") from None
    return report | assess(state_of(report), before).to_json() | {"baseline": str(path)}


def split_baseline(ask: Ask) -> tuple[Ask, Path | None]:
    """A baseline that is a file is read here, any other is the agent's business."""
    path = Path(ask.baseline)
    if ask.baseline and (path.suffix == ".json" or path.is_file()):
        return replace(ask, baseline=""), path
    return ask, None


def run_round(
    config: Config | None, ask: Ask, show: Show, url: str | None = None, token_file: str | None = None
) -> dict[str, Any]:
    """One round: by the agent at the URL, by the one that runs on the config's store, or alone.

    Raises ConfigError, StoreError, HttpUnavailable.
    """
    ask, file = split_baseline(ask)
    if file is not None and not file.is_file():
        raise ConfigError(f"--baseline {file}: there is no such file")
    ask = replace(ask, by=ask.by or who_asks())
    base = url or (_running(config) if config else None)
    if base is not None:
        report = asyncio.run(through(base.rstrip("/"), token_of(config, token_file), ask, show))
    else:
        assert config is not None
        report = asyncio.run(alone(config, ask, show))
    return beside(report, file) if file else report


def _running(config: Config) -> str | None:
    """The agent that works on the config's store now."""
    import time

    from agent.commands.common import running_agent
    from agent.store.schema import open_store

    database = open_store(config.store_url, password=config.store_password)
    try:
        agent = running_agent(database, time.time())
    finally:
        database.close()
    return f"http://{agent.listen}" if agent is not None else None
