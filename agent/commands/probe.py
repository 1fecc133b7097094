"""`mailcanary probe`: one round now."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.config.models import Config

NAME = "probe"
HELP = "one round now: did we break mail?"
DESCRIPTION = """\
Sends one canary on each route now, waits until each has its verdict, and prints
a table. Goes through the running agent where there is one (it holds the
mailboxes and keeps its schedule), and works alone where there is none.

examples:
  mailcanary probe
  mailcanary probe --sender app --seed gmail-1 --json

exit code: 0 pass, 1 fail, 2 usage or config, 3 could not tell
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Which routes, which form."""
    from agent.commands.common import add_json

    parser.add_argument("--sender", action="append", default=[], metavar="NAME", help="only this sender")
    parser.add_argument("--seed", action="append", default=[], metavar="NAME", help="only this seed")
    parser.add_argument(
        "--provider", action="append", default=[], metavar="NAME", help="only this provider's seeds"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the round; the exit code is its outcome."""
    import asyncio
    import time

    from agent.commands.common import load_config, running_agent
    from agent.logs import configure as configure_logs
    from agent.store.schema import open_store
    from probes.outcome import Outcome

    config = load_config(args, require_secrets=True)
    configure_logs(config.agent.log_format, "warning")
    seeds = _seeds(config, args)
    database = open_store(config.store_url)
    try:
        agent = running_agent(database, time.time())
    finally:
        database.close()
    if agent is not None:
        report = asyncio.run(_through(config, f"http://{agent['listen']}", args.sender, seeds, args.format))
    else:
        report = asyncio.run(_alone(config, args.sender, seeds, args.format))
    _print(report, args.format)
    return Outcome(report["outcome"] or "unknown").exit_code


def _seeds(config: Config, args: argparse.Namespace) -> list[str]:
    from probes.errors import ConfigError

    found = list(args.seed)
    for provider in args.provider:
        mine = [name for name, seed in config.seeds.items() if seed.provider == provider]
        if not mine:
            raise ConfigError(f"no seed has the provider {provider!r}")
        found += mine
    return list(dict.fromkeys(found))


async def _through(
    config: Config, base: str, senders: list[str], seeds: list[str], form: str
) -> dict[str, Any]:
    from agent.commands.client import request

    token = config.agent.token.reveal() if config.agent.token else None
    started = await request(f"{base}/api/v1/probes", "POST", token, {"senders": senders, "seeds": seeds})
    with _Progress(form) as progress:
        while True:
            report = await request(f"{base}/api/v1/probes/{started['id']}?wait=2", "GET", token)
            progress.show(report)
            if report["done"]:
                return report


async def _alone(config: Config, senders: list[str], seeds: list[str], form: str) -> dict[str, Any]:
    from agent.app import open_app
    from probes.errors import ConfigError, DataError

    app = await open_app(config, scheduled=False)
    try:
        await app.start()
        try:
            round_id = await app.rounds.start(senders, seeds)
        except DataError as error:
            raise ConfigError(error.detail) from None
        with _Progress(form) as progress:
            while True:
                report = await app.rounds.wait(round_id, 2.0)
                assert report is not None
                progress.show(report)
                if report["done"]:
                    return report
    finally:
        await app.close()


class _Progress:
    """One line on the terminal while the round goes on; nothing elsewhere."""

    def __init__(self, form: str) -> None:
        from agent.commands.common import console

        self._console = console(stderr=True)
        self._on = form == "text" and self._console.is_terminal
        self._status = self._console.status("sending") if self._on else None

    def __enter__(self) -> _Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def show(self, report: dict[str, Any]) -> None:
        """Says how far the round is and what it waits for."""
        if self._status is None:
            return
        canaries = report["canaries"]
        waiting = [c for c in canaries if c["outcome"] is None]
        settled = len(canaries) - len(waiting)
        what = (
            f", waiting for {waiting[0]['sender']}/{waiting[0]['seed']} ({waiting[0]['state']})"
            if waiting
            else ""
        )
        self._status.update(f"{settled} of {report['routes']} routes judged{what}")


def _print(report: dict[str, Any], form: str) -> None:
    from agent.commands.common import print_json

    if form == "json":
        print_json(report)
        return
    from rich.table import Table
    from rich.text import Text

    from agent.commands.common import console
    from agent.commands.status import COLOURS

    table = Table()
    for column in ("route", "outcome", "placement", "latency", "authentication", "why"):
        table.add_column(column)
    for canary in report["canaries"]:
        outcome = canary["outcome"] or "unknown"
        latency = canary["latency_seconds"]
        table.add_row(
            Text(f"{canary['sender']}/{canary['seed']}"),
            Text(outcome, style=COLOURS[outcome]),
            Text(canary["placement"] or canary["state"]),
            Text(f"{latency:.2f} s" if latency is not None else ""),
            Text(" ".join(f"{m}={r}" for m, r in canary["authentication"].items())),
            Text(_why(canary)),
        )
    for route, reason in report["held"].items():
        table.add_row(route, Text("unknown", style=COLOURS["unknown"]), "", "", "", f"not sent: {reason}")
    out = console()
    out.print(table)
    outcome = report["outcome"] or "unknown"
    out.print(f"[bold {COLOURS[outcome]}]{outcome}[/]")


def _why(canary: dict[str, Any]) -> str:
    if canary["outcome"] == "pass":
        return ""
    texts = [item["text"] for item in canary["evidence"]]
    return "; ".join([canary["reason"], *texts[-2:]]).strip("; ")
