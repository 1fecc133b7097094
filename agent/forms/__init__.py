"""A round's report (mailcanary.round/1) in the forms that people and pipelines read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

FORMS = ("text", "json", "junit", "github", "markdown", "html")


def render(report: Mapping[str, Any], form: str) -> str:
    """The report as text of that form, for every form but "text", which is drawn on a console."""
    from agent.forms import github, html, junit, markdown

    def as_json(data: Mapping[str, Any]) -> str:
        import json

        return json.dumps(data, ensure_ascii=False) + "\n"

    makers: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "json": as_json,
        "junit": junit.render,
        "github": github.render,
        "markdown": markdown.render,
        "html": html.render,
    }
    return makers[form](report)
