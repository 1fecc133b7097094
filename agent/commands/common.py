"""What commands share: the config file, the store, the running agent, output."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from probes.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from agent.config.models import Config
    from agent.store.database import Database
    from agent.store.members import Member

DEFAULT_CONFIG = "mailcanary.yaml"


def config_path(args: argparse.Namespace) -> str:
    """The config file's path: --config, $MAILCANARY_CONFIG, or mailcanary.yaml here. Raises ConfigError."""
    if args.config:
        return str(args.config)
    if Path(DEFAULT_CONFIG).exists():
        return DEFAULT_CONFIG
    raise ConfigError(f"no config: give --config FILE, set MAILCANARY_CONFIG, or write ./{DEFAULT_CONFIG}")


def load_config(
    args: argparse.Namespace, *, require_secrets: bool = False, own: Mapping[str, str] | None = None
) -> Config:
    """The config, or ConfigError with every problem. own: settings of this agent instead of the file's."""
    from agent.config.load import load

    return load(config_path(args), require_secrets=require_secrets, own=own)


def open_existing(config: Config) -> Database:
    """The store of an agent that has run before. Raises StoreError where there is none yet."""
    import sqlalchemy as sa

    from agent.store.schema import open_store

    url = sa.make_url(config.store_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise StoreError(f"there is no store at {url.database} yet: run the agent first (mailcanary run)")
    return open_store(config.store_url, password=config.store_password)


def running_agent(database: Database, now: float) -> Member | None:
    """An agent that works on the store now and answers, from its heartbeat."""
    from agent.reports.status import agents_now

    found = database.read_now(lambda conn: agents_now(conn, now))
    return next((agent for agent in found if agent.listen), None)


def print_json(data: object) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")


def console(*, stderr: bool = False) -> Console:
    """A console that colours only on a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=True)


def add_json(parser: argparse.ArgumentParser, forms: Sequence[str] = ("text", "json")) -> None:
    """--json and --format."""
    told = f"{', '.join(forms[:-1])} or {forms[-1]}; text if left out"
    parser.add_argument("--format", choices=forms, default="text", help=told)
    parser.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        default=argparse.SUPPRESS,
        help="short for --format json",
    )
