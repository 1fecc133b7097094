"""The report on a terminal: a table, then what changed in words, then the header diffs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agent.forms.cells import around, clean, headline, notes, rows, tag

if TYPE_CHECKING:
    from rich.console import Console


def draw(report: Mapping[str, Any], out: Console) -> None:
    """Prints the report."""
    from rich.table import Table
    from rich.text import Text

    from agent.commands.status import COLOURS

    table = Table()
    for column in ("route", "outcome", "placement", "latency", "authentication"):
        table.add_column(column)
    for row in rows(report):
        table.add_row(
            Text(row.route),
            Text(row.outcome, style=COLOURS[row.outcome]),
            Text(clean(row.placement)),
            Text(f"{row.latency:.2f} s" if row.latency is not None else ""),
            Text(clean(row.authentication)),
        )
    out.print(table)
    for outcome, words in _told(report):
        out.print(Text(clean(f"{outcome:8}{words}"), style=COLOURS.get(outcome, "")))
    for note in notes(report):
        out.print(Text(clean(note)))
    for verdict in report["verdicts"]:
        if verdict["header_diff"]:
            out.print(Text(f"\nheader of {verdict['subject']}:", style="bold"))
            for line in verdict["header_diff"]:
                out.print(Text(clean(line), style="red" if line.startswith("-") else "green"))
    out.print(Text(headline(report), style=f"bold {COLOURS[report['outcome'] or 'unknown']}"))


def _told(report: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Outcome (or "note") and words of each route that the table does not tell wholly, and of each sender."""
    plain = {v["subject"] for v in report["verdicts"] if v["outcome"] == "pass" and not _changed(v)}
    for row in rows(report):
        if row.route not in plain and row.words:
            yield row.outcome, f"{row.route}: {row.words}"
    yield from ((tag(verdict), verdict["words"]) for verdict in around(report))


def _changed(verdict: Mapping[str, Any]) -> bool:
    return bool(verdict["differences"] or verdict["rate"])
