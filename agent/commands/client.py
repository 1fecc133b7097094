"""Talking to the running agent over its own API."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from probes.errors import ConfigError, HttpUnavailable, MailcanaryError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.models import Config

TIMEOUT = 75.0
"""Seconds: longer than the longest poll of the server."""


def call(config: Config, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One request to the agent that works on the config's store.

    Raises StoreError where none runs, and what `request` raises.
    """
    import time

    from agent.commands.common import open_existing, running_agent

    database = open_existing(config)
    try:
        agent = running_agent(database, time.time())
    finally:
        database.close()
    if agent is None:
        raise StoreError("no agent runs on this store; start one with `mailcanary run`")
    token = config.agent.token.reveal() if config.agent.token else None
    return asyncio.run(request(f"http://{agent.listen}{path}", method, token, body))


async def request(
    url: str,
    method: str = "GET",
    token: str | None = None,
    body: Mapping[str, Any] | None = None,
    more: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """One JSON request; more: further headers.

    Raises ConfigError with the agent's own words where what was asked for is wrong or not there, and
    HttpUnavailable where it refuses otherwise (with the fact `status`) or does not answer.
    """
    import aiohttp

    headers = {**(more or {}), **({"Authorization": f"Bearer {token}"} if token else {})}
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.request(method, url, json=body, allow_redirects=False) as response,
        ):
            if response.status >= 400:
                raise _refusal(url, response.status, await response.text())
            answer: Any = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # ValueError: no JSON, or no header
        raise HttpUnavailable(f"{url}: {error or type(error).__name__}") from None
    if not isinstance(answer, dict) or not str(answer.get("schema")).startswith("mailcanary."):
        raise HttpUnavailable(f"{url}: what answers there is no mailcanary")
    return answer


def _refusal(url: str, status: int, said: str) -> MailcanaryError:
    """A problem that the agent tells of is a mistake of the asker, all else is not."""
    try:
        detail = str(json.loads(said)["detail"])
    except (ValueError, KeyError, TypeError):
        return HttpUnavailable(f"{url}: {status} {said[:300].strip()}", status=status)
    if status in (400, 404):
        return ConfigError(detail, status=status)
    return HttpUnavailable(f"{url}: {status} {detail}", status=status)
