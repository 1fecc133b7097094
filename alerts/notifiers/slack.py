"""Slack by incoming webhook, with blocks. Limits: 50 blocks, 3000 characters a text, 150 a header."""

from __future__ import annotations

from typing import Any

from alerts.delivery import Delivery, judge
from alerts.http import HttpPoster
from alerts.notification import Action, Notification
from alerts.settings import SlackSettings
from alerts.texts import Pages, clean
from probes.errors import HttpUnavailable

MAX_BLOCKS = 50
MAX_TEXT = 3000
MAX_HEADER = 150
_SIGNS = {"resolve": ":white_check_mark:", "acknowledge": ":eyes:", "test": ":test_tube:"}
_BY_SEVERITY = {"info": ":information_source:", "warning": ":warning:"}


def escape(text: str) -> str:
    """The three characters Slack asks to escape; nothing else can mention, link or format across them."""
    return clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def cut(text: str, limit: int) -> str:
    """At most `limit` characters, never cut in the middle of an escape, with a mark where cut."""
    if len(text) <= limit:
        return text
    short = text[: limit - 1]
    start = short.rfind("&", max(0, len(short) - 5))
    if start >= 0 and ";" not in short[start:]:
        short = short[:start]
    return f"{short}…"


def payload(notification: Notification) -> dict[str, Any]:
    """The webhook's JSON: a fallback text for push messages, and blocks."""
    sign = _SIGNS.get(notification.action) or _BY_SEVERITY.get(notification.severity, ":rotating_light:")
    title = escape(notification.title)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": cut(title, MAX_HEADER), "emoji": False}}
    ]
    for section in notification.sections[: MAX_BLOCKS - 4]:
        text = escape(section.text)
        if section.name == "Silence":
            text = f"`{text}`"
        named = f"*{escape(section.name)}*\n{text}" if section.name else text
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": cut(named, MAX_TEXT)}})
    blocks += _links(notification)
    footer = f"{sign} {Pages.time(notification.at)} · {escape(notification.dedup_key)}"
    blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": cut(footer, MAX_TEXT)}]})
    return {"text": cut(f"{sign} {title}", MAX_TEXT), "blocks": blocks}


def _links(notification: Notification) -> list[dict[str, Any]]:
    shown = [
        f"<{escape(url).replace('|', '%7C')}|{escape(label).replace('|', ' ')}>"
        for label, url in notification.links.items()
        if len(url) <= 1000
    ]
    if not shown:
        return []
    text = " · ".join(shown[:2]) if len(" · ".join(shown)) > MAX_TEXT else " · ".join(shown)
    return [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]


class SlackNotifier:
    """Posts to one webhook. Slack bears about one message a second."""

    per_minute = 30.0
    digests = True

    def __init__(self, settings: SlackSettings, http: HttpPoster, timeout: float = 15.0) -> None:
        self._url = settings.url
        self._http = http
        self._timeout = timeout

    async def send(self, notification: Notification, now: float) -> Delivery:
        """Delivers; where Slack dislikes the blocks, once more as bare text, so that the alert arrives."""
        message = payload(notification)
        try:
            reply = await self._http.post(self._url, json=message, timeout=self._timeout)
            if reply.status == 400 and b"block" in reply.body and notification.action is not Action.TEST:
                plain = cut(escape(f"{notification.title}\n{notification.body}"), MAX_TEXT)
                reply = await self._http.post(self._url, json={"text": plain}, timeout=self._timeout)
        except HttpUnavailable as error:
            return Delivery(False, "unreachable", detail=error.detail)
        return judge(reply, now)
