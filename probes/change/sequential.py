"""Is the inbox rate good or bad? Wald's sequential test: it stops as soon as it may, and says when not.

Two hypotheses are told apart, with their error rates: the rate is at least `good`, or at most `bad`. Between
the two lies a zone in which neither answer would be wrong, and none is owed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Decision(StrEnum):
    """What the samples say so far."""

    GOOD = "good"
    BAD = "bad"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class SequentialTest:
    """H0: rate >= good, H1: rate <= bad. alpha: chance to call a good rate bad; beta: a bad one good."""

    good: float = 0.95
    bad: float = 0.80
    alpha: float = 0.05
    beta: float = 0.05

    @property
    def per_pass(self) -> float:
        """What one pass adds to the log likelihood ratio of H1 over H0."""
        return math.log(self.bad / self.good)

    @property
    def per_failure(self) -> float:
        """What one failure adds."""
        return math.log((1 - self.bad) / (1 - self.good))

    @property
    def upper(self) -> float:
        """At or above this: bad. Wald's inequality: a good rate gets there with a chance of at most alpha
        (the usual (1 - beta) / alpha is nearly that, and not quite)."""
        return -math.log(self.alpha)

    @property
    def lower(self) -> float:
        """At or below this: good. A bad rate gets there with a chance of at most beta."""
        return math.log(self.beta)

    @property
    def fewest(self) -> int:
        """Samples needed where every one passes."""
        return math.ceil(self.lower / self.per_pass)

    def decide(self, passes: int, failures: int) -> Decision:
        """What so many passes and failures say, were the test still open before the last of them."""
        ratio = passes * self.per_pass + failures * self.per_failure
        if ratio >= self.upper:
            return Decision.BAD
        return Decision.GOOD if ratio <= self.lower else Decision.OPEN

    def run(self, samples: Iterable[bool]) -> Claim:
        """Takes samples in their order, True a pass, and stops at the first decision."""
        passes = failures = 0
        decision = Decision.OPEN
        for good in samples:
            passes, failures = passes + good, failures + (not good)
            decision = self.decide(passes, failures)
            if decision is not Decision.OPEN:
                break
        return Claim(self, decision, passes, failures)


@dataclass(frozen=True, slots=True)
class Claim:
    """What was concluded, and from how many samples."""

    test: SequentialTest
    decision: Decision
    passes: int
    failures: int

    @property
    def used(self) -> int:
        """Samples it took."""
        return self.passes + self.failures

    @property
    def words(self) -> str:
        """The claim for people, with its hypotheses and error rates."""
        test = self.test
        seen = f"{self.passes} of {self.used} in the inbox"
        terms = (
            f"{test.alpha:.0%} error either way; no answer is owed between {test.bad:.0%} and {test.good:.0%}"
        )
        if self.decision is Decision.GOOD:
            return f"{seen}: the inbox rate is {test.good:.0%} or more rather than {test.bad:.0%} ({terms})"
        if self.decision is Decision.BAD:
            return f"{seen}: the inbox rate is {test.bad:.0%} or less rather than {test.good:.0%} ({terms})"
        return f"{seen}: too few samples for a claim about the rate ({test.fewest} where all pass; {terms})"

    def to_json(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "decision": self.decision.value,
            "passes": self.passes,
            "failures": self.failures,
            "good_rate": self.test.good,
            "bad_rate": self.test.bad,
            "alpha": self.test.alpha,
            "beta": self.test.beta,
            "words": self.words,
        }


def fixed_size(test: SequentialTest, most: int = 1000) -> tuple[int, int]:
    """The smallest fixed number of samples with the same error rates, and the most failures it allows.

    Exact binomial. Raises ValueError where `most` samples do not suffice.
    """
    for size in range(1, most + 1):
        allowed = _allowed(size, 1 - test.good, test.alpha)
        if _at_most(allowed, size, 1 - test.bad) <= test.beta:
            return size, allowed
    raise ValueError(f"more than {most} samples are needed")


def _at_most(failures: int, size: int, rate: float) -> float:
    """The chance of at most so many failures."""
    return sum(math.comb(size, k) * rate**k * (1 - rate) ** (size - k) for k in range(failures + 1))


def _allowed(size: int, rate: float, alpha: float) -> int:
    """The fewest failures that a good rate exceeds with a chance of at most alpha."""
    allowed = 0
    while 1 - _at_most(allowed, size, rate) > alpha:
        allowed += 1
    return allowed
