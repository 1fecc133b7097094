"""How fast a receiver may be told (rate), and when not at all (circuit breaker). On the monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass

FAILURES = 5
FIRST_PAUSE = 15.0
LONGEST_PAUSE = 300.0
BURST = 10


@dataclass(slots=True)
class Pace:
    """So many a minute, with a burst of ten (GCRA): next_at is when the bucket would be full again."""

    per_minute: float
    next_at: float = 0.0

    def free(self, now: float) -> int:
        """How many may be sent at once now."""
        gap = 60.0 / max(self.per_minute, 1e-6)
        ahead = max(0.0, self.next_at - now)
        return max(0, int((BURST * gap - ahead) / gap + 1e-9))

    def take(self, now: float) -> None:
        """One was sent."""
        self.next_at = max(now, self.next_at) + 60.0 / max(self.per_minute, 1e-6)


@dataclass(slots=True)
class Breaker:
    """Closed; open after five failures in a row or while the service asked to wait; then one trial."""

    failures: int = 0
    until: float = 0.0

    def free(self, now: float) -> int:
        """How many may be sent now: none while open, one as a trial, many while closed."""
        if now < self.until:
            return 0
        return 1 if self.failures >= FAILURES else 1_000_000

    def failed(self, now: float, retry_after: float | None) -> None:
        """A delivery failed."""
        self.failures += 1
        pause = retry_after or 0.0
        if self.failures >= FAILURES:
            pause = max(pause, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.failures - FAILURES, 10)))
        self.until = max(self.until, now + pause)

    def succeeded(self) -> None:
        """A delivery succeeded."""
        self.failures, self.until = 0, 0.0
