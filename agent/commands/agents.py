"""`mailcanary agents`: who works on the store."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from agent.config.models import Config
    from agent.reports.agents import AgentStatus

NAME = "agents"
HELP = "the agents of the fleet: who is there, what each holds"
DESCRIPTION = """\
Lists the agents that work on the store: version, region, what each holds, how late
its loop was, its last heartbeat, the config it runs. Reads the store: works whether
an agent runs or not.

An agent that went without a goodbye stays in the list as lost, and is an alert, until
one answers at the same address again or it is forgotten:
  mailcanary agents forget 10.0.0.7:9465

exit code: 0 all work, 1 none does, 3 one is silent, lost, or on another config
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """--json, and its own sub-command."""
    from agent.commands.common import add_json

    add_json(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    forget = actions.add_parser("forget", help="an agent that was lost is not to come back")
    forget.add_argument("agent", metavar="HOST:PORT", help="as the list shows it")


def run(args: argparse.Namespace) -> int:
    """Lists, or forgets."""
    from agent.commands.common import load_config, print_json

    config = load_config(args)
    if args.action == "forget":
        return _forget(config, args.agent)
    found = _read(config)
    if args.format == "json":
        print_json({"schema": "mailcanary.agents/1", "agents": [one.to_json() for one in found]})
    else:
        _show(found)
    return _exit_code(found)


def _read(config: Config) -> list[AgentStatus]:
    from agent.commands.common import open_existing
    from agent.reports.agents import read_agents
    from agent.store import versions
    from agent.store.clock import read_now

    database = open_existing(config)
    try:
        return database.read_now(lambda conn: read_agents(conn, read_now(conn), versions.active_hash(conn)))
    finally:
        database.close()


def _exit_code(found: list[AgentStatus]) -> int:
    if not any(one.state == "working" for one in found):
        return 1
    return 0 if all(one.current and one.state in ("working", "draining", "visiting") for one in found) else 3


def _show(found: list[AgentStatus]) -> None:
    from rich.markup import escape

    from agent.commands.common import console
    from agent.forms.cells import clean

    out = console()
    if not found:
        out.print("[yellow]No agent works on this store; start one with `mailcanary run`.[/]")
        return
    out.print(_table(found))
    for one in found:
        if one.member.detail:
            out.print(f"[yellow]{escape(one.member.place)}[/] {escape(clean(one.member.detail))}")


def _table(found: list[AgentStatus]) -> Table:
    from rich.table import Table

    table = Table()
    columns = ("agent", "state", "region", "version", "holds", "lag", "last heartbeat", "config")
    for name in columns:  # folded, never cut: `agents forget` wants the whole place
        table.add_column(name, overflow="fold", no_wrap=name == "agent")
    for one in found:
        member = one.member
        holds = ", ".join(f"{count} {kind}" for kind, count in sorted(one.held.items())) or "-"
        table.add_row(
            member.place or "-",
            one.state,
            member.region or "-",
            member.version,
            holds,
            f"{member.lag:.2f} s",
            f"{one.silence:.0f} s ago",
            member.config_hash[:8] + ("" if one.current else " (other)"),
        )
    return table


def _forget(config: Config, place: str) -> int:
    from agent.commands.common import open_existing
    from agent.fleet.membership import back
    from agent.store import members, rows
    from agent.store.clock import read_now
    from agent.store.database import Tx
    from probes.errors import ConfigError

    def forget(tx: Tx) -> bool:
        if not members.forget(tx.conn, place):
            return False
        now = read_now(tx.conn)
        rows.observe(tx, now, "own", back(place, now))
        return True

    database = open_existing(config)
    try:
        if not database.write_now(forget):
            raise ConfigError(f"no agent was lost at {place!r}; `mailcanary agents` lists them")
    finally:
        database.close()
    print(f"{place} is forgotten")
    return 0
