"""Any HTTP receiver: the whole notification as JSON, signed with HMAC-SHA256 over time and body."""

from __future__ import annotations

import hashlib
import hmac
import json

from alerts import notification as notes
from alerts.delivery import Delivery, judge
from alerts.http import HttpPoster
from alerts.notification import Notification
from alerts.settings import WebhookSettings
from probes.errors import HttpUnavailable


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-Mailcanary-Signature: v1= and the hex HMAC-SHA256 of "TIMESTAMP.BODY"."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"v1={digest}"


def verify(
    secret: str, timestamp: str, body: bytes, given: str, now: float, tolerance: float = 300.0
) -> bool:
    """What a receiver does: the signature is right and not older than `tolerance` seconds (replay)."""
    try:
        age = abs(now - float(timestamp))
    except ValueError:
        return False
    return age <= tolerance and hmac.compare_digest(signature(secret, timestamp, body), given)


class WebhookNotifier:
    """Posts to one URL. X-Mailcanary-Id lets the receiver drop a repetition."""

    per_minute = 60.0
    digests = False

    def __init__(self, settings: WebhookSettings, http: HttpPoster, timeout: float = 15.0) -> None:
        self._settings = settings
        self._http = http
        self._timeout = timeout

    async def send(self, notification: Notification, now: float) -> Delivery:
        """Delivers."""
        body = json.dumps(notes.to_json(notification), ensure_ascii=False).encode("utf-8", "replace")
        timestamp = str(int(now))
        headers = {
            **self._settings.headers,
            "Content-Type": "application/json",
            "X-Mailcanary-Id": hashlib.sha256(notification.id.encode()).hexdigest()[:32],
            "X-Mailcanary-Timestamp": timestamp,
        }
        if self._settings.secret:
            headers["X-Mailcanary-Signature"] = signature(self._settings.secret, timestamp, body)
        try:
            reply = await self._http.post(
                self._settings.url, body=body, headers=headers, timeout=self._timeout
            )
        except HttpUnavailable as error:
            return Delivery(False, "unreachable", detail=error.detail)
        return judge(reply, now)
