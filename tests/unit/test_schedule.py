"""When things are due: spread, jitter, catching up, and the pace of a provider."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.schedule import CATCH_UP, JITTER, STARTS, Pace, caught_up, first_due, next_due, spread

NOW = 1_800_000_000.0
names = st.text("abcdefgh/", min_size=1, max_size=12)
intervals = st.floats(1.0, 90_000.0)


@given(names, intervals, st.floats(0, 1e6), st.integers(1, 50))
def test_runs_keep_their_distance(name: str, every: float, offset: float, count: int) -> None:
    now = NOW + offset
    for turn in range(count, count + 5):
        due = next_due(name, every, now, turn)
        gap = due - now
        assert (1 - 2 * JITTER) * every - 1e-3 <= gap <= (2 + 2 * JITTER) * every + 1e-3
        now = due


@given(names, intervals, st.integers(1, 20))
def test_over_time_there_is_one_run_an_interval(name: str, every: float, first: int) -> None:
    now, runs = NOW, 200
    for turn in range(first, first + runs):
        now = next_due(name, every, now, turn)
    assert abs((now - NOW) / every - runs) < runs * 0.02 + 3


def test_many_routes_spread_evenly() -> None:
    every, parts = 900.0, 9
    due = [next_due(f"route-{n}", every, NOW, 0) - NOW for n in range(900)]
    buckets = [sum(1 for d in due if n * 100 <= d % every < (n + 1) * 100) for n in range(parts)]
    assert min(buckets) > 60
    assert max(buckets) < 140


def test_two_schedules_of_one_interval_do_not_stay_in_step() -> None:
    gaps = {round(next_due("a", 60.0, NOW, n) - next_due("b", 60.0, NOW, n), 3) for n in range(1, 20)}
    assert len(gaps) > 10


@given(names, intervals)
def test_a_newcomer_is_seen_within_a_minute(name: str, every: float) -> None:
    assert 0 <= first_due(name, every, NOW) - NOW <= min(every, CATCH_UP)


@given(names, st.integers(1, 10**6))
def test_many_newcomers_are_no_storm(name: str, count: int) -> None:
    over = spread(count)
    assert over == CATCH_UP or count / over <= STARTS
    assert 0 <= first_due(name, 900.0, NOW, over) - NOW <= 900.0
    assert NOW <= caught_up(name, NOW - 5.0, NOW, 900.0, over) <= NOW + 900.0
    far = {f"{name}{n}": first_due(f"{name}{n}", 1e9, NOW, over) - NOW for n in range(200)}
    assert max(far.values()) > over / 2, "spread over all of it"


@given(names, intervals, st.floats(-1e7, 1e7))
def test_what_fell_due_meanwhile_is_caught_up_soon_and_once(name: str, every: float, ago: float) -> None:
    due = caught_up(name, NOW - ago, NOW, every)
    assert NOW <= due <= NOW + max(every * (1 + JITTER), CATCH_UP)
    if -every <= ago < -0.001:
        assert due == NOW - ago, "what lies ahead stays where it is"


@given(st.floats(0.01, 50.0), st.integers(1, 10), st.lists(st.floats(0.0, 5.0), min_size=1, max_size=200))
def test_a_pace_is_never_exceeded(rate: float, burst: int, waits: list[float]) -> None:
    pace, free, now, taken = Pace(rate, burst), None, NOW, []
    for wait in waits:
        now += wait
        may, at = pace.take(free, now)
        if may:
            free = at
            taken.append(now)
        else:
            assert at > now
    for start, since in enumerate(taken):
        most = burst + rate * (taken[-1] - since) + 1e-3
        assert len(taken) - start <= most + 1


def test_a_pace_lets_go_when_it_says() -> None:
    pace = Pace(1.0, 2)
    free = None
    for _ in range(2):
        may, free = pace.take(free, NOW)
        assert may
    may, at = pace.take(free, NOW)
    assert not may
    assert at == NOW + 1.0
    assert pace.take(free, at)[0]


def test_a_clock_that_went_back_does_not_stop_sending() -> None:
    pace = Pace(1.0, 2)
    may, at = pace.take(NOW + 3_600.0, NOW)
    assert not may
    assert at <= NOW + 2.0
