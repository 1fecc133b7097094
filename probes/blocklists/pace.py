"""How fast questions may go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """Tokens for a pace: `rate` a second, at most a tenth of a second's worth at once."""

    rate: float
    tokens: float = 1.0
    at: float = 0.0

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` may go now (seconds on any clock that only goes on)."""
        full = max(1.0, self.rate / 10)
        self.tokens = min(full, self.tokens + (now - self.at) * self.rate) if self.at else 1.0
        self.at = now
        granted = min(wanted, int(self.tokens))
        self.tokens -= granted
        return granted
