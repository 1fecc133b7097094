"""The sequential test: its error rates over simulated probes, and exactly."""

import random
from collections.abc import Iterator

import pytest

from probes.change.sequential import Claim, Decision, SequentialTest, fixed_size

TEST = SequentialTest()
PROBES = 1000
NOISE = 3 * (0.05 * 0.95 / PROBES) ** 0.5
"""What chance adds to an error rate of 5 percent over 1,000 probes, at three standard deviations."""


def probes(rate: float, most: int | None = None) -> list[Claim]:
    source = random.Random(f"inbox rate {rate}")

    def samples() -> Iterator[bool]:
        sent = 0
        while most is None or sent < most:
            sent += 1
            yield source.random() < rate

    return [TEST.run(samples()) for _ in range(PROBES)]


@pytest.mark.parametrize("rate", [1.0, 0.95])
def test_a_good_rate_is_seldom_called_bad(rate: float) -> None:
    claims = probes(rate)
    assert sum(claim.decision is Decision.BAD for claim in claims) <= PROBES * (0.05 + NOISE)
    assert all(claim.decision is not Decision.OPEN for claim in claims)


@pytest.mark.parametrize("rate", [0.80, 0.70, 0.50])
def test_a_bad_rate_is_seldom_called_good(rate: float) -> None:
    claims = probes(rate)
    assert sum(claim.decision is Decision.GOOD for claim in claims) <= PROBES * (0.05 + NOISE)


def exact(rate: float, longest: int = 600) -> tuple[float, float]:
    """(chance to be called bad, mean number of samples), by the distribution itself."""
    open_: dict[int, float] = {0: 1.0}  # failures -> chance
    bad = mean = 0.0
    for sent in range(1, longest + 1):
        mean += sum(open_.values())
        following: dict[int, float] = {}
        for failures, chance in open_.items():
            for more, likely in ((0, rate), (1, 1 - rate)):
                now = TEST.decide(sent - failures - more, failures + more)
                if now is Decision.OPEN:
                    following[failures + more] = following.get(failures + more, 0.0) + chance * likely
                elif now is Decision.BAD:
                    bad += chance * likely
        open_ = following
    return bad, mean


def test_the_error_rates_hold_exactly() -> None:
    assert exact(0.95)[0] <= 0.05
    assert exact(0.80)[0] >= 0.95
    assert exact(0.70)[0] >= 0.95
    assert exact(1.0) == (0.0, 18.0)


@pytest.mark.parametrize("rate", [1.0, 0.95, 0.80, 0.70, 0.50])
def test_it_takes_fewer_canaries_than_a_fixed_number(rate: float) -> None:
    size, allowed = fixed_size(TEST)
    assert (size, allowed) == (50, 5)
    assert sum(claim.used for claim in probes(rate)) / PROBES < size


def test_too_few_samples_say_so() -> None:
    claim = TEST.run([True] * 5)
    assert claim.decision is Decision.OPEN
    assert "too few samples" in claim.words
    assert "between 80% and 95%" in claim.words
    assert TEST.run([True] * TEST.fewest).decision is Decision.GOOD
    assert TEST.run([True] * (TEST.fewest - 1)).decision is Decision.OPEN
    assert TEST.run([False] * 3).used == 3


def test_between_the_hypotheses_no_answer_is_owed() -> None:
    """At 88 percent either answer is fair, and with a bound on the samples often none is given."""
    claims = probes(0.88, most=25)
    assert sum(claim.decision is Decision.OPEN for claim in claims) > PROBES / 4


def test_it_stops_as_soon_as_it_may() -> None:
    claim = TEST.run([False, False, False, True, True])
    assert (claim.decision, claim.used) == (Decision.BAD, 3)
