"""Annotations of GitHub Actions: workflow commands, escaped as the runner unescapes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.forms.cells import headline, rows

_LEVEL = {"fail": "error", "unknown": "warning", "pass": "notice"}


def escape(text: str) -> str:
    """The message part: percent, CR and LF."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """A property's value: colon and comma besides."""
    return escape(text).replace(":", "%3A").replace(",", "%2C")


def render(report: Mapping[str, Any]) -> str:
    """One annotation for all, and one for each route or sender that is not in order."""
    return "".join(f"{line}\n" for line in _lines(report))


def _lines(report: Mapping[str, Any]) -> Iterable[str]:
    outcome = report["outcome"] or "unknown"
    yield _command(_LEVEL[outcome], "mailcanary", headline(report))
    for verdict in report["verdicts"]:
        changed = any(d["severity"] != "info" for d in verdict["differences"])
        if verdict["outcome"] != "pass" or changed:
            level = "warning" if verdict["outcome"] == "pass" else _LEVEL[verdict["outcome"]]
            yield _command(level, f"mailcanary {verdict['subject']}", verdict["words"])
    if not report["verdicts"]:
        for row in rows(report):
            yield _command("warning", f"mailcanary {row.route}", row.words or "no verdict")


def _command(level: str, title: str, message: str) -> str:
    return f"::{level} title={escape_property(title)}::{escape(message)}"
