"""Dead man's switch: ping only while a canary really was sent and read back a short while ago."""

from __future__ import annotations

from dataclasses import dataclass, replace

from alerts.delivery import judge
from alerts.http import HttpPoster
from alerts.settings import HeartbeatSettings
from probes.errors import HttpUnavailable


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the switch remembers. Times are epoch seconds; 0 is never.

    sent_at: submission of the newest canary that was read back; read_at: when it was read; pinged_at: last.
    """

    sent_at: float = 0.0
    read_at: float = 0.0
    pinged_at: float = 0.0

    def loop_closed(self, sent_at: float, read_at: float) -> Heartbeat:
        """A canary of this agent was read back, in whatever folder: the loop is what is proved."""
        if read_at < sent_at or read_at <= self.read_at:
            return self
        return replace(self, sent_at=sent_at, read_at=read_at)

    def alive(self, settings: HeartbeatSettings, now: float) -> bool:
        """Whether the newest closed loop began within `within` seconds."""
        return self.sent_at > 0 and -60.0 <= now - self.sent_at <= settings.within

    def due(self, settings: HeartbeatSettings, now: float) -> bool:
        """Whether to ping now."""
        return self.alive(settings, now) and abs(now - self.pinged_at) >= settings.every

    def pinged(self, now: float) -> Heartbeat:
        """After a ping that was answered."""
        return replace(self, pinged_at=now)


async def ping(settings: HeartbeatSettings, http: HttpPoster, now: float, timeout: float = 10.0) -> bool:
    """Sends one ping; whether it was accepted. A failed one is simply tried again when next due."""
    if not settings.url:
        return True
    try:
        return judge(await http.post(settings.url, body=b"", timeout=timeout), now).ok
    except HttpUnavailable:
        return False
