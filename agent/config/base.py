"""The base of every model of the config file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

OURS = "mailcanary"


class Fault(NamedTuple):
    """What a model finds wrong with itself. at: the key it is about, or "" for the whole mapping."""

    at: str
    what: str
    right: str


def refuse(what: str, right: str) -> PydanticCustomError:
    """The error a validator raises: what is wrong (never the value of a secret); what would be right."""
    return PydanticCustomError(OURS, "{what}; {right}", {"what": what, "right": right})


class Section(BaseModel):
    """A mapping of the config file: frozen, no unknown keys, no input in its errors.

    A key with nothing behind it counts as left out. `faults` looks at the raw mapping, so that what is wrong
    between keys is told together with what is wrong inside them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    @classmethod
    def faults(cls, given: Mapping[str, Any]) -> Iterator[Fault]:
        """What is wrong between the keys that are given (raw, as the file has them)."""
        return iter(())

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(data, Mapping):
            return handler(data)
        given = {key: value for key, value in data.items() if value is not None}
        errors = [
            InitErrorDetails(
                type=refuse(fault.what, fault.right), loc=(fault.at,) if fault.at else (), input=None
            )
            for fault in cls.faults(given)
        ]
        try:
            model = handler(given)
        except ValidationError as error:
            errors += map(_again, error.errors(include_url=False, include_input=False))
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors, hide_input=True)
        return model


def _again(error: ErrorDetails) -> InitErrorDetails:
    context = error.get("ctx", {})
    kind: Any = error["type"]
    if kind == OURS:
        kind = PydanticCustomError(OURS, "{what}; {right}", context)
    return InitErrorDetails(type=kind, loc=error["loc"], input=None, ctx=context)


def both(given: Mapping[str, Any], one: str, other: str) -> Iterator[Fault]:
    """The fault of two keys that exclude each other."""
    if one in given and other in given:
        yield Fault(other, f"`{one}` and `{other}` are both given", "keep one of them")
