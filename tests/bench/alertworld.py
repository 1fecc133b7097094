"""A simulated fleet with scripted incidents: what the alert engine is judged by, in simulated time."""

from __future__ import annotations

import random
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from alerts.engine import evaluate
from alerts.lifecycle import Alert, TransitionKind
from alerts.observation import CanaryResult, ListingSeen, Observation, RecordSeen, Reply
from alerts.rules import GOOD
from alerts.settings import RuleSet
from alerts.state import EngineState
from probes.outcome import Outcome, Placement

ROUND = 900.0
CHUNKS = 5
START = 1_800_000_000.0
REJECT = Reply(550, "5.7.1", "reputation", "message refused by local policy")


@dataclass
class Incident:
    """One scripted cause: which routes it hits, when, how, and what the engine should say."""

    name: str
    scope: str
    codes: tuple[str, ...]
    start: int
    rounds: int
    sender: str = ""
    seed: str = ""
    provider: str = ""
    placement: Placement = Placement.MISSING
    loss: float = 1.0
    auth: str = ""
    placements: dict[str, Placement] = field(default_factory=dict)
    listing: int | None = None
    drift: int | None = None
    first_true: int | None = None
    found: dict[str, int] = field(default_factory=dict)
    said: tuple[str, str] = ("", "")

    def hits(self, sender: str, seed: str, provider: str) -> bool:
        """Whether the route is affected."""
        mine = (self.sender or sender, self.seed or seed, self.provider or provider)
        return mine == (sender, seed, provider)

    def active(self, number: int) -> bool:
        """Whether it is on in that round."""
        return self.start <= number < self.start + self.rounds


@dataclass
class World:
    """Senders x seeds, with seeds spread over providers, a share of random single losses, and incidents."""

    senders: int = 20
    seeds: int = 30
    providers: int = 5
    loss: float = 0.01
    seed: int = 1
    incidents: list[Incident] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        per = self.seeds // self.providers
        self.routes = [
            (f"s{i:02}", f"p{j // per}-{j % per}", f"p{j // per}")
            for i in range(self.senders)
            for j in range(self.seeds)
        ]
        self.phase = {r: self.random.randrange(CHUNKS) for r in self.routes}

    def result(self, route: tuple[str, str, str], number: int, at: float) -> CanaryResult:
        """What becomes of one canary."""
        sender, seed, provider = route
        placement, auth = Placement.INBOX, {"spf": "pass", "dkim": "pass", "dmarc": "pass"}
        if self.random.random() < self.loss:
            placement = Placement.MISSING
        for incident in self.incidents:
            if not incident.active(number) or not incident.hits(*route):
                continue
            if incident.auth:
                auth[incident.auth], auth["dmarc"] = "fail", "fail"
            if self.random.random() < incident.loss and placement is not Placement.MISSING:
                placement = incident.placements.get(provider, incident.placement)
        lost = placement in (Placement.MISSING, Placement.REJECTED)
        good = placement is Placement.INBOX
        return CanaryResult(
            sender,
            seed,
            provider,
            at,
            Outcome.PASS if good else Outcome.FAIL,
            placement,
            sent_at=at - 60,
            authentication={} if lost else auth,
            latency=None if lost else 20 * self.random.lognormvariate(0, 0.5),
            reply=REJECT if placement is Placement.REJECTED else None,
        )

    def batches(self, rounds: int) -> Iterator[tuple[int, float, list[Observation]]]:
        """(round, now, observations) in order; missing is known most of a round later than rejected."""
        waiting: dict[int, list[Observation]] = defaultdict(list)
        by_phase: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
        for route in self.routes:
            by_phase[self.phase[route]].append(route)
        for step in range(rounds * CHUNKS):
            number, chunk = divmod(step, CHUNKS)
            now = START + step * ROUND / CHUNKS
            for route in by_phase[chunk]:
                found = self.result(route, number, now)
                waiting[step + (3 if found.placement is Placement.MISSING else 0)].append(found)
            if chunk == 0:
                waiting[step] += self._changes(number, now)
            yield number, now, waiting.pop(step, [])

    def _changes(self, number: int, now: float) -> Iterator[Observation]:
        for incident in self.incidents:
            index, sender = number - incident.start, incident.sender
            if (
                incident.listing is not None
                and incident.listing <= index <= incident.rounds
                and index % 4 == 0
            ):
                listed = index < incident.rounds - 3
                yield ListingSeen(f"ip-{sender}", "zen.example", listed, now, senders=(sender,))
            if incident.drift is not None and incident.drift <= index <= incident.rounds:
                name = f"TXT {sender}.example"
                yield RecordSeen(
                    f"{sender}.example", name, index < 0 or index >= incident.rounds, now, senders=(sender,)
                )


