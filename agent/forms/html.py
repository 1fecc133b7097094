"""A page of its own: matrix, what changed, timings, header diffs. No script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2

from agent.forms.cells import Row, around, clean, headline, notes, rows, tag

STAGES = ("dns", "connect", "greeting", "ehlo", "tls", "auth", "mail", "rcpt", "data")


def render(report: Mapping[str, Any]) -> str:
    """The report as one HTML file."""
    found = rows(report)
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("agent.forms", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["clean"] = clean
    templates.filters["tag"] = tag
    return templates.get_template("round.html").render(
        report=report,
        headline=headline(report),
        rows=found,
        senders=list(dict.fromkeys(row.sender for row in found)),
        seeds=list(dict.fromkeys(row.seed for row in found)),
        cells={(row.sender, row.seed): row for row in found},
        around=list(around(report)),
        notes=notes(report),
        stages=STAGES,
        timings=[_timing(row, _longest(found)) for row in found],
    )


def _longest(found: list[Row]) -> float:
    return max((sum(row.stages.values()) + (row.latency or 0.0) for row in found), default=0.0) or 1.0


def _timing(row: Row, longest: float) -> dict[str, Any]:
    """A bar a stage, in percent of the slowest route."""
    bars = [(name, row.stages[name]) for name in STAGES if name in row.stages]
    bars.append(("delivery", row.latency or 0.0))
    total = sum(seconds for _, seconds in bars)
    return {
        "route": row.route,
        "total": total,
        "bars": [
            {"name": name, "seconds": seconds, "percent": round(100 * seconds / longest, 2)}
            for name, seconds in bars
            if seconds > 0
        ],
    }
