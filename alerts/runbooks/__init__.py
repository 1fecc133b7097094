"""The runbook pages, one a kind of alert, as Markdown: linked from every alert and served by the agent."""

from __future__ import annotations

from importlib import resources

from alerts.settings import AlertKind


def names() -> tuple[str, ...]:
    """The names of all pages: the kinds."""
    return tuple(str(kind) for kind in AlertKind)


def page(name: str) -> str | None:
    """The Markdown of one page, or None where there is none of that name."""
    if name not in names():
        return None
    return resources.files("alerts.runbooks").joinpath(f"{name}.md").read_text("utf-8")