@dataclass
class Score:
    """What a run came to."""

    incidents: list[Incident]
    groups: dict[str, int]
    false_alerts: list[str]
    late: list[str]
    wrong: list[str]
    missed: list[str]
    pages: int
    per_route_pages: int
    canaries: int
    state: EngineState
    blocks: list[int]


class RouteRules:
    """The peer: one alert a route, after three failures in a row; over after two passes."""

    def __init__(self) -> None:
        self.recent: dict[str, str] = {}
        self.firing: set[str] = set()
        self.pages = 0

    def see(self, route: str, good: bool) -> bool:
        """Takes a result; True where three in a row have failed."""
        recent = (self.recent.get(route, "") + (GOOD if good else "x"))[-3:]
        self.recent[route] = recent
        if recent == "xxx" and route not in self.firing:
            self.firing.add(route)
            self.pages += 1
        elif recent.endswith(GOOD * 2):
            self.firing.discard(route)
        return recent == "xxx"


def run(world: World, rounds: int, rules: RuleSet | None = None) -> Score:
    """Plays the world through the engine and judges what it said."""
    state, rules, peer = EngineState(), rules or RuleSet(), RouteRules()
    false: list[str] = []
    owners: dict[str, Incident] = {}
    blocks: list[int] = []
    pages = canaries = 0
    for number, now, observations in world.batches(rounds):
        for seen in observations:
            if isinstance(seen, CanaryResult):
                canaries += 1
                if peer.see(f"{seen.sender}/{seen.seed}", seen.outcome is Outcome.PASS):
                    _first_true(world, seen, number)
        state, transitions = evaluate(state, observations, now, rules)
        for transition in transitions:
            alert = transition.alert
            if transition.kind is TransitionKind.FIRED and transition.notify:
                pages += 1
                owner = owners.get(alert.key) or _owner(world, alert, number)
                if owner is None:
                    false.append(f"round {number}: {alert.scope} {alert.code} {len(alert.members)} members")
                    continue
                owners[alert.key] = owner
                owner.found.setdefault(alert.key, number)
            if (owner := owners.get(alert.key)) and not alert.ended_by.startswith("part of"):
                owner.said = (str(alert.scope), alert.code)
        if number % 96 == 95:
            blocks.append(sys.getallocatedblocks())
    return _score(world, (false, pages, peer.pages, canaries), state, blocks)


def _first_true(world: World, seen: CanaryResult, number: int) -> None:
    for incident in world.incidents:
        grown = incident.start + 2 <= number < incident.start + incident.rounds
        if incident.first_true is None and grown and incident.hits(seen.sender, seen.seed, seen.provider):
            incident.first_true = number


def _owner(world: World, alert: Alert, number: int) -> Incident | None:
    best: tuple[float, Incident] | None = None
    for incident in world.incidents:
        lead = min(incident.drift or 0, incident.listing or 0)
        if not incident.start + lead <= number <= incident.start + incident.rounds + 3:
            continue
        members = list(alert.members.values())
        routes = [m for m in members if m.seed]
        shared = sum(incident.hits(m.sender, m.seed, m.provider) for m in routes)
        shared += sum(bool(m.sender) and m.sender == incident.sender for m in members if not m.seed)
        if shared * 2 >= len(members) and (best is None or shared / _size(world, incident) > best[0]):
            best = (shared / _size(world, incident), incident)
    return best[1] if best else None


