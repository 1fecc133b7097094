"""What a notifier is, and how it says how a delivery went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol

from alerts.http import HttpReply
from alerts.notification import Notification


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one delivery went. reason: a closed word ("sent", "rate_limited", "server_error", "refused",
    "unreachable", "crashed"); permanent: the same message will not fare better soon; retry_after: seconds the
    service asked us to wait; detail: for logs, without secrets."""

    ok: bool
    reason: str
    permanent: bool = False
    retry_after: float | None = None
    detail: str = ""


SENT = Delivery(True, "sent")


class Notifier(Protocol):
    """Delivers one notification to one service. Never raises for what the service does; has its own deadline.

    per_minute: how many requests a minute the service bears; digests: whether many may be told as one.
    """

    @property
    def per_minute(self) -> float: ...

    @property
    def digests(self) -> bool: ...

    async def send(self, notification: Notification, now: float) -> Delivery:
        """Delivers one notification; now is the wall clock (epoch seconds)."""
        ...


def judge(reply: HttpReply, now: float) -> Delivery:
    """A service's HTTP reply as a delivery: 2xx sent, 408, 425, 429 and 5xx to be retried, else refused."""
    if 200 <= reply.status < 300:
        return SENT
    detail = f"HTTP {reply.status} {reply.body[:200].decode('utf-8', 'replace')}".strip()
    wait = retry_after(reply.headers, now)
    if reply.status == 429:
        return Delivery(False, "rate_limited", retry_after=wait if wait is not None else 30.0, detail=detail)
    if reply.status >= 500 or reply.status in (408, 425):
        return Delivery(False, "server_error", retry_after=wait, detail=detail)
    return Delivery(False, "refused", permanent=True, detail=detail)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Retry-After in seconds (RFC 9110 section 10.2.3: a number or a date), at most an hour."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError):
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    return min(3600.0, max(0.0, seconds)) if seconds == seconds else None
