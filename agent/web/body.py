"""The JSON body of a request: whatever is sent, either what the store can keep or a DataError."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from probes.errors import DataError


async def read_json(request: web.Request) -> Any:
    """The body. Raises DataError where it is not JSON, nested too deep, or text that no UTF-8 can hold."""
    try:
        body = await request.json()
        _refuse_halves(body)
    except (ValueError, LookupError, RecursionError):  # LookupError: a charset that nobody knows
        raise DataError("the body is not JSON") from None
    return body


def _refuse_halves(value: Any) -> None:
    """A lone half of a surrogate pair would be kept in JSON and then break every page that shows it."""
    if isinstance(value, str):
        value.encode()
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _refuse_halves(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_halves(item)
