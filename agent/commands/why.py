"""`mailcanary why ROUTE`: one route's timeline."""

from __future__ import annotations

import argparse
from typing import Any

NAME = "why"
HELP = "one route's timeline: canaries, verdicts, evidence, listings, alerts"
DESCRIPTION = """\
Shows what happened on one route, newest first.

example:
  mailcanary why app/gmail-1
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The route, how far back, --json."""
    from agent.commands.common import add_json

    parser.add_argument("route", metavar="ROUTE", help="SENDER/SEED")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="canaries to show (20)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the timeline. Exit code 2 where there is no such route."""
    from agent.commands.common import load_config, open_existing, print_json
    from agent.reports.why import read_why
    from probes.clock import rfc3339
    from probes.errors import ConfigError

    config = load_config(args)
    sender, _, seed = args.route.partition("/")
    if not any(route.name == args.route for route in config.routes_resolved):
        known = ", ".join(route.name for route in config.routes_resolved[:10])
        raise ConfigError(f"there is no route {args.route!r}; there are: {known}")
    database = open_existing(config)
    try:
        events = database.read_now(lambda conn: read_why(conn, sender, seed, args.limit))
    finally:
        database.close()
    for event in events:
        if args.format == "json":
            print_json({"schema": "mailcanary.event/1", **event, "at": rfc3339(event["at"])})
        else:
            _show(event)
    if not events and args.format == "text":
        print("no canary has been sent on this route yet")
    return 0


def _show(event: dict[str, Any]) -> None:
    from rich.markup import escape

    from agent.commands.common import console
    from agent.commands.status import COLOURS
    from agent.forms.cells import clean
    from probes.clock import rfc3339

    out = console()
    at = rfc3339(event["at"])
    if event["kind"] != "canary":
        text = event.get("title") or f"{event.get('subject')} {event.get('zone')}"
        out.print(f"{at}  [bold]{event['kind']}[/] {escape(clean(text))}")
        return
    canary = event["canary"]
    colour = COLOURS.get(canary["outcome"] or "", "dim")
    where = canary["placement"] or canary["state"]
    latency = f" after {canary['latency_seconds']:.2f} s" if canary["latency_seconds"] is not None else ""
    late = " (late)" if canary["late"] else ""
    reason = f" {canary['reason']}" if canary["reason"] and canary["reason"] != where else ""
    out.print(f"{at}  [{colour}]{where}[/]{escape(clean(reason))}{late}{latency}")
    verdicts = " ".join(f"{method}={result}" for method, result in canary["authentication"].items())
    if verdicts:
        out.print(f"    {escape(clean(verdicts))}")
    for item in canary["evidence"]:
        out.print(f"    {escape(item['kind'])}: {escape(clean(item['text']))}")
