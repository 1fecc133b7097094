"""`mailcanary seeds`: the seed mailboxes."""

from __future__ import annotations

import argparse

NAME = "seeds"
HELP = "the seed mailboxes: list them, retry a refused login"
DESCRIPTION = """\
The seed mailboxes and whether they can be read.

After three refused logins the agent leaves a mailbox alone for an hour, so that
the provider does not lock it. Once the password is right:
  mailcanary seeds retry gmail-1

examples:
  mailcanary seeds list
  mailcanary seeds retry gmail-1
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own sub-commands."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="each seed and its state")
    retry = actions.add_parser("retry", help="try a mailbox again at once")
    retry.add_argument("seed", metavar="SEED")


def run(args: argparse.Namespace) -> int:
    """Lists, or asks the running agent to try again."""
    from agent.commands.common import load_config, open_existing
    from agent.forms.cells import clean
    from agent.store import rows
    from probes.clock import rfc3339
    from probes.errors import ConfigError

    config = load_config(args)
    if args.action == "retry":
        if args.seed not in config.seeds:
            raise ConfigError(f"there is no seed {args.seed!r}; there are: {', '.join(config.seeds)}")
        return _retry(args, args.seed)
    database = open_existing(config)
    try:
        known = database.read_now(rows.mailbox_rows)
    finally:
        database.close()
    good = True
    for name, seed in config.seeds.items():
        row = known.get(name)
        readable = bool(row and row["readable"])
        good = good and readable
        state = "readable" if readable else (f"{row['reason']} {row['detail']}" if row else "never read")
        scanned = rfc3339(row["scanned_at"]) if row and row["scanned_at"] else "never"
        print(clean(f"{name:20} {seed.provider:12} {state.strip()}, last full scan {scanned}"))
    return 0 if good else 3


def _retry(args: argparse.Namespace, seed: str) -> int:
    from agent.commands.client import call
    from agent.commands.common import load_config

    call(load_config(args), "POST", f"/api/v1/seeds/{seed}/retry", {})
    print(f"{seed}: the agent tries again now")
    return 0
