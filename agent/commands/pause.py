"""`mailcanary pause`: the kill switch for sending."""

from __future__ import annotations

import argparse

NAME = "pause"
HELP = "stop all sending at once; reading goes on"
DESCRIPTION = """\
Stops all sending at once, in the running agent and after any restart, until
`mailcanary resume`. What is under way is still read back and judged.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(args: argparse.Namespace) -> int:
    """Sets the switch."""
    return switch(args, paused=True)


def switch(args: argparse.Namespace, *, paused: bool) -> int:
    """Writes the switch into the store, where every send looks before it begins."""
    from agent.commands.common import load_config
    from agent.store import rows
    from agent.store.schema import open_store

    config = load_config(args)
    database = open_store(config.store_url, password=config.store_password)
    try:
        database.write_now(lambda tx: rows.set_setting(tx.conn, rows.PAUSED, paused))
    finally:
        database.close()
    print("sending is paused" if paused else "sending goes on")
    return 0