def _size(world: World, incident: Incident) -> int:
    return sum(incident.hits(*r) for r in world.routes)


def _score(
    world: World, counts: tuple[list[str], int, int, int], state: EngineState, blocks: list[int]
) -> Score:
    late, wrong, missed = [], [], []
    for incident in world.incidents:
        if not incident.found:
            missed.append(incident.name)
            continue
        if incident.first_true is not None and min(incident.found.values()) > incident.first_true + 2:
            late.append(f"{incident.name}: {min(incident.found.values())} after {incident.first_true}")
        if incident.said[0] != incident.scope or incident.said[1] not in incident.codes:
            wrong.append(f"{incident.name}: {incident.said}, expected {incident.scope} {incident.codes}")
    groups = {i.name: len(i.found) for i in world.incidents}
    false, pages, peer_pages, canaries = counts
    return Score(
        world.incidents, groups, false, late, wrong, missed, pages, peer_pages, canaries, state, blocks
    )


def script(rounds: int, count: int, seed: int = 7) -> list[Incident]:
    """Incidents of every cause kind at several scales, spread over the rounds, some of them overlapping."""
    rng = random.Random(seed)
    found: list[Incident] = []
    free = rng.sample(range(20), 20)
    for index in range(count):
        start = 20 + int(index * (rounds - 80) / count) + rng.randrange(4)
        if index % 6 in (1, 4):
            start = found[-1].start + rng.randrange(3)  # begins with another: they overlap
        provider = rng.randrange(5)
        if found and found[-1].provider == f"p{provider}":
            provider = (provider + 1) % 5  # one inside the other could not be told apart by anybody
        found.append(_incident(index, start, rng, f"s{free[index % 20]:02}", f"p{provider}"))
    return found


def _incident(index: int, start: int, rng: random.Random, sender: str, provider: str) -> Incident:
    number = rng.randrange(6)
    rounds = rng.randrange(10, 40)
    spam, rejected = Placement.SPAM, Placement.REJECTED
    make = {
        0: lambda n: Incident(
            n, f"seed:{provider}-{number}", ("seed",), start, rounds, "", f"{provider}-{number}", provider
        ),
        1: lambda n: Incident(
            n,
            f"sender:{sender}",
            ("dkim",),
            start,
            rounds,
            sender,
            auth="dkim",
            placement=Placement.INBOX,
            placements={"p0": spam, "p1": spam, "p2": spam},
        ),
        2: lambda n: Incident(
            n, f"sender:{sender}", ("listed",), start, rounds, sender, placement=rejected, listing=-4
        ),
        3: lambda n: Incident(
            n,
            f"sender-provider:{sender}/{provider}",
            ("policy",),
            start,
            rounds,
            sender,
            provider=provider,
            placement=rejected,
        ),
        4: lambda n: Incident(
            n, f"sender:{sender}", ("dns",), start, rounds, sender, auth="spf", placement=spam, drift=-2
        ),
        5: lambda n: Incident(n, f"provider:{provider}", ("provider",), start, rounds, provider=provider),
        6: lambda n: Incident(n, f"sender:{sender}", ("relay",), start, rounds, sender, loss=0.6),
        7: lambda n: Incident(
            n,
            f"sender-provider:{sender}/{provider}",
            ("reputation",),
            start,
            rounds,
            sender,
            provider=provider,
            placement=spam,
        ),
        8: lambda n: Incident(n, "all", ("us_or_relay",), start, rounds),
        9: lambda n: Incident(
            n,
            f"route:{sender}/{provider}-{number}",
            ("route",),
            start,
            rounds,
            sender,
            f"{provider}-{number}",
            provider,
        ),
        10: lambda n: Incident(
            n,
            f"provider:{provider}",
            ("provider",),
            start,
            rounds,
            provider=provider,
            placement=spam,
            loss=0.5,
        ),
        11: lambda n: Incident(
            n, f"sender:{sender}", ("listed",), start, rounds, sender, placement=rejected, listing=4
        ),
    }
    kind = index % len(make)
    return make[kind](f"{index}-kind{kind}")
