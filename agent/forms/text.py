"""The report on a terminal: a table, what changed in words, the header diffs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agent.forms.cells import around, clean, headline, notes, rows

if TYPE_CHECKING:
    from rich.console import Console


def draw(report: Mapping[str, Any], out: Console) -> None:
    """Prints the report."""
    from rich.table import Table
    from rich.text import Text

    from agent.commands.status import COLOURS

    table = Table()
    for column in ("route", "outcome", "placement", "latency", "authentication", "what"):
        table.add_column(column)
    for row in rows(report):
        table.add_row(
            Text(row.route),
            Text(row.outcome, style=COLOURS[row.outcome]),
            Text(clean(row.placement)),
            Text(f"{row.latency:.2f} s" if row.latency is not None else ""),
            Text(clean(row.authentication)),
            Text(clean(row.words)),
        )
    out.print(table)
    for verdict in around(report):
        out.print(Text(clean(f"{verdict['outcome']:8}{verdict['words']}"), style=COLOURS[verdict["outcome"]]))
    for note in notes(report):
        out.print(Text(clean(note)))
    for verdict in report["verdicts"]:
        if verdict["header_diff"]:
            out.print(Text(f"\nheader of {verdict['subject']}:", style="bold"))
            for line in verdict["header_diff"]:
                out.print(Text(clean(line), style="red" if line.startswith("-") else "green"))
    out.print(Text(headline(report), style=f"bold {COLOURS[report['outcome'] or 'unknown']}"))
