"""examples.yaml shows every setting there is, and is valid as it stands; the schema knows every key of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.config.document import Document
from agent.config.explain import settings
from agent.config.load import load
from agent.config.models import Config
from agent.config.schema import json_schema

FILE = Path(__file__).parents[2] / "examples.yaml"
# Files that are not there where the example stands: shown as comments.
SHOWN_AS_COMMENT = re.compile(r"^(\s*)# ((?:template|ca_file|catalogue): )", re.MULTILINE)
# Said once in the file and "as for seeds" (or "as in routes", "as under missing") elsewhere.
SAME_AS: tuple[tuple[str, str], ...] = (
    (r"^bounces\.", "seeds.*."),
    (r"^seeds\.\*\.oauth2\.", "senders.*.relay.oauth2."),
    (r"^alerts\.rules\.\w+\.", "alerts.rules.*."),
    (r"^alerts\.maintenance\.\*\.match\.", "alerts.routes.*.match."),
)


def tree() -> Any:
    return Document("examples.yaml", SHOWN_AS_COMMENT.sub(r"\1\2", FILE.read_text()).encode()).value()


def walk(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    for key, value in (
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    ):
        yield from walk(value, (*path, "*" if isinstance(key, int) else key))


def canonical(dotted: str) -> str:
    for pattern, other in SAME_AS:
        dotted = re.sub(pattern, other, dotted)
    return dotted


def matches(setting: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return len(setting) == len(path) and all(a in ("*", b) for a, b in zip(setting, path, strict=True))


def test_valid_with_nothing_prepared() -> None:
    config = load(FILE, {})
    secrets = [warning for warning in config.warnings if warning.right == "set it before `mailcanary run`"]
    assert list(config.warnings) == secrets
    assert len(secrets) == len(list(config.secrets()))


def test_every_setting_is_shown() -> None:
    shown = set(walk(tree()))
    generic = {canonical(".".join(setting)) for setting, _ in settings(Config) if _is_shown(setting, shown)}
    missing = {".".join(setting) for setting, _ in settings(Config)} - {""}
    assert sorted(name for name in missing if canonical(name) not in generic) == []


def _is_shown(setting: tuple[str, ...], shown: set[tuple[str, ...]]) -> bool:
    return any(matches(setting, path) for path in shown)


def test_every_setting_is_described() -> None:
    assert [".".join(path) for path, field in settings(Config) if not field.description] == []


def defined(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = {
            **schema["$defs"][node["$ref"].rpartition("/")[2]],
            **{k: v for k, v in node.items() if k != "$ref"},
        }
    return node


def unknown_to(schema: dict[str, Any], node: dict[str, Any], value: Any, path: str) -> Iterator[str]:
    node = defined(schema, node)
    forms = [defined(schema, form) for form in node.get("anyOf", ())] or [node]
    if isinstance(value, dict):
        form = next((form for form in forms if set(value) <= set(form.get("properties", ()))), forms[0])
        for key, item in value.items():
            inner = form.get("properties", {}).get(key, form.get("additionalProperties"))
            if isinstance(inner, dict):
                yield from unknown_to(schema, inner, item, f"{path}.{key}")
            elif not form.get("patternProperties"):
                yield f"{path}.{key}"
    elif isinstance(value, list):
        for item in value:
            yield from unknown_to(schema, node["items"], item, path)


def test_the_schema_knows_every_key_of_the_example() -> None:
    schema = json_schema()
    assert list(unknown_to(schema, schema, tree(), "")) == []


def test_the_schema_refuses_what_is_unknown() -> None:
    schema = json_schema()
    assert list(unknown_to(schema, schema, {"seeds": {"a": {"passwrod": "x"}}}, "")) == [".seeds.a.passwrod"]


def test_the_schema_is_written_for_people() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    group = schema["$defs"]["RouteGroup"]["properties"]
    assert group["every"]["default"] == "15m"
    assert "null" not in str(schema)


@pytest.mark.parametrize(("path", "field"), list(settings(Config)), ids=lambda value: str(value)[:60])
def test_no_description_is_a_novel(path: tuple[str, ...], field: Any) -> None:
    assert len(field.description) <= 160
