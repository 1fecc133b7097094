"""`mailcanary check-config`: is the file right, and how much would it send?"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.config.models import Config
    from agent.config.plan import Load, Plan
    from agent.config.problems import Problem

NAME = "check-config"
HELP = "check the config file, and show what it would send"
DESCRIPTION = """\
Reads the config file and tells everything that is wrong with it, each at its line and column, with what would
be right. Nothing is sent and nobody is asked: secrets that are not there yet are warnings.

  mailcanary check-config mailcanary.yaml          the file, and its canaries a day per seed
  mailcanary check-config --live mailcanary.yaml   also logins, folders and DNS, really tried
  mailcanary check-config --json mailcanary.yaml   for scripts: one JSON object

Exit code: 0 the file is right, 2 it is not; with --live also 1 something failed, 3 could not be told.
"""
DEFAULT_FILE = "mailcanary.yaml"
SCHEMA = "mailcanary.check-config/1"


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of the command."""
    parser.add_argument("file", nargs="?", metavar="FILE", help="config file; by default that of --config")
    parser.add_argument("--live", action="store_true", help="also try logins, folders and DNS")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Checks the file. Exit code 0 or 2; with --live that of the live checks."""
    from agent.config.load import load
    from agent.config.plan import make_plan
    from agent.config.problems import ConfigInvalid

    path = args.file or args.config or DEFAULT_FILE
    try:
        config = load(path, require_secrets=args.live)
    except ConfigInvalid as error:
        _tell_wrong(path, error.problems, args.json)
        return 2
    _tell_right(config, make_plan(config), args.json)
    if not args.live:
        return 0
    code: int = importlib.import_module("agent.live").live(config)
    return code


def _tell_wrong(path: str, problems: tuple[Problem, ...], as_json: bool) -> None:
    if as_json:
        _json({"ok": False, "file": path, "problems": _all(problems), "warnings": [], "plan": None})
        return
    lines = [str(problem) for problem in problems]
    count = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    sys.stderr.write("\n".join([*lines, f"{path}: {count}"]) + "\n")


def _tell_right(config: Config, plan: Plan, as_json: bool) -> None:
    if as_json:
        whole = {"seeds": _loads(plan.seeds), "providers": _loads(plan.providers), "per_day": plan.per_day}
        about: dict[str, Any] = {"ok": True, "file": str(config.path), "hash": config.hash, "problems": []}
        _json({**about, "warnings": _all(config.warnings), "plan": whole})
        return
    sys.stderr.write("".join(f"warning: {warning}\n" for warning in config.warnings))
    sys.stdout.write(f"OK {config.path}: {_summary(config, plan)}\n{_table(plan)}")


def _json(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"schema": SCHEMA, **data}) + "\n")


def _all(problems: Iterable[Problem]) -> list[dict[str, object]]:
    return [problem.as_json() for problem in problems]


def _loads(loads: Iterable[Load]) -> list[dict[str, object]]:
    return [
        {
            "name": load.name,
            "provider": load.provider,
            "routes": load.routes,
            "canaries": load.canaries,
            "cap": load.cap,
        }
        for load in loads
    ]


def _summary(config: Config, plan: Plan) -> str:
    counts = [
        (len(config.senders), "sender"),
        (len(config.seeds), "seed"),
        (len(config.routes_resolved), "route"),
    ]
    words = ", ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts)
    return f"{words}, {plan.per_day:.4g} canaries a day"


def _table(plan: Plan) -> str:
    if not plan.seeds:
        return ""
    rows = [("SEED", "PROVIDER", "ROUTES", "A DAY", "CAP")]
    for load in plan.seeds:
        cap = "-" if load.cap is None else f"{load.cap:g}"
        rows.append((load.name, load.provider, str(load.routes), f"{load.canaries:.4g}", cap))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(_row(row, widths) for row in rows)


def _row(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.ljust(width) if column < 2 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  " + "  ".join(cells).rstrip() + "\n"
