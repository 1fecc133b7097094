"""When the reader asks, proves and tries again: pure decisions on a clock of numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from probes.mailbox.agenda import FOREVER, PROVE, RESCAN, SLOW_POLL, Agenda, Do
from probes.mailbox.burst import Burst
from probes.mailbox.model import Expectation, Reason
from probes.mailbox.patience import HOLD, Patience
from probes.mailbox.presets import preset


def _burst_noops(burst: Burst, began: float, length: float) -> list[float]:
    """The times of all NOOPs in one window, as the reader would send them."""
    now, sent = began, []
    while (pause := burst.pause((began, began + length), now)) is not None:
        sent.append(now)
        burst.spent()
        now += pause
    return sent


def test_a_burst_is_capped_by_window_and_by_hour() -> None:
    assert len(_burst_noops(Burst(50, 1000), 0.0, 60.0)) == 50
    burst = Burst(100, 250)
    assert [len(_burst_noops(burst, began, 60.0)) for began in (0.0, 100.0, 200.0, 300.0)] == [
        100,
        100,
        50,
        0,
    ]
    assert len(_burst_noops(burst, 4000.0, 60.0)) == 100


def test_the_pauses_of_a_burst_are_a_small_share_of_the_wait() -> None:
    sent = _burst_noops(Burst(10_000, 10_000), 0.0, 60.0)
    assert len(sent) < 400
    assert all(after - before <= max(0.031, 0.021 * after) for before, after in pairwise(sent))


def agenda(**more: float) -> Agenda:
    facts = preset("dovecot")
    return Agenda(facts, Burst(600, 20_000), proved=0.0, looked=0.0, scan_now=False, complete=True, **more)


def test_nothing_expected_needs_only_proofs_and_slow_polls() -> None:
    what, wait = agenda().next(Expectation(), 1.0, 1000.0, False, False)
    assert what is Do.WAIT
    assert PROVE - 2 < wait <= PROVE
    assert agenda().next(Expectation(), PROVE + 1, 1000.0, False, False)[0] is Do.PROVE
    assert agenda().next(Expectation(), SLOW_POLL + 1, 1000.0, False, False)[0] is Do.POLL


def test_the_deadline_scan_begins_after_the_deadline() -> None:
    expected = Expectation(open=1, scan_after=1005.0)
    one = agenda(scanned_from=1000.0)
    what, wait = one.next(expected, 1.0, 1004.0, False, False)
    assert what is Do.WAIT
    assert 1.0 < wait < 1.1
    assert one.next(expected, 2.1, 1005.1, False, False)[0] is Do.SCAN
    assert agenda(scanned_from=1006.0).next(expected, 2.1, 1007.0, False, False)[0] is Do.WAIT


def test_an_incomplete_scan_is_not_repeated_at_once() -> None:
    one = replace(agenda(scanned_from=0.0, scanned=100.0), complete=False, proved=100.0, looked=100.0)
    expected = Expectation(open=1, scan_after=1005.0)
    assert one.next(expected, 101.0, 1010.0, False, False)[0] is Do.WAIT
    assert one.next(expected, 100.0 + RESCAN, 1010.0, False, False)[0] is Do.SCAN


def test_bursts_only_where_the_preset_allows() -> None:
    expected = Expectation(open=1, burst=(0.0, 60.0))
    assert agenda().ask_in(expected, 1.0) < 0
    assert replace(agenda(), preset=preset("gmail")).ask_in(expected, 1.0) == FOREVER


def test_back_off_grows_is_jittered_and_capped() -> None:
    low, high = Patience(lambda: 0.0), Patience(lambda: 0.999)
    lows = [low.after(Reason.CONNECTION_LOST) or 0.0 for _ in range(15)]
    highs = [high.after(Reason.CONNECTION_LOST) or 0.0 for _ in range(15)]
    assert lows[0] == 0.5
    assert lows == sorted(lows)
    assert lows[-1] == 150.0
    assert all(a < b for a, b in zip(lows, highs, strict=True))


def test_the_third_refusal_holds_for_an_hour_and_a_refused_grant_for_ever() -> None:
    patience = Patience(lambda: 0.5)
    waits = [
        patience.after(reason) for reason in (Reason.LOGIN_REFUSED, Reason.LIMITED, Reason.LOGIN_REFUSED)
    ]
    assert waits[2] == HOLD
    assert all(wait is not None and wait >= 10 for wait in waits[:2])
    assert patience.after(Reason.GRANT_REFUSED) is None
