"""`mailcanary status`: is it us or everyone?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from agent.reports.status import Status

NAME = "status"
HELP = "is it us or everyone, at a glance"
DESCRIPTION = """\
Shows the newest verdict of every route, what fires, what is listed, and what
the agent itself cannot do. Reads the store: works whether the agent runs or not.

exit code: 0 all pass, 1 something fails, 3 could not tell
"""

COLOURS = {"pass": "green", "fail": "red", "unknown": "yellow"}


def configure(parser: argparse.ArgumentParser) -> None:
    """--json."""
    from agent.commands.common import add_json

    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the status; the exit code is its outcome."""
    import time

    from agent.commands.common import load_config, open_existing, print_json
    from agent.reports.status import read_status

    config = load_config(args)
    database = open_existing(config)
    try:
        now = time.time()
        status = database.read_now(lambda conn: read_status(conn, config, now))
    finally:
        database.close()
    if args.format == "json":
        print_json(status.to_json())
    else:
        show(status)
    return status.outcome.exit_code


def show(status: Status) -> None:
    """The status for people."""
    from rich.markup import escape

    from agent.commands.common import console
    from agent.forms.cells import clean
    from agent.reports.status import sweep_line

    out = console()
    colour = COLOURS[status.outcome.value]
    out.print(f"[bold {colour}]{escape(status.summary)}[/]")
    if not status.agents:
        out.print("[yellow]No agent runs on this store: what follows is as it was left.[/]")
    if status.paused:
        out.print("[yellow]Sending is paused; `mailcanary resume` ends that.[/]")
    for alert in status.alerts:
        by = f"acknowledged by {alert['acknowledged_by']}" if alert["acknowledged_by"] else ""
        state = "".join(f", {word}" for word in (by, alert["muted"]) if word)
        colour = "yellow" if alert["muted"] else "red"
        words = escape(clean(f"{alert['title']} (since {alert['since']}{state})"))
        out.print(f"[{colour}]{alert['severity']}[/] {words}")
    for row in status.listings:
        said = f"; resolvers disagree: {row['disagreement']}" if row["disagreement"] else ""
        words = f"{row['subject']} in {row['zone']} since {row['since']}{said}"
        out.print(f"[red]listed[/] {escape(clean(words))}")
    for name, text in status.faults.items():
        out.print(f"[yellow]ours[/] {escape(name)}: {escape(clean(text))}")
    if status.sweep is not None:
        out.print(escape(sweep_line(status.sweep)), style="dim")
    out.print(table(status))


def table(status: Status) -> Table:
    """The matrix: a row a sender, a column a seed."""
    from rich.table import Table
    from rich.text import Text

    from agent.forms.cells import clean

    cells = {(route.sender, route.seed): route for route in status.routes}
    senders = list(dict.fromkeys(route.sender for route in status.routes))
    seeds = list(dict.fromkeys((route.seed, route.provider) for route in status.routes))
    found = Table()
    found.add_column("")
    for seed, provider in seeds:
        found.add_column(f"{seed}\n{provider}")
    for sender in senders:
        line: list[Text] = [Text(sender, style="bold")]
        for seed, _ in seeds:
            route = cells.get((sender, seed))
            if route is None:
                line.append(Text(""))
            elif route.outcome is None:
                line.append(Text("waiting", style="dim"))
            else:
                latency = f" {route.latency:.1f} s" if route.latency is not None else ""
                reason = f"\n{route.reason}" if route.reason and route.reason != route.placement else ""
                window = "\nin maintenance" if route.maintenance else ""
                words = route.placement + latency + reason + window
                line.append(Text(clean(words), style=COLOURS[route.outcome.value]))
        found.add_row(*line)
    return found
