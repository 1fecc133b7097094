"""From observations to transitions: one alert per cause, its life, its key, its memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from alerts import codec
from alerts import state as states
from alerts.engine import acknowledge, evaluate
from alerts.lifecycle import Alert, AlertState, Transition, TransitionKind
from alerts.muting import Muting, Silence
from alerts.observation import (
    CanaryResult,
    ListingSeen,
    Observation,
    OwnState,
    RecordSeen,
    Reply,
    observation_from_json,
    observation_to_json,
)
from alerts.settings import AlertKind, Match, RuleSet, RuleSettings
from alerts.state import EngineState
from probes.outcome import Outcome, Placement, Severity
from tests.bench.alertworld import Incident, World, run

T0 = 1_800_000_000.0
STEP = 900.0
SENDERS = ("app", "shop", "bill", "news")
SEEDS = tuple((f"{p}-{i}", p) for p in ("gmail", "yahoo", "gmx") for i in (1, 2, 3))
RULES = RuleSet()


class Fleet:
    """Four senders, three providers of three seeds; `fail` says what goes wrong this round."""

    def __init__(self, rules: RuleSet = RULES) -> None:
        self.state, self.now, self.rules = EngineState(), T0, rules
        self.muting = Muting()
        self.seen: list[Transition] = []
        for _ in range(6):
            self.round()

    def round(
        self, fail: Iterable[CanaryResult] = (), *extra: Observation, quiet: bool = False
    ) -> list[Transition]:
        self.now += STEP
        failed = {(r.sender, r.seed): replace(r, at=self.now, sent_at=self.now - 60) for r in fail}
        good = [
            CanaryResult(s, d, p, self.now, Outcome.PASS, Placement.INBOX, sent_at=self.now - 60)
            for s in SENDERS
            for d, p in SEEDS
            if (s, d) not in failed
        ]
        batch = [] if quiet else [*good, *failed.values()]
        return self.tell(*batch, *extra)

    def tell(self, *observations: Observation, after: float = 0.0) -> list[Transition]:
        self.now += after
        self.state, found = evaluate(self.state, observations, self.now, self.rules, self.muting)
        self.seen += found
        return found

    def told(self) -> list[tuple[str, str]]:
        return [(str(t.kind), str(t.alert.scope)) for t in self.seen if t.notify]

    def only(self) -> Alert:
        (alert,) = self.state.firing()
        return alert


def failing(
    senders: Iterable[str] = SENDERS,
    providers: Iterable[str] = ("gmail", "yahoo", "gmx"),
    placement: Placement = Placement.MISSING,
    seeds: Iterable[str] | None = None,
    **more: object,
) -> list[CanaryResult]:
    wanted = [(d, p) for d, p in SEEDS if p in providers and (seeds is None or d in seeds)]
    found = [CanaryResult(s, d, p, 0.0, Outcome.FAIL, placement) for s in senders for d, p in wanted]
    return [replace(r, **more) for r in found]  # type: ignore[arg-type]


def test_one_sender_everywhere_is_one_alert_about_the_sender() -> None:
    fleet = Fleet()
    for _ in range(3):
        fleet.round(failing(["app"]))
    alert = fleet.only()
    assert (str(alert.scope), alert.kind, alert.code, len(alert.members)) == (
        "sender:app",
        "missing",
        "relay",
        9,
    )
    assert alert.severity is Severity.CRITICAL
    assert alert.started == T0 + 7 * STEP - 60, "since the first failure was sent"
    for _ in range(3):
        fleet.round()
    assert fleet.told() == [("fired", "sender:app"), ("resolved", "sender:app")]


def test_each_shape_names_its_scope() -> None:
    shapes = {
        "seed:gmail-2": failing(seeds=["gmail-2"]),
        "provider:yahoo": failing(providers=["yahoo"]),
        "sender-provider:shop/gmx": failing(["shop"], ["gmx"]),
        "route:bill/gmail-1": failing(["bill"], seeds=["gmail-1"]),
        "all": failing(),
        "sender:news": failing(["news"], ["gmail", "gmx"]),
    }
    for scope, broken in shapes.items():
        fleet = Fleet()
        for _ in range(4):
            fleet.round(broken)
        assert fleet.told() == [("fired", scope)]


def test_senders_that_share_a_relay_point_at_the_relay() -> None:
    fleet = Fleet()
    shared = [
        CanaryResult(
            s, d, p, fleet.now, Outcome.PASS, Placement.INBOX, relay="mx1" if s in ("app", "shop") else "mx2"
        )
        for s in SENDERS
        for d, p in SEEDS
    ]
    fleet.tell(*shared)
    for _ in range(3):
        fleet.round(failing(["app", "shop"], relay="mx1"), *shared[18:], quiet=False)
    assert str(fleet.only().scope) == "relay:mx1"


def test_two_causes_at_once_are_two_alerts() -> None:
    fleet = Fleet()
    for _ in range(4):
        fleet.round({(r.sender, r.seed): r for r in failing(["app"]) + failing(seeds=["gmx-3"])}.values())
    assert sorted(str(a.scope) for a in fleet.state.firing()) == ["seed:gmx-3", "sender:app"]


def test_three_lone_failures_are_not_a_page_in_a_noisy_fleet() -> None:
    fleet = Fleet()
    fleet.state = replace(fleet.state, noise=states.Noise(lone=400.0, judged=40_000.0))
    for number in range(4):
        fleet.round(failing(["app"], seeds=["gmail-1"]))
        assert bool(fleet.told()) is (number == 3)


def test_unknown_neither_fires_nor_resolves() -> None:
    fleet = Fleet()
    unknown = failing(["app"], placement=Placement.UNKNOWN, outcome=Outcome.UNKNOWN)
    for _ in range(10):
        fleet.round(unknown)
    assert fleet.told() == []
    for _ in range(3):
        fleet.round(failing(["app"]))
    for _ in range(10):
        fleet.round(unknown)
    assert next(str(t.kind) for t in fleet.seen if t.notify) == "fired"
    assert fleet.only().state is AlertState.FIRING


def test_a_rejection_at_one_provider_carries_the_reply() -> None:
    fleet = Fleet()
    reply = Reply(550, "5.7.26", "unauthenticated", "Your email has been blocked")
    for _ in range(3):
        fleet.round(failing(["app"], ["gmail"], Placement.REJECTED, outcome=Outcome.FAIL, reply=reply))
    alert = fleet.only()
    assert (alert.code, alert.kind) == ("policy", "rejected")
    member = alert.members["app/gmail-1"]
    assert member.reply == '550 5.7.26 (unauthenticated) "Your email has been blocked"'


LISTED = ListingSeen(
    "192.0.2.1", "zen.example", True, 0.0, Severity.ERROR, "SBL", "https://x.example/", ("app",)
)


def test_a_listing_that_began_first_becomes_part_of_the_incident() -> None:
    fleet = Fleet()
    fleet.round((), replace(LISTED, at=fleet.now))
    assert fleet.told() == [("fired", "subject:192.0.2.1")]
    key, listed_at = fleet.only().key, fleet.only().started
    for _ in range(4):
        fleet.round(failing(["app"], placement=Placement.REJECTED), replace(LISTED, at=fleet.now))
    alert = fleet.only()
    assert (alert.key, str(alert.scope), alert.code) == (key, "sender:app", "listed")
    assert [(c.code, c.at) for c in alert.causes] == [("listed", listed_at)]
    assert {k for k, _ in fleet.told()} == {"fired", "updated"}
    fleet.round((), replace(LISTED, at=fleet.now))
    fleet.round((), replace(LISTED, at=fleet.now))
    assert fleet.only().key == key, "mail passes again, but the listing goes on"
    fleet.round((), replace(LISTED, at=fleet.now, listed=False))
    assert fleet.told()[-1] == ("resolved", "sender:app")


def test_a_listing_found_during_an_incident_is_attached_and_does_not_page() -> None:
    fleet = Fleet()
    for _ in range(4):
        fleet.round(failing(["app"], placement=Placement.REJECTED))
    before = len(fleet.told())
    fleet.round(failing(["app"], placement=Placement.REJECTED), replace(LISTED, at=fleet.now))
    assert fleet.only().code == "listed"
    assert [k for k, _ in fleet.told()[before:]] in ([], ["updated"])
    assert len({t.alert.key for t in fleet.seen if t.notify}) == 1


def test_a_listed_range_is_not_a_page_for_each_address() -> None:
    fleet = Fleet()
    many = [replace(LISTED, subject=f"192.0.2.{i}", senders=(f"other-{i}",), at=fleet.now) for i in range(40)]
    fleet.tell(*many)
    fleet.tell(*many, after=3600)
    assert len({t.alert.key for t in fleet.seen if t.notify and not t.alert.own}) <= 3
    assert sum(len(a.members) for a in fleet.state.firing() if not a.own) == 40


def test_another_senders_listing_is_not_the_cause() -> None:
    fleet = Fleet()
    other = replace(LISTED, senders=("news",))
    for _ in range(4):
        fleet.round(failing(["app"]), replace(other, at=fleet.now))
    assert sorted(str(a.scope) for a in fleet.state.firing()) == ["sender:app", "subject:192.0.2.1"]


def test_record_drift_and_authentication_are_the_cause_with_their_times() -> None:
    fleet = Fleet()
    drift = RecordSeen(
        "app.example", "TXT app.example", False, fleet.now, before="v=spf1 a", senders=("app",)
    )
    fleet.round((), replace(drift, at=fleet.now))
    verdicts = {"spf": "fail", "dkim": "pass", "dmarc": "fail"}
    for _ in range(4):
        fleet.round(
            failing(["app"], placement=Placement.SPAM, authentication=verdicts), replace(drift, at=fleet.now)
        )
    alert = fleet.only()
    assert (str(alert.scope), alert.code) == ("sender:app", "dns")
    assert [c.code for c in alert.causes] == ["dns", "spf"]


def test_broken_dkim_that_still_reaches_the_inbox_in_places_is_one_alert() -> None:
    fleet = Fleet()
    bad = {"spf": "pass", "dkim": "fail", "dmarc": "pass"}
    inbox = failing(["app"], ["gmx"], Placement.INBOX, outcome=Outcome.PASS, authentication=bad)
    spam = failing(["app"], ["gmail", "yahoo"], Placement.SPAM, authentication=bad)
    for _ in range(3):
        fleet.round([*inbox, *spam])
    alert = fleet.only()
    assert (str(alert.scope), alert.code, len(alert.members)) == ("sender:app", "dkim", 9)


def test_a_sender_that_becomes_slow_is_told_against_its_own_baseline() -> None:
    fleet = Fleet()
    usual = failing(placement=Placement.INBOX, outcome=Outcome.PASS, latency=30.0)
    for _ in range(25):
        fleet.round(usual)
    assert fleet.told() == []
    for _ in range(4):
        slow = failing(["app"], placement=Placement.INBOX, outcome=Outcome.PASS, latency=400.0)
        fleet.round([*usual, *slow])
    alert = fleet.only()
    assert (str(alert.scope), alert.kind, alert.code) == ("sender:app", "slow", "slow")
    assert alert.members["app/gmail-1"].text == "took 400 s"


def test_partial_rules_keep_the_defaults_of_the_rest() -> None:
    fleet = Fleet(RuleSet({AlertKind.MISSING: RuleSettings(failure_threshold=1)}))
    fleet.round(failing(["app"], seeds=["gmail-1"]))
    assert fleet.told() == [("fired", "route:app/gmail-1")], "asked for in so many words"


def test_an_incident_grows_and_keeps_its_key() -> None:
    fleet = Fleet()
    for _ in range(3):
        fleet.round(failing(["app"], ["gmail"]))
    key = fleet.only().key
    for _ in range(4):
        fleet.round(failing(["app"]))
    assert (fleet.only().key, str(fleet.only().scope)) == (key, "sender:app")
    assert [k for k, _ in fleet.told()].count("fired") == 1


def test_own_faults_are_their_own_class_and_group_by_provider() -> None:
    fleet = Fleet()
    for index in range(4):
        fleet.round((), *_unreadable(fleet.now), quiet=index < 0)
    alert = fleet.only()
    assert (alert.own, alert.kind, str(alert.scope)) == (True, "seed_unreadable", "own:seed_unreadable/gmail")
    assert len(alert.members) == 3
    fleet.round((), *[replace(o, ok=True, at=fleet.now) for o in _unreadable(fleet.now)])
    fleet.round((), *[replace(o, ok=True, at=fleet.now) for o in _unreadable(fleet.now)])
    assert fleet.told() == [("fired", "own:seed_unreadable/gmail"), ("resolved", "own:seed_unreadable/gmail")]


def _unreadable(now: float) -> list[OwnState]:
    return [
        OwnState(AlertKind.SEED_UNREADABLE, d, False, now, "login_refused", "AUTHENTICATIONFAILED", p)
        for d, p in SEEDS[:3]
    ]


def test_a_short_own_fault_is_never_told() -> None:
    fleet = Fleet()
    fleet.tell(OwnState(AlertKind.RESOLVER, "r1", False, fleet.now))
    assert [t.kind for t in fleet.seen] == [TransitionKind.PENDING]
    fleet.tell(OwnState(AlertKind.RESOLVER, "r1", True, fleet.now + 60), after=60)
    fleet.tell(after=200)
    assert fleet.told() == []
    assert fleet.state.conditions == {}


def test_a_dead_resolver_holds_back_listings() -> None:
    fleet = Fleet()
    fleet.tell(OwnState(AlertKind.RESOLVER, "r1", False, fleet.now), replace(LISTED, at=fleet.now))
    fleet.tell(after=400)
    assert fleet.told() == [("fired", "own:resolver/r1")]
    fleet.tell(OwnState(AlertKind.RESOLVER, "r1", True, fleet.now))
    fleet.tell(OwnState(AlertKind.RESOLVER, "r1", True, fleet.now), after=60)
    fleet.tell(after=60)
    assert ("fired", "subject:192.0.2.1") in fleet.told()


def test_no_runs_is_found_by_the_clock_alone() -> None:
    fleet = Fleet()
    fleet.tell(after=3500)
    assert fleet.told() == []
    fleet.tell(after=200)
    assert fleet.told() == [("fired", "own:no_runs/canaries")]
    fleet.round()
    fleet.tell(after=60)
    assert fleet.told()[-1] == ("resolved", "own:no_runs/canaries")


def test_a_relapse_reopens_and_flapping_is_damped() -> None:
    fleet = Fleet()
    for _ in range(6):
        for _ in range(3):
            fleet.round(failing(["app"]))
        for _ in range(3):
            fleet.round()
    fired = [t for t in fleet.seen if t.notify and t.kind is TransitionKind.FIRED]
    assert len({t.alert.key for t in fired}) == 1
    assert len(fired) <= 3, "after two relapses it stays open until two good hours have passed"
    for _ in range(10):
        fleet.round()
    assert fleet.told()[-1] == ("resolved", "sender:app")


def test_reminders_have_a_cap_and_stop_when_acknowledged() -> None:
    fleet = Fleet(replace(RULES, max_reminders=3))
    for _ in range(100):
        fleet.round(failing(["app"]))
    assert [k for k, _ in fleet.told()].count("reminder") == 3
    fleet = Fleet()
    for _ in range(4):
        fleet.round(failing(["app"]))
    fleet.state, found = acknowledge(fleet.state, fleet.only().key, "ann", fleet.now)
    assert [(t.kind, t.notify) for t in found] == [(TransitionKind.ACKNOWLEDGED, True)]
    for _ in range(60):
        fleet.round(failing(["app"]))
    assert [k for k, _ in fleet.told()] == ["fired"]
    assert acknowledge(fleet.state, "nothing", "ann", fleet.now)[1] == []


def test_a_silenced_alert_is_told_when_the_silence_ends_and_not_resolved_if_never_told() -> None:
    fleet = Fleet()
    fleet.muting = Muting([Silence("s1", Match(senders=("app",)), T0, T0 + 13 * STEP)])
    for _ in range(6):
        fleet.round(failing(["app"]))
    assert fleet.told() == []
    assert fleet.only().muted == "silence s1"
    fleet.round(failing(["app"]))
    assert fleet.told() == [("fired", "sender:app")]
    assert fleet.seen[-1].note == "still failing after silence s1"
    quiet = Fleet()
    quiet.muting = Muting([Silence("s2", Match(), T0, T0 + 99 * STEP)])
    for _ in range(6):
        quiet.round(failing(["app"]))
    for _ in range(4):
        quiet.round()
    assert quiet.told() == []
    assert [t.kind for t in quiet.seen][-1] is TransitionKind.RESOLVED


def test_a_told_alert_that_is_then_silenced_still_closes_its_page() -> None:
    fleet = Fleet()
    for _ in range(4):
        fleet.round(failing(["app"]))
    fleet.muting = Muting([Silence("s1", Match(), T0, T0 + 99 * STEP)])
    fleet.round(failing(["app"]))
    for _ in range(4):
        fleet.round()
    assert fleet.told() == [("fired", "sender:app"), ("resolved", "sender:app")]


def test_severity_only_rises() -> None:
    fleet = Fleet()
    for _ in range(3):
        fleet.round(failing(["app"], seeds=["gmail-1"]))
    assert fleet.only().severity is Severity.ERROR
    for _ in range(4):
        fleet.round(failing(["app"]))
    assert fleet.only().severity is Severity.CRITICAL
    fleet.round(failing(["app"], seeds=["gmail-1"]))
    fleet.round(failing(["app"], seeds=["gmail-1"]))
    assert fleet.only().severity is Severity.CRITICAL
    assert len({t.alert.key for t in fleet.seen}) == 1


def test_the_same_facts_give_the_same_answer_also_after_a_restart() -> None:
    a, b = Fleet(), Fleet()
    for number in range(8):
        broken = failing(["app"]) if number < 4 else []
        b.state = states.from_json(states.to_json(b.state))
        first, second = a.round(broken, replace(LISTED, at=a.now)), b.round(broken, replace(LISTED, at=b.now))
        assert first == second
        assert states.rows(a.state) == states.rows(b.state)


def test_changed_rows_are_exactly_what_a_store_must_write() -> None:
    fleet = Fleet()
    stored = states.rows(fleet.state)
    for number in range(8):
        old = fleet.state
        fleet.round(failing(["app"]) if number < 4 else [], replace(LISTED, at=fleet.now, listed=number < 5))
        write, delete = states.changed_rows(old, fleet.state)
        stored |= write
        for key in delete:
            del stored[key]
        assert stored == states.rows(fleet.state)
        assert states.changed_rows(fleet.state, fleet.state) == ({}, [])
    one = replace(failing(["app"])[0], at=fleet.now)
    write, _ = states.changed_rows(fleet.state, evaluate(fleet.state, [one], fleet.now, RULES)[0])
    assert set(write) <= {"cell app/gmail-1", "engine"}


def test_a_route_that_leaves_the_config_leaves_its_alert() -> None:
    fleet = Fleet()
    for _ in range(4):
        fleet.round(failing(["app"]))
    kept = frozenset((s, d) for s in SENDERS[1:] for d, _ in SEEDS)
    fleet.state = states.retain(fleet.state, kept)
    fleet.tell(replace(LISTED, at=fleet.now, senders=("shop",)))
    assert fleet.told()[-2:] == [("resolved", "sender:app"), ("fired", "subject:192.0.2.1")]
    fleet.state = states.retain(fleet.state, kept, lambda c: c.subject != "192.0.2.1")
    fleet.tell()
    assert fleet.told()[-1] == ("resolved", "subject:192.0.2.1")


def test_transitions_go_through_json() -> None:
    fleet = Fleet()
    for _ in range(3):
        fleet.round(failing(["app"]), replace(LISTED, at=fleet.now))
    assert [codec.from_json(Transition, codec.to_json(t)) for t in fleet.seen] == fleet.seen


def test_observations_go_through_json() -> None:
    facts: list[Observation] = [
        replace(failing(["app"])[0], reply=Reply(550, "5.7.1"), authentication={"dkim": "fail"}),
        LISTED,
        RecordSeen("d", "TXT d", None, 1.0),
        OwnState(AlertKind.STORE, "db", False, 2.0),
    ]
    assert [observation_from_json(observation_to_json(f)) for f in facts] == facts


def test_memory_does_not_grow() -> None:
    fleet = Fleet()
    sizes = []
    for day in range(12):
        for number in range(24):
            fleet.round(failing([SENDERS[day % 4]]) if number < 5 else [])
        sizes.append(len(states.to_json(fleet.state)))
    assert max(sizes[3:]) <= 1.05 * max(sizes[:3])


def test_quick_scenarios_find_each_cause_once() -> None:
    """A day of 20 x 30 with 1 percent random losses and one incident of each shape, some overlapping."""
    spam, rejected = Placement.SPAM, Placement.REJECTED
    incidents = [
        Incident("seed", "seed:p1-2", ("seed",), 8, 12, seed="p1-2"),
        Incident(
            "policy", "sender-provider:s03/p4", ("policy",), 9, 12, "s03", provider="p4", placement=rejected
        ),
        Incident("dkim", "sender:s07", ("dkim",), 30, 12, "s07", auth="dkim", placement=spam),
        Incident("provider", "provider:p2", ("provider",), 50, 12, provider="p2", loss=0.7),
        Incident("listed", "sender:s11", ("listed",), 68, 12, "s11", placement=rejected, listing=-4),
        Incident("all", "all", ("us_or_relay",), 86, 8),
    ]
    score = run(World(incidents=incidents, seed=5), 106)
    assert score.missed == []
    assert score.false_alerts == []
    assert score.late == []
    assert score.wrong == []
    assert score.groups == dict.fromkeys(("seed", "policy", "dkim", "provider", "listed", "all"), 1)


def test_thirty_days_of_our_own_faults_page_nobody_about_mail() -> None:
    """G9, quick form: unreadable seeds, dead relay, resolver, clock and store, and no runs, in turn."""
    fleet = Fleet()
    day = 0
    own = [k for k in AlertKind if k.own and k is not AlertKind.NO_RUNS]
    for day in range(30):
        kind = own[day % len(own)]
        blind = failing(placement=Placement.UNKNOWN, outcome=Outcome.UNKNOWN)
        for hour in range(24):
            bad = 4 <= hour < 9
            fleet.now += 3600 - STEP
            subject = {"seed_unreadable": "gmail-1", "sender_unreachable": "app"}.get(kind, str(kind))
            dns = replace(LISTED, at=fleet.now, listed=None if bad else False)
            fault = OwnState(kind, subject, not bad, fleet.now, provider="gmail" if "seed" in kind else "")
            fleet.round(blind if bad else (), fault, dns, quiet=day % 7 == 6 and bad)
    assert all(t.alert.own for t in fleet.seen if t.notify)
    assert {t.alert.kind for t in fleet.seen if t.notify} >= set(own) - {AlertKind.NO_RUNS}
    assert not [a for a in fleet.state.firing() if a.started < fleet.now - 86400]
