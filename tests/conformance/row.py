"""One line of the conformance report."""

from __future__ import annotations

from dataclasses import dataclass

BARS = {"bounces/status and hard or soft": 0.98, "bounces/reason": 0.90, "bounces/reply code": 0.90}
"""The share of the cases that must pass, where it is not all of them: bounces in prose have no standard."""


@dataclass(frozen=True, slots=True)
class Row:
    """name: the set; passed of total; notes: each difference, with the reason or the RFC line that makes
    it right.
    """

    name: str
    passed: int
    total: int
    notes: tuple[str, ...] = ()

    @property
    def met(self) -> bool:
        """Whether as many passed as have to."""
        return self.passed >= BARS.get(self.name, 1.0) * self.total
