"""The table of all metrics: `python -m agent.metrics.table > grafana/METRICS.md` writes the page."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from agent.metrics import budget
from agent.metrics.specs import PROCESS, SPECS

HEAD = """\
# Metrics

Made from agent/metrics/specs.py by `python -m agent.metrics.table`; a test keeps both equal.

Counters live in the process and start at zero, those of each sender and provider from the start. What counts
is 0 in the first scrape that shows it, so that `increase()` sees the first event of every kind. Gauges are
rebuilt from the store when the agent starts. What leaves the config vanishes at the reload; a route's verdict
vanishes after three intervals without a new one. Labels are names from the config and closed words: nothing
that a server or a message says becomes a label value.

An age by the agent's own clock knows no skew: `scalar(mailcanary_time_seconds) - ..._timestamp_seconds` where
there is one agent, `mailcanary_time_seconds - on (job, instance) group_right () ...` where there are several.

| metric | type | labels | meaning | for example |
|---|---|---|---|---|
"""


def markdown() -> str:
    """The whole page."""
    return HEAD + "".join(_rows()) + _budget()


def _rows() -> Iterator[str]:
    for spec in SPECS:
        labels = ", ".join(spec.labels)
        example = spec.example.replace("|", "\\|")
        yield f"| `{spec.full_name}` | {spec.type} | {labels} | {spec.help} | `{example}` |\n"
    for name, (kind, text) in PROCESS.items():
        query = f"rate({name}[5m])" if kind == "counter" else name
        yield f"| `{name}` | {kind} | | {text} | `{query}` |\n"


def _budget() -> str:
    most = f"{budget.series(100_000, 5_000, 500, 200):,}"
    route, pair, sender = budget.A_ROUTE, budget.A_PAIR, budget.A_SENDER + 1
    return f"""
## How many series

At most {route} a route, {pair} a pair of sender and provider, {sender} a sender, 2 a seed, and of
authentication results and SMTP replies as many as their limits allow (4 and 1 a pair, at least 5,000 and
2,000; what would be more is counted in `mailcanary_series_refused_total`). 500 senders and 200 seeds at 10
providers, all to all: at most {most} series, and the listings. The agent warns where a config may make
more than 400,000.
"""


if __name__ == "__main__":
    sys.stdout.write(markdown())
