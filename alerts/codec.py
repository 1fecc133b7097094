"""Frozen dataclasses and named tuples to plain JSON values and back, led by their annotations."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from probes.errors import DataError

T = TypeVar("T")
Decoder = Callable[[Any], Any]
_PLAIN = frozenset((str, int, float, bool, type(None)))


Encoder = Callable[[Any], Any]


def to_json(value: object) -> Any:
    """The value as dicts, lists, strings, numbers and None; fields that hold their default are left out."""
    kind: Any = type(value)
    return value if kind in _PLAIN else _encoder(kind)(value)


@cache
def _encoder(kind: type) -> Encoder:
    """How values of that type are written."""
    if issubclass(kind, Enum):
        return attrgetter("_value_")  # what `value` leads to, by a long way
    if dataclasses.is_dataclass(kind):
        return _object_encoder(kind)
    if issubclass(kind, Mapping):
        return lambda value: {str(k): to_json(v) for k, v in value.items()}
    if issubclass(kind, (tuple, list, set, frozenset)):
        return lambda value: [to_json(v) for v in value]
    return lambda value: value


def _object_encoder(kind: type) -> Encoder:
    fields = _fields(kind)
    read = attrgetter(*(name for name, _ in fields)) if len(fields) > 1 else None

    def encode(value: Any) -> dict[str, Any]:
        values = read(value) if read else [getattr(value, name) for name, _ in fields]
        return {
            name: v if type(v) in _PLAIN else to_json(v)
            for (name, default), v in zip(fields, values, strict=True)
            if v != default
        }

    return encode


@cache
def _fields(kind: type) -> tuple[tuple[str, Any], ...]:
    """Names and defaults."""
    return tuple((f.name, f.default) for f in dataclasses.fields(kind))


def from_json(kind: type[T], data: Any) -> T:
    """Builds a `kind` from what to_json gave; unknown keys are ignored. Raises DataError where it cannot."""
    try:
        return _decoder(kind)(data)  # type: ignore[arg-type,no-any-return]
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{kind.__name__}: {error}") from error


@cache
def _decoder(kind: Any) -> Decoder:
    """How a value of that annotation is read: worked out once, because annotations are slow to look into."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _object_decoder(kind)
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        hints = get_type_hints(kind)
        items = [_decoder(hints[name]) for name in kind._fields]
        return lambda data: kind(*(read(item) for read, item in zip(items, data, strict=False)))
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        inner = _decoder(next(a for a in get_args(kind) if a is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        return _tuple_decoder(get_args(kind))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        key, value = map(_decoder, get_args(kind))
        return lambda data: {key(k): value(v) for k, v in data.items()}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind
    if isinstance(kind, type) and kind not in (object, Any):
        return _plain_decoder(kind)
    return lambda data: data


def _object_decoder(kind: type) -> Decoder:
    hints = get_type_hints(kind)
    readers = {name: _decoder(hints[name]) for name, _ in _fields(kind)}
    return lambda data: kind(**{name: read(data[name]) for name, read in readers.items() if name in data})


def _tuple_decoder(items: tuple[Any, ...]) -> Decoder:
    if len(items) == 2 and items[1] is Ellipsis:
        each = _decoder(items[0])
        return lambda data: tuple(each(v) for v in data)
    readers = [_decoder(item) for item in items]
    return lambda data: tuple(read(v) for read, v in zip(readers, data, strict=True))


def _plain_decoder(kind: type) -> Decoder:
    def read(data: Any) -> Any:
        if isinstance(data, kind):
            return data
        if kind is float and isinstance(data, int) and not isinstance(data, bool):
            return float(data)
        raise TypeError(f"expected {kind.__name__}, found {type(data).__name__}")

    return read
