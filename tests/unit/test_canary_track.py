"""The canary's state machine: whatever happens in whatever order, its honesty rules hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.canary import track
from probes.canary.state import Canary, Moment, Reply, State
from probes.outcome import Outcome, Placement
from tests.examples import examples

START = Moment(1_800_000_000.0, 1_000.0, "boot-1")
Step = Callable[[Canary, Moment], Canary]


def intent(**changes: object) -> Canary:
    canary = Canary(
        *("id", "token", "<id@example.org>", "app", "box", "dovecot", ""),
        created=START,
        deadline=600.0,
        late_after=3_600.0,
        due_at=START.wall + 600.0,
    )
    return replace(canary, **changes)  # type: ignore[arg-type]


def at(seconds: float, jump: float = 0.0, boot: str = "boot-1") -> Moment:
    return Moment(START.wall + seconds + jump, START.monotonic + seconds, boot)


def sent(result: track.Attempt = "accepted", soft: bool = False, **more: object) -> track.Sent:
    codes = {"accepted": 250, "deferred": 451, "rejected": 550}
    reply = Reply(codes[result], "", "text", "data", "a-meaning") if result in codes else None
    return track.Sent(result, reply, soft=soft, **more)  # type: ignore[arg-type]


def arrival(now: Moment, internal: float | None = None) -> track.Arrival:
    return track.Arrival(Placement.INBOX, Outcome.PASS, "", "INBOX", now, internal)


def bounce(now: Moment, permanent: bool = True, soft: bool = False) -> track.BounceSeen:
    return track.BounceSeen("5.1.1", "no such user", soft, permanent, now, "no-such-user")


# --- any sequence of events ---------------------------------------------------------------------------------


@st.composite
def steps(draw: st.DrawFn) -> tuple[str, Step, float, float]:
    """(name, step, seconds that pass before it, jump of the wall clock)."""
    passed = draw(st.sampled_from([0.0, 1.0, 59.0, 300.0, 601.0, 4_000.0]))
    jump = draw(st.sampled_from([0.0, 0.0, 0.0, 3_600.0, -3_600.0]))
    soft, clean = draw(st.booleans()), draw(st.booleans())
    ago = draw(st.sampled_from([0.0, 30.0, 700.0]))
    result = draw(st.sampled_from(["accepted", "deferred", "rejected", "unconfirmed", "unreachable"]))
    internal = draw(st.sampled_from([None, -1e10, 0.0, START.wall, START.wall + 90.0, 1e12]))

    def scan(canary: Canary, now: Moment) -> Canary:
        began = Moment(now.wall - ago, now.monotonic - ago, now.boot)
        return track.scanned(canary, track.Scan(began, clean, "" if clean else "timeout"), now)

    def again(canary: Canary, now: Moment) -> Canary:
        may = track.may_send_again(canary, now)
        return track.resending(canary, now.wall + 600.0, 7) if may else canary

    name, step = draw(
        st.sampled_from(
            [
                ("sent", lambda c, n: track.sent(c, sent(result, soft), n)),
                ("abandoned", track.abandoned),
                ("withdrawn", track.withdrawn),
                ("arrived", lambda c, n: track.arrived(c, arrival(n, internal), n)),
                ("scanned", scan),
                ("unreadable", lambda c, n: track.unreadable(c, "timeout", n)),
                ("bounced", lambda c, n: track.bounced(c, bounce(n, clean, soft), n)),
                ("due", track.due),
                ("rested", lambda c, n: track.rested(track.due(c, n), c, n)),
                (
                    "resending",
                    lambda c, n: track.resending(c, n.wall + 600, 7) if track.may_send_again(c, n) else c,
                ),
            ]
        )
    )
    return name, step, passed, jump


def overdue_scan(name: str, before: Canary, now: Moment) -> bool:
    return name == "scanned" and now.since(before.created) >= before.deadline


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(steps(), max_size=25))
def test_whatever_happens_the_rules_hold(events: list[tuple[str, Step, float, float]]) -> None:
    canary, seconds, jumped = intent(), 0.0, 0.0
    for name, step, passed, jump in events:
        seconds, jumped = seconds + passed, jumped + jump
        now = at(seconds, jumped)
        before, canary = canary, step(canary, now)
        assert canary is before or canary.version == before.version + 1
        if canary.state is State.MISSING and before.state is not State.MISSING:
            assert overdue_scan(name, before, now)
            assert before.state is State.SENT
        if before.settled_at is not None:
            assert canary.settled_at is not None
            assert canary.outcome is not Outcome.PASS or before.outcome is Outcome.PASS
        assert before.late <= canary.late
        assert canary.duplicates - before.duplicates in ((0, 1) if name == "arrived" else (0,))
        assert canary.latency is None or canary.latency >= 0
        assert canary.outcome is not Outcome.PASS or canary.seen_at is not None
        if before.state in (State.UNCONFIRMED, State.SENT, State.SETTLED, State.MISSING, State.CLOSED):
            assert canary.state not in (State.INTENDED, State.DEFERRED), "it would be sent again"
        assert (canary.due_at is None) == (canary.state is State.CLOSED)
        if before.state is State.CLOSED:
            assert canary.state is State.CLOSED
            assert canary.outcome is before.outcome


@settings(max_examples=examples(200), deadline=None)
@given(st.lists(steps(), max_size=15))
def test_every_canary_ends(events: list[tuple[str, Step, float, float]]) -> None:
    """However it was left, its due times lead to a settled canary and close it."""
    canary, seconds, jumped = intent(), 0.0, 0.0
    for _, step, passed, jump in events:
        seconds, jumped = seconds + passed, jumped + jump
        canary = step(canary, at(seconds, jumped))
    canary = track.abandoned(canary, at(seconds, jumped))
    seconds += 8_000.0 + abs(jumped) * 2
    now = at(seconds, jumped)
    canary = track.due(track.rested(track.due(canary, now), canary, now), now)
    assert canary.state is State.CLOSED
    assert canary.outcome is not None


# --- one by one ---------------------------------------------------------------------------------------------


def test_missing_needs_a_clean_scan_that_began_after_the_deadline() -> None:
    canary = track.sent(intent(), sent(), at(1))
    early = track.Scan(at(599), True)
    assert track.scanned(canary, early, at(700)) is canary
    dirty = track.scanned(canary, track.Scan(at(601), False, "timeout"), at(700))
    assert (dirty.state, dirty.outcome, dirty.reason) == (State.SENT, Outcome.UNKNOWN, "timeout")
    missing = track.scanned(dirty, track.Scan(at(601), True), at(702))
    assert (missing.state, missing.placement, missing.outcome) == (
        State.MISSING,
        Placement.MISSING,
        Outcome.FAIL,
    )


def test_a_wall_clock_an_hour_ahead_makes_nothing_overdue() -> None:
    canary = track.sent(intent(), sent(), at(1))
    assert track.scanned(canary, track.Scan(at(30, jump=3_600.0), True), at(31, jump=3_600.0)) is canary


def test_after_a_reboot_the_wall_clock_decides() -> None:
    canary = track.sent(intent(), sent(), at(1))
    after = Moment(START.wall + 601.0, 5.0, "boot-2")
    assert track.scanned(canary, track.Scan(after, True), after).state is State.MISSING


def test_late_is_counted_once_and_does_not_uncount_missing() -> None:
    missing = track.scanned(track.sent(intent(), sent(), at(1)), track.Scan(at(601), True), at(602))
    late = track.arrived(missing, arrival(at(700)), at(700))
    assert (late.late, late.placement, late.outcome) == (True, Placement.MISSING, Outcome.FAIL)
    again = track.arrived(late, arrival(at(701)), at(701))
    assert (again.late, again.duplicates, again.outcome) == (True, 1, Outcome.FAIL)


def test_an_unconfirmed_one_is_placed_by_its_sight_and_never_missing() -> None:
    lost = track.sent(intent(), sent("unconfirmed"), at(1))
    assert lost.state is State.UNCONFIRMED
    assert not track.may_send_again(lost, at(2))
    placed = track.arrived(lost, arrival(at(3)), at(3))
    assert (placed.placement, placed.outcome) == (Placement.INBOX, Outcome.PASS)
    unseen = track.scanned(lost, track.Scan(at(601), True), at(602))
    assert (unseen.placement, unseen.outcome, unseen.reason) == (
        Placement.UNKNOWN,
        Outcome.UNKNOWN,
        "unconfirmed",
    )


def test_an_open_intent_of_a_dead_process_is_unconfirmed() -> None:
    left = track.abandoned(intent(), at(2))
    assert left.state is State.UNCONFIRMED
    assert track.abandoned(left, at(3)) is left


def test_a_deferred_one_is_sent_again_in_time_and_judged_at_the_deadline() -> None:
    deferred = track.sent(intent(), sent("deferred"), at(1))
    assert not track.may_send_again(deferred, at(30))
    assert track.may_send_again(deferred, at(61))
    again = track.resending(deferred, START.wall + 661.0, 7)
    assert (again.state, again.token) == (State.INTENDED, "token")
    judged = track.due(deferred, at(600))
    assert (judged.placement, judged.outcome, judged.reason) == (
        Placement.DEFERRED,
        Outcome.FAIL,
        "a-meaning",
    )


def test_greylisting_alone_accuses_nobody() -> None:
    deferred = track.sent(intent(), sent("deferred", soft=True), at(1))
    assert track.due(deferred, at(600)).outcome is Outcome.UNKNOWN
    hard = track.sent(track.resending(deferred, 0.0, 7), sent("deferred"), at(70))
    assert track.due(hard, at(600)).outcome is Outcome.FAIL


def test_silence_that_was_asked_for_is_kept_and_the_deadline_too() -> None:
    deferred = track.sent(intent(), sent("deferred", retry_after=900.0), at(1))
    assert deferred.retry_at == START.wall + 901.0
    assert deferred.due_at == deferred.deadline_wall
    held = track.postponed(track.sent(intent(), sent("deferred"), at(1)), START.wall + 5_000.0)
    assert held.due_at == held.deadline_wall


@pytest.mark.parametrize(
    ("result", "soft", "placement", "outcome"),
    [
        ("rejected", False, Placement.REJECTED, Outcome.FAIL),
        ("rejected", True, Placement.REJECTED, Outcome.UNKNOWN),
        ("unreachable", False, Placement.UNKNOWN, Outcome.UNKNOWN),
    ],
)
def test_how_an_attempt_that_reached_nobody_ends(
    result: track.Attempt, soft: bool, placement: Placement, outcome: Outcome
) -> None:
    ended = track.sent(intent(), sent(result, soft), at(1))
    assert (ended.state, ended.placement, ended.outcome) == (State.SETTLED, placement, outcome)


def test_a_withdrawn_one_is_unknown_and_only_before_it_was_sent() -> None:
    gone = track.withdrawn(intent(), at(1))
    assert (gone.outcome, gone.reason) == (Outcome.UNKNOWN, "withdrawn")
    on_its_way = track.sent(intent(), sent(), at(1))
    assert track.withdrawn(on_its_way, at(2)) is on_its_way


def test_a_bounce_settles_what_was_not_seen() -> None:
    canary = track.sent(intent(), sent(), at(1))
    assert track.bounced(canary, bounce(at(2), permanent=False), at(2)) is canary
    bounced = track.bounced(canary, bounce(at(2)), at(2))
    assert (bounced.placement, bounced.outcome, bounced.reason) == (
        Placement.BOUNCED,
        Outcome.FAIL,
        "no-such-user",
    )
    seen = track.arrived(canary, arrival(at(2)), at(2))
    assert track.bounced(seen, bounce(at(3)), at(3)) is seen


@pytest.mark.parametrize(
    ("internal", "latency"),
    [
        (None, 40.0),
        (START.wall + 1 + 12, 12.0),  # we looked late: the provider's date is nearer the truth
        (START.wall + 1 + 39, 40.0),
        (START.wall - 3_600, 40.0),  # the provider's clock is wrong
        (START.wall + 3_600, 40.0),
        (START.wall, 0.0),
    ],
)
def test_latency_never_leaves_what_is_known(internal: float | None, latency: float) -> None:
    canary = track.sent(intent(), sent(at=at(1)), at(1))
    assert track.arrived(canary, arrival(at(41), internal), at(41)).latency == pytest.approx(latency)


def test_there_is_no_latency_where_the_clocks_do_not_tell() -> None:
    canary = track.sent(intent(), sent(at=at(1)), at(1))
    slept = Moment(START.wall + 4_000.0, START.monotonic + 5.0, "boot-1")
    assert track.arrived(canary, arrival(slept), slept).latency is None
    rebooted = Moment(START.wall - 60.0, 5.0, "boot-2")
    assert track.arrived(canary, arrival(rebooted), rebooted).latency is None


def test_what_is_due_and_cannot_move_rests() -> None:
    canary = track.sent(intent(), sent(), at(1))
    rested = track.rested(canary, canary, at(601))
    assert rested.due_at == START.wall + 661.0
    assert track.rested(canary, canary, at(2)) is canary
