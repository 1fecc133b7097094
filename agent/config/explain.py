"""Turns what pydantic says into what a person can act on, at the line and column where it stands."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from agent.config.base import OURS
from agent.config.document import Document, Node
from agent.config.problems import Problem
from agent.secrets import Secret

Path = tuple[str | int, ...]

_KINDS = {"scalar": "text", "list": "a list", "mapping": "a mapping"}
_MAPPINGS = {"model_type", "model_attributes_type", "dict_type", "mapping_type"}
_LISTS = {"list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"}
_BOUNDS = {
    "greater_than_equal": ("ge", "a number of at least"),
    "greater_than": ("gt", "a number above"),
    "less_than_equal": ("le", "a number of at most"),
    "less_than": ("lt", "a number below"),
}


def show_path(path: Sequence[str | int]) -> str:
    """A path as people write it: `routes[0].every`, `seeds.gmail-1`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def known(names: Sequence[str], limit: int = 12) -> str:
    """A short list of names."""
    shown = [f"`{name}`" for name in sorted(names)]
    if len(shown) > limit:
        return ", ".join(shown[:limit]) + f" and {len(shown) - limit} more"
    return ", ".join(shown)


def suggest(wrong: str, names: Sequence[str], empty: str) -> str:
    """What would be right in place of a name that is not known."""
    near = get_close_matches(wrong, list(names), n=1, cutoff=0.6)
    near = near or get_close_matches(
        wrong.lower(), [name for name in names if name.islower()], n=1, cutoff=0.6
    )
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known are {known(names)}" if names else empty


def explain(document: Document, root: type[BaseModel], error: ValidationError) -> Iterator[Problem]:
    """The problems that a validation found."""
    for detail in error.errors(include_url=False, include_input=False):
        path = tuple(detail["loc"])
        what, right, at, key = _words(document, root, detail, path)
        place = show_path(at if detail["type"] != "extra_forbidden" else at[:-1])
        line, column = document.position([step for step in at if step != "[key]"], key=key)
        yield document.problem_at(line, column, f"{place}: {what}" if place else what, right)


def _words(
    document: Document, root: type[BaseModel], detail: ErrorDetails, path: Path
) -> tuple[str, str, Path, bool]:
    """What, right, the path it is about, and whether the key's own place is meant."""
    kind, context = detail["type"], detail.get("ctx", {})
    if path and path[-1] == "[key]":
        return (*_simple(kind, context, None, None), path[:-1], True)
    if kind == "extra_forbidden":
        return (*_unknown_key(document, root, path), path, True)
    if kind == "missing":
        key = str(path[-1])
        return f"`{key}` is missing", _add(key, field_at(root, path)), path[:-1], True
    keyed = kind == OURS and document.find(path) is not None and _is_mapping(document.find(path))
    return (*_simple(kind, context, document.find(path), field_at(root, path)), path, keyed)


def _is_mapping(node: Node | None) -> bool:
    return node is not None and node.kind == "mapping"


def _unknown_key(document: Document, root: type[BaseModel], path: Path) -> tuple[str, str]:
    wrong, model = str(path[-1]), model_at(root, path[:-1])
    names = [field.alias or name for name, field in model.model_fields.items()] if model else []
    told = "" if document.is_private(path) else f" `{wrong[:64]}`"
    return f"unknown key{told}", suggest(wrong, names, "remove it")


def _add(key: str, field: FieldInfo | None) -> str:
    if field is None or not field.examples:
        return f"add `{key}:`"
    example = field.examples[0]
    return (
        f"add it, as in `{key}: {'[' + ', '.join(example) + ']' if isinstance(example, list) else example}`"
    )


def _simple(
    kind: str, context: Mapping[str, Any], node: Node | None, field: FieldInfo | None
) -> tuple[str, str]:
    found = (
        _KINDS[node.kind]
        if node is not None and not (node.kind == "scalar" and node.text is None)
        else "nothing"
    )
    if kind == OURS:
        return str(context["what"]), str(context["right"])
    if kind in _MAPPINGS:
        return f"{found} where a mapping is wanted", "write `key: value` lines below it"
    if kind in _LISTS:
        return f"{found} where a list is wanted", "write it in brackets, as in [a, b]"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return "a number out of range", f"write {words} {context[key]:g}"
    return _scalar(kind, context, found)


def _scalar(kind: str, context: Mapping[str, Any], found: str) -> tuple[str, str]:
    if kind.startswith("int"):
        return f"{found} where a whole number is wanted", "write digits only"
    if kind.startswith(("float", "finite")):
        return f"{found} where a number is wanted", "write it as in 20 or 0.5"
    if kind.startswith("bool"):
        return f"{found} where true or false is wanted", "write true or false"
    if kind == "string_type":
        return f"{found} where text is wanted", "write one value"
    if kind == "literal_error":
        return "none of the words it can be", "write " + str(context["expected"]).replace("'", "`")
    if kind in ("too_short", "string_too_short"):
        return "nothing in it", "write at least one, or leave the key out"
    if kind == "string_pattern_mismatch":
        return "not of the form that is wanted", f"match {context['pattern']}"
    return "not right", kind.replace("_", " ")


# --- finding the model and field that a path leads to ------------------------------------------------------


def field_at(root: type[BaseModel], path: Path) -> FieldInfo | None:
    """The field of the models that a path of the file leads to, or None."""
    model = model_at(root, path[:-1])
    if model is None or not path:
        return None
    return next(
        (field for name, field in model.model_fields.items() if (field.alias or name) == path[-1]), None
    )


def model_at(root: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model that validates the mapping at a path, or None."""
    current: Any = root
    for step in path:
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = current.model_fields.items()
            current = next(
                (field.annotation for name, field in fields if (field.alias or name) == step), None
            )
        else:
            current = _inside(current)
        current = _without_none(current)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        return next((_without_none(arg) for arg in get_args(annotation) if arg is not type(None)), None)
    if hasattr(annotation, "__metadata__"):
        return _without_none(get_args(annotation)[0])
    return annotation


def _inside(annotation: Any) -> Any:
    """The type of the items of a dict or tuple."""
    arguments = get_args(annotation)
    if get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if arguments else None


def settings(
    root: type[BaseModel], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every setting with its path; `*` stands for a name or an index."""
    for name, field in root.model_fields.items():
        here = (*path, field.alias or name)
        yield here, field
        inner = _without_none(field.annotation)
        while get_origin(inner) in (dict, tuple):
            inner, here = _without_none(_inside(inner)), (*here, "*")
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings(inner, here)


def private_keys(root: type[BaseModel]) -> frozenset[str]:
    """Keys whose value is, or holds, a secret."""

    def holds_secret(annotation: Any) -> bool:
        annotation = _without_none(annotation)
        while get_origin(annotation) in (dict, tuple):
            annotation = _without_none(_inside(annotation))
        return annotation is Secret

    return frozenset(path[-1] for path, field in settings(root) if holds_secret(field.annotation))
