"""`mailcanary probe`: one round now."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.asking import Ask
    from agent.config.models import Config

NAME = "probe"
HELP = "one round now: did we break mail?"
DESCRIPTION = """\
Sends one canary on each route now, waits until each has its verdict, and says
whether mail was broken: no, yes (what, where, why), or could not tell. Goes
through the running agent where there is one (it holds the mailboxes and keeps
its schedule), and works alone where there is none.

With --baseline the round is compared: placement, SPF, DKIM, DMARC, TLS, path,
spam score, latency, listings, records. What is deterministic (authentication,
records, listings, a refusal, a bounce) decides from one canary. A claim about
the inbox *rate* needs --count: a sequential test tells 95 percent or more from
80 percent or less, stops as soon as it may, and says when it may not.

examples:
  mailcanary probe
  mailcanary probe --sender app --seed gmail-1 --baseline last-good --json
  mailcanary probe --count 40 --deadline 10m
  mailcanary probe --format junit --output mailcanary.xml --key "$CI_PIPELINE_ID"
  mailcanary probe --agent https://canary.acme.example --token-file token
  mailcanary probe --dry-run                 config, DNS and logins; sends nothing

The same --key is the same round: a command that was killed goes on with it.

exit code: 0 pass, 1 fail, 2 usage or config, 3 could not tell
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Which routes, compared with what, told how."""
    from agent.commands.common import add_json
    from agent.forms import FORMS

    add_routes(parser)
    parser.add_argument("--count", type=int, default=1, metavar="N", help="canaries a route, at most")
    parser.add_argument(
        "--baseline",
        default="",
        metavar="WHAT",
        help="last-good, 24h, the id of a round, or a file that --format json wrote",
    )
    parser.add_argument("--key", default="", metavar="TEXT", help="the same key is the same round")
    parser.add_argument("--output", metavar="FILE", help="write the report there")
    parser.add_argument("--agent", metavar="URL", help="the agent to ask, where it is not on this machine")
    parser.add_argument("--token-file", metavar="FILE", help="its token; else $MAILCANARY_TOKEN")
    parser.add_argument("--dry-run", action="store_true", help="look at config, DNS and logins; send nothing")
    add_json(parser, FORMS)


def add_routes(parser: argparse.ArgumentParser) -> None:
    """The options that name routes."""
    parser.add_argument("--sender", action="append", default=[], metavar="NAME", help="only this sender")
    parser.add_argument("--seed", action="append", default=[], metavar="NAME", help="only this seed")
    parser.add_argument(
        "--provider", action="append", default=[], metavar="NAME", help="only this provider's seeds"
    )
    parser.add_argument(
        "--deadline", default="", metavar="10m", help="not seen by then: missing. Left out: the routes' own"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the round; the exit code is its outcome."""
    from agent.asking import run_round
    from agent.commands.common import load_config
    from agent.logs import configure as configure_logs
    from probes.outcome import Outcome

    check_output(args.output)
    config = None if args.agent and not args.dry_run else load_config(args, require_secrets=True)
    configure_logs(config.agent.log_format if config else "auto", "warning")
    ask = asked(args)
    if args.dry_run:
        assert config is not None
        return _dry_run(config, ask, args.format)
    with Progress(args.format == "text") as progress:
        report = run_round(config, ask, progress.show, args.agent, args.token_file)
    tell(report, args.format, args.output)
    return Outcome(report["outcome"] or "unknown").exit_code


def asked(args: argparse.Namespace, **more: Any) -> Ask:
    """The round as the arguments name it."""
    from agent.asking import Ask

    return Ask(
        senders=tuple(args.sender),
        seeds=tuple(args.seed),
        providers=tuple(args.provider),
        deadline=args.deadline,
        count=getattr(args, "count", 1),
        **{"baseline": getattr(args, "baseline", ""), "key": getattr(args, "key", ""), **more},
    )


