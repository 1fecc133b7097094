"""The one way notifiers reach HTTP: a small protocol, and its implementation on aiohttp."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import aiohttp

from probes.errors import HttpUnavailable

_MOST = 65536


@dataclass(frozen=True, slots=True)
class HttpReply:
    """Status, headers (names in lower case) and the first 64 KiB of the body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class HttpPoster(Protocol):
    """POST, and nothing else. Raises HttpUnavailable, without the URL, where no reply came in time."""

    async def post(
        self,
        url: str,
        *,
        json: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float,
    ) -> HttpReply:
        """Sends json (as UTF-8) or body, and returns what came back."""
        ...


class AiohttpPoster:
    """HttpPoster on one aiohttp session; follows no redirects. Use as an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AiohttpPoster:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(
        self,
        url: str,
        *,
        json: object = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float,
    ) -> HttpReply:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        sent = {"User-Agent": "mailcanary", **(headers or {})}
        if body is None:
            body = jsonlib.dumps(json, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
            sent.setdefault("Content-Type", "application/json")
        try:
            async with asyncio.timeout(timeout):
                async with self._session.post(url, data=body, headers=sent, allow_redirects=False) as reply:
                    found = await reply.content.read(_MOST)
                    names = {k.lower(): v for k, v in reply.headers.items()}
                    return HttpReply(reply.status, names, found)
        except TimeoutError:
            raise HttpUnavailable(f"no reply within {timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # The text of the error may hold the URL, and the URL may be a secret.
            raise HttpUnavailable(type(error).__name__) from None
