"""JSON for columns that go straight to the driver."""

from __future__ import annotations

import json
from json import encoder
from typing import Any, Final

_LOOSE: Final = json.JSONEncoder(separators=(",", ":"))


def _made_once() -> Any:
    """The encoder in C, which JSONEncoder makes anew for each value; that costs more than the value does."""
    make: Any = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return _LOOSE.iterencode
    quoted = encoder.encode_basestring_ascii
    made = make(None, _LOOSE.default, quoted, None, ":", ",", False, False, True)
    return lambda value: made(value, 0)


_pieces = _made_once()


def to_text(value: object) -> str:
    """The value as JSON, without spaces. Raises TypeError where it has none."""
    return "".join(_pieces(value))
