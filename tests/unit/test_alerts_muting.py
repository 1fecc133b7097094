"""Silences, maintenance windows across daylight saving, inhibition."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from alerts.causes import Scope, ScopeKind
from alerts.cron import last_start, parse_cron
from alerts.lifecycle import Alert, Member
from alerts.muting import Muting, Silence, in_maintenance, inhibited, maintenance_of, matches_any, muted
from alerts.settings import AlertKind, MaintenanceSettings, Match
from probes.errors import ConfigError
from probes.outcome import Severity

NOW = 1_800_000_000.0


def alert(*members: Member, kind: AlertKind = AlertKind.SPAM) -> Alert:
    named = {f"{m.sender}/{m.seed}/{m.zone}": m for m in members}
    return Alert("k", kind, Scope(ScopeKind.SENDER, "app"), NOW, severity=Severity.ERROR, members=named)


def route(sender: str, seed: str, provider: str, kind: AlertKind = AlertKind.SPAM) -> Member:
    return Member(kind, NOW, sender, seed, provider)


def at(text: str, zone: str = "Europe/Berlin") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


BOTH = alert(route("app", "g1", "gmail"), route("app", "y1", "yahoo"))


@pytest.mark.parametrize(
    ("match", "covered"),
    [
        (Match(), True),
        (Match(senders=("app",)), True),
        (Match(senders=("a*",)), True),
        (Match(providers=("gmail",)), False),  # half of it is not: people must hear of the other half
        (Match(providers=("gmail", "yahoo")), True),
        (Match(routes=("app/g1", "app/y1")), True),
        (Match(seeds=("g1",)), False),
        (Match(kinds=("spam",)), True),
        (Match(kinds=("missing",)), False),
        (Match(keys=("k",)), True),
        (Match(keys=("other",)), False),
        (Match(own=True), False),
        (Match(min_severity=Severity.CRITICAL), False),
        (Match(zones=("zen.example",)), False),
    ],
)
def test_a_silence_must_cover_the_whole_alert(match: Match, covered: bool) -> None:
    quiet = Muting([Silence("s1", match, NOW - 1, NOW + 1)])
    assert muted(BOTH, quiet, NOW) == ("silence s1" if covered else "")
    assert muted(BOTH, quiet, NOW + 1) == ""


def test_routing_is_satisfied_by_one_member() -> None:
    assert matches_any(Match(providers=("gmail",)), BOTH)
    assert not matches_any(Match(providers=("gmx",)), BOTH)


@pytest.mark.parametrize(
    ("cron", "inside", "outside"),
    [
        ("0 2 * * *", "2026-06-10T03:59", "2026-06-10T04:00"),
        ("30 22 * * fri", "2026-06-12T23:00", "2026-06-11T23:00"),
        ("30 23 * * *", "2026-06-13T01:29", "2026-06-13T01:30"),  # over midnight
        ("*/15 4-5 1,15 * *", "2026-06-15T06:00", "2026-06-16T05:00"),
        ("0 12 * jun-aug mon-fri", "2026-07-01T12:30", "2026-09-01T12:30"),
        ("0 1 13 * fri", "2026-06-13T01:00", "2026-06-11T01:00"),  # day or weekday, as cron has it
        ("0 0 * * 7", "2026-06-14T00:30", "2026-06-15T02:30"),
    ],
)
def test_cron_windows(cron: str, inside: str, outside: str) -> None:
    window = MaintenanceSettings("w", cron, 7200.0, "Europe/Berlin")
    assert in_maintenance(window, at(inside))
    assert not in_maintenance(window, at(outside))


def test_windows_keep_local_time_over_both_clock_changes() -> None:
    window = MaintenanceSettings("w", "30 2 * * *", 3600.0, "Europe/Berlin")
    assert in_maintenance(window, at("2026-01-10T02:45"))
    assert in_maintenance(window, at("2026-07-10T02:45"))
    spring = datetime(2026, 3, 29, 1, 45, tzinfo=UTC).timestamp()  # 02:30 does not exist: as if it did
    assert in_maintenance(window, spring)
    autumn = [datetime(2026, 10, 25, h, m, tzinfo=UTC).timestamp() for h, m in ((0, 45), (1, 15), (1, 45))]
    assert [in_maintenance(window, t) for t in autumn] == [True, True, False]


@pytest.mark.parametrize(
    ("cron", "says"),
    [
        ("0 2 * *", "has 4 fields"),
        ("60 2 * * *", "outside 0-59"),
        ("0 25 * * *", "outside 0-23"),
        ("0 2 * * noday", "not a number"),
        ("0 5-2 * * *", "outside"),
        ("*/0 * * * *", "outside"),
    ],
)
def test_bad_cron_says_what_is_wrong(cron: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_cron(cron)


def test_unknown_time_zone() -> None:
    with pytest.raises(ConfigError, match="IANA"):
        last_start(parse_cron("* * * * *"), "Mars/Olympus", NOW, 60.0)


def test_a_dated_window_and_what_pages_show() -> None:
    window = MaintenanceSettings("move", starts=NOW, ends=NOW + 60, match=Match(providers=("gmail",)))
    assert maintenance_of("app", "g1", "gmail", Muting((), (window,)), NOW + 30) == "move"
    assert maintenance_of("app", "y1", "yahoo", Muting((), (window,)), NOW + 30) == ""
    assert maintenance_of("app", "g1", "gmail", Muting((), (window,)), NOW + 60) == ""


def own(kind: AlertKind, **names: str) -> Alert:
    member = Member(kind, NOW, **names)
    return Alert(f"own-{kind}", kind, Scope(ScopeKind.OWN, f"{kind}/x"), NOW, members={"x": member})


@pytest.mark.parametrize(
    ("fault", "victim", "held"),
    [
        (
            own(AlertKind.RESOLVER),
            alert(Member(AlertKind.LISTED, NOW, zone="z"), kind=AlertKind.LISTED),
            True,
        ),
        (own(AlertKind.RESOLVER), BOTH, False),
        (own(AlertKind.SEED_UNREADABLE, seed="g1"), alert(route("app", "g1", "gmail")), True),
        (own(AlertKind.SEED_UNREADABLE, seed="g1"), BOTH, False),
        (own(AlertKind.SENDER_UNREACHABLE, sender="app"), BOTH, True),
        (own(AlertKind.CLOCK), alert(route("app", "g1", "gmail", AlertKind.MISSING)), True),
        (own(AlertKind.CLOCK), BOTH, False),
        (own(AlertKind.STORE), BOTH, True),
        (own(AlertKind.NO_RUNS), BOTH, False),
        (own(AlertKind.STORE), own(AlertKind.CLOCK), False),
    ],
)
def test_inhibition(fault: Alert, victim: Alert, held: bool) -> None:
    assert bool(inhibited(victim, [fault, victim])) is held
