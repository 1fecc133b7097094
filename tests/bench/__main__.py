"""`make bench`: one table, every row a ratio beside its goal; exit code 1 where one is missed.

python -m tests.bench [GROUP ...]    the groups are those of GROUPS below
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.row import BenchRow

GROUPS = {
    "probe": ("probe", "probe_send"),
    "store": ("store", "store_postgres"),
    "headers": ("headers", "authentication", "agreement"),
    "mailboxes": ("mailboxes",),
    "blocklists": ("blocklists",),
    "alerts": ("alerts",),
    "metrics": ("metrics",),
    "change": ("change",),
    "fleet": ("fleet",),
}


def main(names: Sequence[str]) -> int:
    """Runs the groups (all of them where none is named) and prints the table."""
    wrong = [name for name in names if name not in GROUPS]
    if wrong:
        sys.stderr.write(f"no group {', '.join(wrong)}; there are: {', '.join(GROUPS)}\n")
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    table = Table(title="mailcanary bench")
    for column in ("group", "what", "ours", "peer", "ratio", "goal", ""):
        table.add_column(column)
    missed = 0
    for group in names or GROUPS:
        for row in _rows(group, console):
            missed += row.ok is False
            table.add_row(group, row.name, *_cells(row))
    console.print(table)
    return 1 if missed else 0


def _rows(group: str, console: Console) -> list[BenchRow]:
    found: list[BenchRow] = []
    for module in GROUPS[group]:
        with console.status(f"measuring {group}: {module}"):
            found += importlib.import_module(f"tests.bench.{module}").rows()
    return found


def _cells(row: BenchRow) -> tuple[str, str, str, str, str]:
    peer = f"{row.peer:.4g} {row.unit} ({row.peer_name})" if row.peer is not None else row.peer_name
    ratio = f"{row.ratio:.4g}" if row.ratio is not None else "-"
    goal = f"{row.goal:.4g}" if row.goal is not None else "-"
    unjudged = "not measured" if row.goal is not None else ""
    verdict = {True: "met", False: "MISSED", None: unjudged}[row.ok]
    return f"{row.figure:.4g} {row.unit}", peer, ratio, goal, verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
