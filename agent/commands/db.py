"""`mailcanary db`: the store."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import ExitStack

    from agent.config.models import Config
    from agent.store.database import Database

NAME = "db"
HELP = "the store: upgrade its schema, copy it to PostgreSQL, back it up"
DESCRIPTION = """\
The store.

examples:
  mailcanary db upgrade            bring the schema up to date; agents may go on working on PostgreSQL
  mailcanary db downgrade REVISION take it back, for an older program
  mailcanary db copy sqlite:///mailcanary.db postgresql://mailcanary@db/mailcanary
                                   move the history to PostgreSQL; broken off, call it again
  mailcanary db backup FILE        copy a SQLite store while the agent runs
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    up = actions.add_parser("upgrade", help="bring the schema up to date")
    up.add_argument("--revision", default="head", help="as far as that; the newest if left out")
    down = actions.add_parser("downgrade", help="take the schema back to a revision")
    down.add_argument("revision")
    copy = actions.add_parser("copy", help="move the history of a SQLite store to PostgreSQL")
    copy.add_argument("source", metavar="FROM", help="sqlite:///PATH; no agent may work on it")
    copy.add_argument("target", metavar="TO", help="postgresql://USER@HOST/DATABASE, new or half copied")
    backup = actions.add_parser("backup", help="copy a SQLite store while the agent runs")
    backup.add_argument("file", metavar="FILE", help="where to; never overwritten, mode 0600")


def run(args: argparse.Namespace) -> int:
    """Does it and says what was done."""
    from agent.commands.common import load_config

    actions: dict[str, Callable[[Config, argparse.Namespace], None]] = {
        "backup": _backup,
        "copy": _copy,
        "upgrade": _migrate,
        "downgrade": _migrate,
    }
    actions[args.action](load_config(args), args)
    return 0


def _backup(config: Config, args: argparse.Namespace) -> None:
    from pathlib import Path

    from agent.store import schema

    size = schema.backup(config.store_url, Path(args.file))
    print(f"{args.file}: {size} bytes")


def _migrate(config: Config, args: argparse.Namespace) -> None:
    from agent.store import schema
    from agent.store.database import Database

    database = Database(config.store_url, password=config.store_password)
    try:
        work = schema.upgrade if args.action == "upgrade" else schema.downgrade
        work(database.engine, args.revision)
        print(f"the schema is at {schema.current(database.engine)}")
    finally:
        database.close()


def _copy(config: Config, args: argparse.Namespace) -> None:
    from contextlib import ExitStack

    with ExitStack() as stack:
        source = _opened(stack, config, args.source)
        target = _opened(stack, config, args.target)
        _copied(source, target)


def _opened(stack: ExitStack, config: Config, url: str) -> Database:
    """One side of a copy. The config's password goes with PostgreSQL; without one libpq's own means count."""
    from pathlib import Path

    import sqlalchemy as sa

    from agent.store import schema
    from probes.errors import StoreError

    file = sa.make_url(url).database if url.startswith("sqlite") else None
    if file is not None and not Path(file).exists():
        raise StoreError(f"there is no store at {file}")
    password = config.store_password if file is None else None
    schema.make(url, password=password)
    database = schema.open_store(url, password=password)
    stack.callback(database.close)
    return database


def _copied(source: Database, target: Database) -> None:
    import time

    from agent.store.copy import copy

    def progress(table: str, done: int, total: int) -> None:
        if total:
            sys.stderr.write(f"{table}: {done} of {total} rows\n")

    found = copy(source, target, time.time(), progress)
    print(f"{'TABLE':<16}{'ROWS':>12}  CHECKSUM, THE SAME ON BOTH SIDES")
    for one in found:
        print(f"{one.table:<16}{one.rows:>12}  {one.checksum}")
    print(f"{sum(one.rows for one in found)} rows copied; the source is as it was")
