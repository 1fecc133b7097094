"""Texts of the user's own: sandboxed Jinja2 in place of title and body. A bad one falls back and says so."""

from __future__ import annotations

from dataclasses import replace

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from alerts.notification import Notification, Section
from alerts.settings import TemplateSettings
from alerts.texts import Pages
from probes.errors import ConfigError

_LONGEST = 20_000
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
_ENVIRONMENT.filters["time"] = Pages.time


def check(template: TemplateSettings) -> None:
    """Raises ConfigError where a template cannot be parsed."""
    for name in ("title", "body"):
        try:
            _ENVIRONMENT.from_string(getattr(template, name))
        except TemplateError as error:
            raise ConfigError(f"template {name}: {error}") from None


def render(template: TemplateSettings, notification: Notification) -> Notification:
    """The notification in the user's words.

    The template sees `n` (the Notification), `sections` (name to text) and the filter `time`. Where it fails
    the built-in text stays and a section says why.
    """
    if not template.title and not template.body:
        return notification
    words = {"n": notification, "sections": {s.name: s.text for s in notification.sections}}
    try:
        title = _one(template.title, words) if template.title else notification.title
        body = (Section("", _one(template.body, words)),) if template.body else notification.sections
    except Exception as error:  # whatever a user's template may raise, the alert must go out
        note = Section("Template", f"the receiver's template failed ({error}); this is the built-in text")
        return replace(notification, sections=(*notification.sections, note))
    return replace(notification, title=" ".join(title.split()), sections=body)


def _one(text: str, words: dict[str, object]) -> str:
    return _ENVIRONMENT.from_string(text).render(words)[:_LONGEST]
