"""Markdown, as pull requests and wikis show it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from agent.forms.cells import around, clean, headline, notes, rows, tag

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~&!])")


def escape(text: object) -> str:
    """Plain text that stays plain: on one line, nothing of it read as Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(clean(text).split()))


def render(report: Mapping[str, Any]) -> str:
    """The report: a table, then what changed, then the header diffs."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Mapping[str, Any]) -> Iterable[str]:
    yield f"## {escape(headline(report))}"
    yield ""
    yield f"Round {escape(report['id'])}, {escape(report['started_at'])}"
    yield ""
    yield "| route | outcome | placement | latency | authentication | what |"
    yield "| --- | --- | --- | ---: | --- | --- |"
    for row in rows(report):
        latency = f"{row.latency:.2f} s" if row.latency is not None else ""
        cells = (row.route, row.outcome, row.placement, latency, row.authentication, row.words)
        yield "| " + " | ".join(escape(cell) for cell in cells) + " |"
    told = list(around(report))
    if told or notes(report):
        yield ""
        yield "### Records and listings"
        yield ""
        yield from (f"- {tag(v)}: {escape(v['words'])}" for v in told)
        yield from (f"- {escape(note)}" for note in notes(report))
    for verdict in report["verdicts"]:
        if verdict["header_diff"]:
            yield from ("", f"### Header of {escape(verdict['subject'])}", "")
            # Indented, not fenced: a line of a header cannot end the block.
            yield from (f"    {clean(line)}".replace("\n", " ") for line in verdict["header_diff"])
