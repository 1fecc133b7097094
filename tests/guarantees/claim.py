"""What a proof says: so many trials, so many failures, and the bound that follows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Tally:
    """Trials and failures so far. figures: further measured values, for people."""

    trials: int = 0
    failures: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def check(self, good: bool, complaint: str) -> None:
        """Notes a failure where something is not as promised."""
        if not good:
            self.failures.append(complaint)

    def add(self, other: Tally) -> None:
        """Takes another part's trials, failures, and the worst of its figures."""
        self.trials += other.trials
        self.failures += other.failures
        for name, value in other.figures.items():
            self.figures[name] = max(value, self.figures.get(name, value))

    @property
    def bound(self) -> float:
        """Upper bound of the failure rate at 95 percent, where there was no failure (rule of three)."""
        return 3.0 / self.trials if self.trials else 1.0

    def line(self, promise: str, unit: str) -> str:
        """One line for people."""
        said = f"{promise}: {len(self.failures)} of {self.trials} {unit} failed"
        if not self.failures and self.trials:
            said += f"; rate < {self.bound:.2g} (95 percent, 3/n)"
        more = ", ".join(f"{name} {value:.3g}" for name, value in self.figures.items())
        return f"{said}; {more}" if more else said


Part = Callable[[Path, int], Awaitable[Tally]]


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A promise and its proof. part: one self-contained piece of it, given a folder and the piece's number;
    full: the size of the full form, counted as `N=` counts; per_part: how much of that one piece is."""

    name: str
    promise: str
    unit: str
    full: int
    per_part: int
    part: Part
