"""NOOP bursts: knowing of a message within milliseconds while one is expected.

Dovecot tells IDLE half a second late; a NOOP tells at once. The pauses grow with the time waited, so that the
delay stays a small share of the latency that is measured, and both a window and an hour have a cap (G13).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SHORTEST: Final = 0.03
"""Seconds between two NOOPs at the start of a window."""
SHARE: Final = 0.02
"""The pause as a share of the time waited so far: an arrival after 10 s is known 0.2 s late at most."""
HOUR: Final = 3_600.0


@dataclass(slots=True)
class Burst:
    """The budget of one mailbox. per_window, per_hour: caps on NOOPs."""

    per_window: int
    per_hour: int
    _window: tuple[float, float] | None = field(default=None)
    _used: int = 0
    _hour_began: float = float("-inf")
    _hour_used: int = 0

    def pause(self, window: tuple[float, float] | None, now: float) -> float | None:
        """Seconds until the next NOOP (monotonic `now`), None when there is no window, or no budget for
        it."""
        if window is None or not window[0] <= now < window[1]:
            return None
        if window[0] != self._began():
            self._window, self._used = window, 0
        if now - self._hour_began >= HOUR:
            self._hour_began, self._hour_used = now, 0
        if self._used >= self.per_window or self._hour_used >= self.per_hour:
            return None
        return max(SHORTEST, SHARE * (now - window[0]))

    def spent(self) -> None:
        """One NOOP was sent."""
        self._used += 1
        self._hour_used += 1

    def _began(self) -> float | None:
        return self._window[0] if self._window else None
