"""G9: thirty days in which only we ourselves are at fault page nobody about mail. Simulated time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from alerts.engine import evaluate
from alerts.lifecycle import Transition
from alerts.observation import CanaryResult, Expected, ListingSeen, Observation, OwnState, RecordSeen
from alerts.settings import AlertKind, RuleSet
from alerts.state import EngineState, from_json, to_json
from probes.outcome import Outcome, Placement
from tests.guarantees.claim import Guarantee, Tally

START = 1_800_000_000.0
ROUND = 900.0
ROUNDS = 30 * 96
SENDERS = tuple(f"s{n}" for n in range(6))
SEEDS = {f"{provider}-{n}": provider for provider in ("gmail", "yahoo", "gmx") for n in range(3)}
Blind = Callable[[CanaryResult], bool]


@dataclass
class Fault:
    """A fault of our own over some rounds: whose results it makes unknown, what the agent says of itself."""

    kind: str
    until: int
    blind: Blind = lambda _result: False
    says: tuple[OwnState, ...] = ()
    silent: bool = False
    """No canary is sent at all."""
    stopped: bool = False
    """Nothing is evaluated either: the agent does not run."""


@dataclass
class Life:
    """One agent over thirty days."""

    chance: random.Random
    state: EngineState = field(default_factory=EngineState)
    seen: list[Transition] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def live(self) -> None:
        """Every round: results as far as we can see, and what we say of ourselves."""
        for number in range(ROUNDS):
            now = START + number * ROUND
            ended = [fault for fault in self.faults if fault.until <= number]
            self.faults = [fault for fault in self.faults if fault.until > number]
            if self.chance.random() < 0.06:
                self.faults.append(self._fault(number, now))
            if any(fault.stopped for fault in self.faults):
                continue
            if any(fault.stopped for fault in ended):
                self.state = from_json(to_json(self.state))
            over = [replace(state, ok=True, at=now) for fault in ended for state in fault.says]
            current = [replace(state, at=now) for fault in self.faults for state in fault.says]
            self._tell([*over, *current, *self._results(now), *self._watched(now)], now)

    def _fault(self, number: int, now: float) -> Fault:
        kind = self.chance.choice(
            ("seed", "provider", "sender", "resolver", "clock", "store", "stop", "limit")
        )
        until = number + self.chance.choice((1, 1, 2, 4, 12, 48))
        self.kinds.add(kind)
        seed, sender = self.chance.choice(list(SEEDS)), self.chance.choice(SENDERS)
        provider = SEEDS[seed]
        if kind == "seed":
            return Fault(kind, until, lambda r: r.seed == seed, (_own(AlertKind.SEED_UNREADABLE, seed, now),))
        if kind == "provider":
            names = [name for name, there in SEEDS.items() if there == provider]
            says = tuple(_own(AlertKind.SEED_UNREADABLE, name, now) for name in names)
            return Fault(kind, until, lambda r: r.provider == provider, says)
        if kind == "sender":
            says = (_own(AlertKind.SENDER_UNREACHABLE, sender, now),)
            return Fault(kind, until, lambda r: r.sender == sender, says)
        if kind == "resolver":
            return Fault(kind, until, says=(_own(AlertKind.RESOLVER, "192.0.2.53", now),))
        if kind == "clock":
            return Fault(kind, number + 1, lambda _r: True, (_own(AlertKind.CLOCK, "wall clock", now),))
        if kind == "store":
            return Fault(kind, until, says=(_own(AlertKind.STORE, "mailcanary.db", now),), silent=True)
        return Fault(kind, until, silent=True, stopped=kind == "stop")

    def _results(self, now: float) -> list[Observation]:
        if any(fault.silent for fault in self.faults):
            return []
        return [self._result(sender, seed, now) for sender in SENDERS for seed in SEEDS]

    def _result(self, sender: str, seed: str, now: float) -> CanaryResult:
        latency = self.chance.lognormvariate(1.0, 0.4)
        good = CanaryResult(
            sender, seed, SEEDS[seed], now, Outcome.PASS, Placement.INBOX, sent_at=now - 60, latency=latency
        )
        if any(fault.blind(good) for fault in self.faults):
            return replace(good, outcome=Outcome.UNKNOWN, placement=Placement.UNKNOWN, latency=None)
        return good

    def _watched(self, now: float) -> list[Observation]:
        """A list and a record, which nobody can look at while the resolver is dead."""
        dead = any(fault.kind == "resolver" for fault in self.faults)
        return [
            ListingSeen("192.0.2.1", "zen.example", None if dead else False, now, senders=SENDERS[:1]),
            RecordSeen("acme.example", "TXT acme.example", None if dead else True, now, senders=SENDERS[:1]),
        ]

    def _tell(self, observations: list[Observation], now: float) -> None:
        self.state, found = evaluate(self.state, observations, now, RuleSet(), None, Expected(START, ROUND))
        self.seen += found


def _own(kind: AlertKind, subject: str, now: float) -> OwnState:
    return OwnState(kind, subject, False, now, provider=SEEDS.get(subject, ""))


async def part(_folder: Path, number: int) -> Tally:
    """One life of thirty days."""
    life = Life(random.Random(number))
    life.live()
    told = [transition for transition in life.seen if transition.notify]
    tally = Tally(trials=30)
    for transition in told:
        tally.check(transition.alert.own, f"{transition.kind} {transition.alert.key}")
    own = {str(t.alert.kind) for t in told if t.alert.own}
    tally.check(len(own) >= 5, f"our own faults were told of only as {own}")
    tally.figures = {"own alerts in 30 days": len({t.alert.key for t in told})}
    return tally


PROMISE = "days of faults on our own side only, with an alert about mail"
GUARANTEE = Guarantee("G9", PROMISE, "days", 30 * 40, 30, part)


async def test_thirty_days_of_our_own_faults_page_nobody_about_mail(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
