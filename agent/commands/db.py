"""`mailcanary db`: the store."""

from __future__ import annotations

import argparse

NAME = "db"
HELP = "the store: upgrade its schema, back it up"
DESCRIPTION = """\
The store.

examples:
  mailcanary db upgrade            bring the schema up to date
  mailcanary db downgrade REVISION take it back, for an older program
  mailcanary db backup FILE        copy a SQLite store while the agent runs
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("upgrade", help="bring the schema up to date")
    down = actions.add_parser("downgrade", help="take the schema back to a revision")
    down.add_argument("revision")
    backup = actions.add_parser("backup", help="copy a SQLite store while the agent runs")
    backup.add_argument("file", metavar="FILE", help="where to; never overwritten, mode 0600")


def run(args: argparse.Namespace) -> int:
    """Does it and says what was done."""
    from pathlib import Path

    from agent.commands.common import load_config
    from agent.store import schema
    from agent.store.database import Database

    config = load_config(args)
    if args.action == "backup":
        size = schema.backup(config.store_url, Path(args.file))
        print(f"{args.file}: {size} bytes")
        return 0
    database = Database(config.store_url, password=config.store_password)
    try:
        if args.action == "upgrade":
            schema.upgrade(database.engine)
        else:
            schema.downgrade(database.engine, args.revision)
        print(f"the schema is at {schema.current(database.engine)}")
    finally:
        database.close()
    return 0
