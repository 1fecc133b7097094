"""JSON Schema (draft 2020-12) of the config file, for editors."""

from __future__ import annotations

from typing import Any

from agent.config.fields import DURATION_PATTERN, show_duration
from agent.config.models import Config

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of the whole file, each setting with its description."""
    schema = _tidy(Config.model_json_schema(by_alias=True, mode="validation"))
    return {"$schema": _DIALECT, **schema, "title": "mailcanary configuration"}


def _tidy(node: Any) -> Any:
    """Written for people: no `null` alternatives, defaults as the file writes them."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = _without_null({key: _tidy(value) for key, value in node.items()})
    default = node.get("default")
    if isinstance(default, int | float) and node.get("pattern") == DURATION_PATTERN:
        node["default"] = show_duration(default)
    return node


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    if "default" in node and node["default"] is None:
        del node["default"]
    forms = node.get("anyOf")
    if not isinstance(forms, list) or {"type": "null"} not in forms:
        return node
    forms = [form for form in forms if form != {"type": "null"}]
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    return {**forms[0], **rest} if len(forms) == 1 else {**rest, "anyOf": forms}