def check_output(output: str | None) -> None:
    """Raises ConfigError where no report can be written: told before mail is sent, not after."""
    import os

    from probes.errors import ConfigError

    if not output:
        return
    path = Path(output)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--output {output}: no file can be written there")


def tell(report: Mapping[str, Any], form: str, output: str | None) -> None:
    """Prints the report, or writes it to a file. Raises ConfigError where it cannot be written."""
    import io
    import sys

    from agent.commands.common import console
    from agent.forms import render
    from agent.forms.text import draw
    from probes.errors import ConfigError

    if form == "text" and not output:
        draw(report, console())
        return
    if form == "text":
        from rich.console import Console

        kept = io.StringIO()
        draw(report, Console(file=kept, highlight=False, soft_wrap=True, width=160))
        text = kept.getvalue()
    else:
        text = render(report, form)
    if not output:
        sys.stdout.write(text)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--output {output}: {error.strerror or error}") from None
    from agent.forms.cells import headline

    sys.stderr.write(f"{headline(report)}\n")


class Progress:
    """Live lines on a terminal while the round goes on; nothing elsewhere."""

    def __init__(self, wanted: bool) -> None:
        from rich.live import Live

        from agent.commands.common import console

        out = console(stderr=True)
        self._live = Live(console=out, transient=True) if wanted and out.is_terminal else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, report: Mapping[str, Any]) -> None:
        """One line a route: elapsed, what is left, and why it waits."""
        if self._live:
            self._live.update(progress_table(report))


def progress_table(report: Mapping[str, Any]) -> Any:
    """The lines of a running round."""
    from rich.table import Table
    from rich.text import Text

    from agent.forms.cells import clean

    progress = report["progress"]
    table = Table(box=None, pad_edge=False, title=None)
    for column in (f"{progress['elapsed_seconds']:.0f} s", "judged", "left", "waits for"):
        table.add_column(column, no_wrap=True)
    for line in progress["routes"]:
        left = line["eta_seconds"]
        table.add_row(
            Text(line["route"]),
            Text(f"{line['settled']}/{line['wanted']}"),
            Text(f"{left:.0f} s" if left else ""),
            Text(clean(line["waits"] or line["state"])),
        )
    return table


def _dry_run(config: Config, ask: Ask, form: str) -> int:
    """Looks at everything the round needs and says what would be sent."""
    import asyncio
    from dataclasses import replace

    from agent.commands.common import print_json
    from agent.live import look
    from agent.runner.rounds import choose
    from agent.web.probes import read_order
    from probes.errors import ConfigError, DataError
    from probes.outcome import combine

    try:
        order = read_order(replace(ask, baseline="").body, None)
        routes = choose(config, order)
    except DataError as error:
        raise ConfigError(error.detail) from None
    named = {f"seed {route.seed}" for route in routes} | {f"sender {route.sender}" for route in routes}
    findings = [f for f in asyncio.run(look(config)) if not _other(f.what, named)]
    outcome = combine(finding.outcome for finding in findings)
    sent = [
        {"route": r.name, "to": config.seeds[r.seed].address, "from": config.senders[r.sender].from_}
        | {"canaries": ask.count, "deadline_seconds": order.deadline or r.deadline}
        for r in routes
    ]
    if form != "text":
        looks = [{"what": f.what, "outcome": f.outcome.value, "text": f.text} for f in findings]
        print_json(
            {"schema": "mailcanary.dry-run/1", "outcome": outcome.value, "looks": looks, "would_send": sent}
        )
        return outcome.exit_code
    for finding in findings:
        print(f"{finding.outcome.value:8} {finding.what:28} {finding.text}")
    for one in sent:
        print(f"would send {one['canaries']} on {one['route']}: {one['from']} to {one['to']}")
    print(f"{outcome.value}: nothing was sent")
    return outcome.exit_code


def _other(what: str, named: set[str]) -> bool:
    """Whether a look is at a seed or sender that this round has nothing to do with."""
    return what.startswith(("seed ", "sender ")) and "(" not in what and what not in named
