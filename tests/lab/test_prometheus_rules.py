"""The rules by promtool: which alerts fire when, and that one lost canary never does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import yaml

from agent.config.models import Route
from agent.prometheus.rules import groups, rules_file
from agent.prometheus.shape import Shape
from agent.prometheus.windows import Burn, burns, duration
from tests.fakes.prometheus_world import DAY, STARTED, Fate, Pair, Value, World, world
from tests.promtool import promtool

SHIPPED = Path(__file__).parents[2] / "grafana" / "prometheus" / "rules.yml"
EXPRESSION = 'group by (alertname, severity) (ALERTS{alertstate="firing"})'
PAGE, TICKET, NOTE = "critical", "warning", "info"
BURN, PROVIDER, FAILING, ROUTE_BURN = (
    "MailcanaryDeliveryBurn",
    "MailcanaryProviderBurn",
    "MailcanaryRouteFailing",
    "MailcanaryRouteBurn",
)
HOUR = 60
pytestmark = pytest.mark.lab
STEPS = {DAY // 2: (1, 1), DAY: (3, 3), 5 * DAY: (30, 3), 99 * DAY: (60, 5)}
"""Minutes between two evaluations, and between two scrapes, of stories of at most so many minutes."""


def firing(
    tmp_path: Path, made: World, expected: dict[int, set[tuple[str, str]]], shape: Shape | None = None
) -> None:
    """Holds where exactly these alerts (name, severity) fire at each of the minutes."""
    rules = tmp_path / "rules.yml"
    rules.write_text(rules_file(shape) if shape else SHIPPED.read_text())
    # promtool evaluates every rule at every step: long stories in longer ones, or it takes minutes.
    step, scrape = next(found for most, found in STEPS.items() if made.minutes <= most)
    checks = [
        {
            "expr": EXPRESSION,
            "eval_time": f"{-(-minute // step) * step}m",
            "exp_samples": [
                {"labels": f'{{alertname="{name}", severity="{severity}"}}', "value": 1}
                for name, severity in sorted(alerts)
            ],
        }
        for minute, alerts in expected.items()
    ]
    story = {"interval": f"{scrape}m", "input_series": made.input_series(scrape), "promql_expr_test": checks}
    case = {
        "rule_files": [str(rules)],
        "group_eval_order": [group["name"] for group in groups(shape or Shape())],
        "evaluation_interval": f"{step}m",
        "tests": [story],
    }
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump(case, width=10**9))
    promtool("test", "rules", file)


def one(fate: Fate, minutes: int = DAY) -> World:
    """One sender, one seed, a canary in 15 minutes."""
    return world([Pair("app", "gmail", "g1", fate)], minutes)


def good(_n: int) -> str:
    return "pass"


def lost(*which: int, how: str = "missing") -> Fate:
    return lambda n: how if n in which else "pass"


def after(start: int, how: str, end: int = 10**6) -> Fate:
    return lambda n: how if start <= n < end else "pass"


def quiet(minutes: Iterable[int]) -> dict[int, set[tuple[str, str]]]:
    return {minute: set() for minute in minutes}


def test_the_shipped_set_is_what_the_command_makes() -> None:
    assert SHIPPED.read_text() == rules_file(Shape()), (
        "mailcanary rules --default > grafana/prometheus/rules.yml"
    )
    promtool("check", "rules", SHIPPED)


def test_all_is_well(tmp_path: Path) -> None:
    firing(tmp_path, one(good), quiet(range(10, DAY, 60)))


@pytest.mark.parametrize("how", ["missing", "spam"])
def test_one_lost_of_96_tells_nobody(tmp_path: Path, how: str) -> None:
    firing(tmp_path, one(lost(48, how=how), 2 * DAY), quiet(range(48 * 15, 2 * DAY, 7)))


def test_one_lost_soon_after_the_start_tells_nobody(tmp_path: Path) -> None:
    firing(tmp_path, one(lost(2), DAY // 2), quiet(range(20, DAY // 2, 5)))


def test_two_lost_in_a_row_page(tmp_path: Path) -> None:
    made = one(lost(300, 301), 4 * DAY)
    firing(tmp_path, made, {300 * 15: set(), 301 * 15 + 15: {(BURN, PAGE), (PROVIDER, PAGE)}})


def test_the_page_ends_once_canaries_arrive_again(tmp_path: Path) -> None:
    made = one(lost(300, 301), 4 * DAY)
    firing(tmp_path, made, {301 * 15 + 90: set()})


def test_two_lost_half_a_day_apart_tell_nobody(tmp_path: Path) -> None:
    made = one(lost(300, 348), 4 * DAY)
    firing(tmp_path, made, quiet(range(300 * 15, 4 * DAY, 20)))


def test_all_to_spam_pages_and_names_the_route(tmp_path: Path) -> None:
    made = one(after(300, "spam"), 4 * DAY)
    everything = {(BURN, PAGE), (BURN, TICKET), (PROVIDER, PAGE), (PROVIDER, TICKET)}
    firing(tmp_path, made, {300 * 15 + 8 * HOUR: everything | {(FAILING, TICKET), (ROUTE_BURN, TICKET)}})


def test_a_few_percent_for_days_are_a_ticket_and_no_page(tmp_path: Path) -> None:
    made = one(lambda n: "missing" if n % 48 == 7 else "pass", 5 * DAY)
    tickets = {(BURN, TICKET), (PROVIDER, TICKET)}
    firing(tmp_path, made, {5 * DAY - 120: tickets})


def test_one_lost_never_marks_its_route_as_failing(tmp_path: Path) -> None:
    made = one(lost(20, 40, 60), DAY)
    kinds = {minute: set[tuple[str, str]]() for minute in range(15, 22 * 15, 1)}
    firing(tmp_path, made, kinds)


def test_a_route_that_never_worked(tmp_path: Path) -> None:
    made = one(lambda _n: "spam", 4 * HOUR)
    expected = {(BURN, PAGE), (BURN, TICKET), (PROVIDER, PAGE), (PROVIDER, TICKET), (FAILING, TICKET)}
    firing(tmp_path, made, {3 * HOUR: expected})


def test_a_silent_provider(tmp_path: Path) -> None:
    pairs = [Pair("app", "gmail", "g1", after(30, "")), Pair("app", "gmx", "x1", good)]
    silent = {("MailcanaryProviderSilent", TICKET)}
    firing(tmp_path, world(pairs), {30 * 15 + 30: set(), 30 * 15 + 60: silent, 30 * 15 + 6 * HOUR: silent})


def test_nothing_at_all_is_judged(tmp_path: Path) -> None:
    expected = {("MailcanaryProviderSilent", TICKET), ("MailcanaryNoVerdicts", PAGE)}
    firing(tmp_path, one(after(30, "")), {30 * 15 + 60: expected})


def test_paused_on_purpose(tmp_path: Path) -> None:
    made = one(after(30, ""))
    made.change("mailcanary_paused", lambda minute, _: float(minute > 450))
    firing(tmp_path, made, quiet([30 * 15 + 60, DAY - 1]))


def test_an_agent_that_has_just_started_is_given_time(tmp_path: Path) -> None:
    made = one(after(0, ""), 2 * HOUR)
    made.change("process_start", lambda _m, _v: -60.0)
    expected = {("MailcanaryProviderSilent", TICKET), ("MailcanaryNoVerdicts", PAGE)}
    firing(tmp_path, made, {30: set(), 40: set(), 60: expected})


def test_unknown_is_not_lost(tmp_path: Path) -> None:
    made = one(after(100, "unknown"), 3 * DAY)
    unknown = {("MailcanaryRouteUnknown", TICKET)}
    firing(tmp_path, made, {1500: set(), 1500 + 120: unknown, 3 * DAY - 30: unknown})


def test_a_few_unknown_tell_nobody(tmp_path: Path) -> None:
    firing(tmp_path, one(lost(50, 51, 70, how="unknown")), quiet(range(700, DAY, 15)))


def test_unknown_stays_out_of_the_ratio(tmp_path: Path) -> None:
    made = one(lambda n: "missing" if n in (92, 93) else "unknown" if n >= 80 else "pass", 2 * DAY)
    expected = {(BURN, PAGE), (PROVIDER, PAGE), (BURN, TICKET), (PROVIDER, TICKET)}
    firing(tmp_path, made, {94 * 15 + 2: expected})


def test_a_route_whose_verdicts_are_stale(tmp_path: Path) -> None:
    pairs = [Pair("app", "gmail", "g1", good), Pair("app", "gmail", "g2", good)]
    made = world(pairs)
    made.change('mailcanary_canary_outcome{job="mailcanary",instance="agent:9465",sender="app",seed="g2"',
                lambda minute, value: value if minute < 600 else None)  # fmt: skip
    firing(tmp_path, made, {620: set(), 600 + 60: {("MailcanaryRouteUnknown", TICKET)}})


def restarted(minute: int) -> Callable[[World], World]:
    """The process starts anew: counters from zero."""

    def change(made: World) -> World:
        for key, values in made.series.items():
            if "_total{" in key:
                base = values[minute] or 0.0
                made.series[key] = [v if m < minute or v is None else v - base for m, v in enumerate(values)]
        return made.change("process_start", lambda m, _: 60.0 * minute if m >= minute else STARTED)

    return change


def test_an_agent_restart(tmp_path: Path) -> None:
    firing(tmp_path, restarted(700)(one(good)), quiet(range(690, DAY, 10)))


def test_a_restart_between_two_lost_canaries_loses_neither(tmp_path: Path) -> None:
    made = restarted(301 * 15 + 5)(one(lost(300, 301), 4 * DAY))
    firing(tmp_path, made, {301 * 15 + 15: {(BURN, PAGE), (PROVIDER, PAGE)}})


def test_a_restart_after_one_lost_canary_tells_nobody(tmp_path: Path) -> None:
    made = restarted(192 * 15 + 30)(one(lost(192), 3 * DAY))
    firing(tmp_path, made, quiet(range(192 * 15, 3 * DAY, 11)))


def test_a_counter_reset_while_all_fails(tmp_path: Path) -> None:
    made = restarted(310 * 15)(one(after(300, "spam"), 4 * DAY))
    everything = {(BURN, PAGE), (BURN, TICKET), (PROVIDER, PAGE), (PROVIDER, TICKET)}
    firing(tmp_path, made, {300 * 15 + 8 * HOUR: everything | {(FAILING, TICKET), (ROUTE_BURN, TICKET)}})


def test_ten_minutes_of_downtime_tell_nobody(tmp_path: Path) -> None:
    made = restarted(704)(one(good))
    made.change("", lambda minute, value: value if not 700 <= minute < 704 else None)
    made.change("up{", lambda minute, _: float(not 700 <= minute < 704))
    firing(tmp_path, made, quiet(range(690, DAY, 5)))


def test_a_reload_adds_one_sender_and_drops_another(tmp_path: Path) -> None:
    made = world([Pair("old", "gmail", "g1", good), Pair("new", "gmail", "g1", good)])
    made.change('sender="old"', lambda minute, value: value if minute < 700 else None)
    made.change('sender="new"', lambda minute, value: value if minute >= 700 else None)
    firing(tmp_path, made, quiet(range(690, DAY, 10)))


def test_a_reload_that_drops_a_failing_provider_ends_its_alerts(tmp_path: Path) -> None:
    made = world([Pair("app", "gmail", "g1", after(20, "spam")), Pair("app", "gmx", "x1", good)])
    made.change('seed="g1"', lambda minute, value: value if minute < 700 else None)
    made.change('provider="gmail"', lambda minute, value: value if minute < 700 else None)
    firing(tmp_path, made, {700 + 7 * HOUR: {(BURN, TICKET), (PROVIDER, TICKET)}})


def test_a_reload_that_failed(tmp_path: Path) -> None:
    made = one(good, 200)
    made.change("reload_successful", lambda minute, _: float(minute < 100))
    firing(tmp_path, made, {103: set(), 110: {("MailcanaryReloadFailed", TICKET)}})


@pytest.mark.parametrize("skew", [3600.0, -3600.0])
def test_clock_skew_is_told_and_makes_no_route_fail(tmp_path: Path, skew: float) -> None:
    made = one(lost(30), DAY)
    for part in ("time_seconds", "timestamp_seconds", "process_start"):
        made.change(part, lambda _m, value: None if value is None else value + skew)
    firing(tmp_path, made, {minute: {("MailcanaryClockSkew", TICKET)} for minute in range(30, DAY, 30)})


def test_a_wall_clock_that_jumps(tmp_path: Path) -> None:
    made = one(good)
    made.change("mailcanary_time_seconds", lambda minute, value: (value or 0) + 20 * (minute > 600))
    firing(tmp_path, made, quiet(range(590, DAY, 10)))


def test_the_agent_is_down(tmp_path: Path) -> None:
    made = one(good)
    made.change("", lambda minute, value: value if minute < 700 else None)
    made.change("up{", lambda minute, _: float(minute < 700))
    firing(tmp_path, made, {703: set(), 710: {("MailcanaryDown", PAGE)},
                            730: {("MailcanaryDown", PAGE), ("MailcanaryAbsent", PAGE)}})  # fmt: skip


def test_no_agent_at_all(tmp_path: Path) -> None:
    made = World(60).set("something_else", lambda _: 1.0)
    firing(tmp_path, made, {5: set(), 20: {("MailcanaryAbsent", PAGE)}})


def test_missed_scrapes_tell_nobody(tmp_path: Path) -> None:
    made = one(lost(50))
    made.change("", lambda minute, value: None if minute % 7 in (1, 2) else value)
    firing(tmp_path, made, quiet(range(700, DAY, 9)))


def test_an_agent_that_keeps_restarting(tmp_path: Path) -> None:
    made = one(good)
    made.change(
        "process_start", lambda minute, _: 60.0 * (minute // 10) * 10 if 600 <= minute < 660 else STARTED
    )
    firing(tmp_path, made, {590: set(), 655: {("MailcanaryRestarts", TICKET)}, 730: set()})


def gauge(name: str, labels: str, values: Callable[[int], Value]) -> World:
    return one(good, 8 * HOUR).set(name, values, labels)


STATES: dict[str, tuple[World, dict[int, set[tuple[str, str]]]]] = {
    "seed unreadable": (
        gauge("mailcanary_seed_readable", 'seed="g1"', lambda m: float(m < 100)),
        {110: set(), 120: {("MailcanarySeedUnreadable", TICKET)}},
    ),
    "sender unusable": (
        gauge("mailcanary_sender_usable", 'sender="app"', lambda m: float(m < 100)),
        {105: set(), 115: {("MailcanarySenderUnusable", TICKET)}},
    ),
    "listed, then not": (
        gauge("mailcanary_blocklist_listed", 'subject="192.0.2.1",zone="zen.test"',
              lambda m: 1.0 if 100 <= m < 300 else None),
        {90: set(), 105: {("MailcanaryListed", TICKET)}, 310: set()},
    ),
    "zone unhealthy": (
        gauge("mailcanary_blocklist_zone_healthy", 'zone="zen.test",resolver="x"', lambda m: float(m < 100)),
        {200: set(), 300: {("MailcanaryZoneUnhealthy", NOTE)}},
    ),
    "one hiccup of the loop": (gauge("mailcanary_loop_lag_seconds", "", lambda m: 3.0 if m == 100 else 0.0),
                               {100: set(), 105: set()}),
    "overloaded": (gauge("mailcanary_loop_lag_seconds", "", lambda m: 3.0 if m >= 100 else 0.0),
                   {105: set(), 120: {("MailcanaryLoopLag", TICKET)}}),
    "series refused": (
        gauge("mailcanary_series_refused_total", 'metric="x_total"', lambda m: float(max(0, m - 100))),
        {99: set(), 110: {("MailcanarySeriesRefused", NOTE)}},
    ),
    "notifications fail": (
        gauge("mailcanary_notifications_waiting", 'receiver="chat"', lambda m: float(m >= 100)).set(
            "mailcanary_notification_failures_total",
            lambda m: float(max(0, m - 100)),
            'receiver="chat",reason="x"',
        ),
        {105: set(), 120: {("MailcanaryNotificationsWaiting", TICKET)}},
    ),
    "notifications wait for a digest": (
        gauge("mailcanary_notifications_waiting", 'receiver="chat"', lambda m: 1.0), {200: set()},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", STATES)
def test_states(tmp_path: Path, what: str) -> None:
    firing(tmp_path, *STATES[what])


def authentication(failed: int) -> World:
    made = one(good)
    labels = 'sender="app",provider="gmail",method="dkim",result='
    name = "mailcanary_authentication_results_total"
    made.set(name, lambda m: float(m // 15 if m < 600 else 40), labels + '"pass"')
    return made.set(name, lambda m: float(min(failed, max(0, (m - 600) // 15))), labels + '"fail"')


def test_one_signature_that_failed_tells_nobody(tmp_path: Path) -> None:
    firing(tmp_path, authentication(1), quiet(range(600, DAY, 15)))


def test_authentication_that_keeps_failing(tmp_path: Path) -> None:
    expected = {("MailcanaryAuthenticationFailing", TICKET)}
    firing(tmp_path, authentication(20), {610: set(), 600 + 3 * HOUR: expected})


@pytest.mark.parametrize(("seconds", "expected"), [(30, set()), (1200, {("MailcanarySlow", TICKET)})])
def test_slow_mail(tmp_path: Path, seconds: int, expected: set[tuple[str, str]]) -> None:
    made = one(good)
    for bound in ("60.0", "300.0", "600.0", "1800.0", "+Inf"):
        made.set("mailcanary_canary_delivery_seconds_bucket",
                 lambda m, b=bound: float(m // 15 if seconds <= float(b) else 0),
                 f'sender="app",provider="gmail",le="{bound}"')  # fmt: skip
    firing(tmp_path, made, {DAY - 1: expected})


def test_one_bad_sender_among_many_is_no_page_about_the_provider(tmp_path: Path) -> None:
    pairs = [Pair(f"s{n}", "gmail", "g1", good) for n in range(2)]
    made = world([*pairs, Pair("bad", "gmail", "g1", lost(300, 301))], 4 * DAY)
    firing(tmp_path, made, {301 * 15 + 15: {(BURN, PAGE)}})


def shape(*intervals: tuple[str, float]) -> Shape:
    routes = tuple(Route("app", seed, every * 60.0, 600.0, 86400.0) for seed, every in intervals)
    return Shape(routes=routes, providers={seed: f"of-{seed}" for seed, _ in intervals})


def test_one_lost_of_one_an_hour(tmp_path: Path) -> None:
    slow = shape(("s", 60))
    made = world([Pair("app", "of-s", "s", lost(50), every=60)], 6 * DAY)
    firing(tmp_path, made, quiet(range(50 * 60, 6 * DAY, 180)), slow)


def test_two_in_a_row_of_one_an_hour(tmp_path: Path) -> None:
    slow = shape(("s", 60))
    made = world([Pair("app", "of-s", "s", lost(100, 101), every=60)], 6 * DAY)
    tickets = {(name, TICKET) for name in (BURN, PROVIDER, ROUTE_BURN, FAILING)}
    both = {(BURN, PAGE), (PROVIDER, PAGE)} | tickets
    firing(tmp_path, made, {100 * 60: set(), 101 * 60 + 60: both}, slow)


def test_mixed_intervals_have_windows_of_their_own(tmp_path: Path) -> None:
    mixed = shape(("fast", 15), ("slow", 360))
    pairs = [
        Pair("app", "of-fast", "fast", lost(400, 401)),
        Pair("app", "of-slow", "slow", lost(16), every=360),
    ]
    firing(tmp_path, world(pairs, 5 * DAY + 60), {401 * 15 + 20: {(BURN, PAGE), (PROVIDER, PAGE)}}, mixed)


def test_where_the_agent_pages_only_its_own_health_is_left(tmp_path: Path) -> None:
    agent = Shape(only_agent=True)
    assert {group["name"] for group in groups(agent)} == {"mailcanary-recordings", "mailcanary-agent"}
    firing(tmp_path, one(after(20, "spam")), {DAY - 1: set()}, agent)


def test_windows_of_one_canary_in_15_minutes() -> None:
    assert burns(4.0) == (
        Burn("critical", 21600.0, 3600.0, 6.0),
        Burn("warning", 86400.0, 21600.0, 3.0),
        Burn("warning", 259200.0, 86400.0, 1.0),
    )


@pytest.mark.parametrize("per_hour", [0.01, 0.1, 1, 2, 4, 7, 40, 48, 500, 10000])
def test_windows_hold_enough_canaries(per_hour: float) -> None:
    for burn in burns(per_hour):
        assert burn.short < burn.long
        if per_hour >= 1:
            assert per_hour * burn.short / 3600.0 >= 4 * 0.999
            assert per_hour * burn.long / 3600.0 * burn.factor * 0.01 > 1, "one canary must not be enough"


def test_durations() -> None:
    assert [duration(s) for s in (30, 90, 3600, 5400, 86400, 259200, 93784)] == [
        "30s", "1m30s", "1h", "1h30m", "1d", "3d", "1d2h3m4s",
    ]  # fmt: skip
