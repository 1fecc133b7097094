"""Two receivers of notifications on loopback, which answer as Slack's webhook and PagerDuty's events do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

_UNREADABLE = (json.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Told:
    """One notification as it was received.

    action: trigger, resolve or acknowledge; key: of deduplication; sections: texts by their name.
    """

    receiver: str
    action: str
    key: str
    title: str
    sections: Mapping[str, str]


def read_slack(message: dict[str, Any]) -> Told:
    """What a Slack message says, from its blocks: the last one's footer bears the key."""
    blocks = message["blocks"]
    footer = str(blocks[-1]["elements"][0]["text"])
    title = str(blocks[0]["text"]["text"])
    parts = [str(block["text"]["text"]).partition("\n") for block in blocks[1:-1]]
    sections = {name.strip("*"): text for name, _, text in parts}
    action = "resolve" if footer.startswith(":white_check_mark:") else "trigger"
    return Told("slack", action, footer.rpartition(" · ")[2], title, sections)


def read_pagerduty(event: dict[str, Any]) -> Told:
    """What a PagerDuty event (Events API v2) says."""
    payload = event.get("payload", {})
    summary = str(payload.get("summary", ""))
    sections = {str(name): str(value) for name, value in payload.get("custom_details", {}).items()}
    return Told("pagerduty", str(event["event_action"]), str(event["dedup_key"]), summary, sections)


class Receivers:
    """Both receivers on one port. `told` holds everything they were sent, in order."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.port = 0

    @property
    def slack_url(self) -> str:
        """The webhook."""
        return f"http://127.0.0.1:{self.port}/services/demo"

    @property
    def pagerduty_url(self) -> str:
        """Where events go."""
        return f"http://127.0.0.1:{self.port}/v2/enqueue"

    async def start(self) -> None:
        """Opens a free port."""
        app = web.Application(client_max_size=1024 * 1024)
        app.router.add_post("/services/demo", self._slack)
        app.router.add_post("/v2/enqueue", self._pagerduty)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Closes the port."""
        await self._runner.cleanup()

    async def _slack(self, request: web.Request) -> web.Response:
        try:
            self.told.append(read_slack(await request.json()))
        except _UNREADABLE:
            return web.Response(status=400, text="invalid_blocks")
        return web.Response(text="ok")

    async def _pagerduty(self, request: web.Request) -> web.Response:
        try:
            event = read_pagerduty(await request.json())
        except _UNREADABLE:
            return web.json_response({"status": "invalid event"}, status=400)
        self.told.append(event)
        return web.json_response({"status": "success", "dedup_key": event.key}, status=202)
