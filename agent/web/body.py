"""The JSON body of a request: whatever is sent, either what the store can keep or a DataError."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from agent.web import patience
from probes.errors import DataError


async def read_json(request: web.Request) -> Any:
    """The body. Raises DataError where it is not JSON, nested too deep, text that no store can hold, or where
    it does not come in time."""
    try:
        async with asyncio.timeout(patience.SENDING):
            body = await request.json()
        _refuse_unkept(body)
    except TimeoutError:
        raise DataError(f"the body did not come within {patience.SENDING:g} s") from None
    except web.RequestPayloadError:
        raise DataError("the body cannot be unpacked, or broke off") from None
    except (ValueError, LookupError, RecursionError):  # LookupError: a charset that nobody knows
        raise DataError("the body is not JSON") from None
    return body


def can_be_kept(text: str) -> bool:
    """Whether every store can keep it: no NUL, and no lone half of a surrogate pair, which would be kept in
    JSON and then break every page that shows it."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def _refuse_unkept(value: Any) -> None:
    if isinstance(value, str):
        if not can_be_kept(value):
            raise ValueError(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_unkept(key)
            _refuse_unkept(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_unkept(item)
