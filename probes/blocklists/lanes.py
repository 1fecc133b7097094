"""The pairs of one zone within a sweep: where it stands, what is provisional and what is final.

A pair costs five bytes: one for its state, four for the time until which its answer holds.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from probes.blocklists.catalogue import Kind, Zone
from probes.blocklists.engine import CLEAN
from probes.blocklists.health import ZoneHealth
from probes.blocklists.judge import Reason, Verdict, judge
from probes.blocklists.query import Subject, registrable
from probes.blocklists.wire import subject_labels, zone_suffix
from probes.dns import DnsAnswer
from probes.outcome import Outcome

MAX_TTL = 86_400.0  # seconds for which an answer is believed at most
MAX_VERDICTS = 1000  # different answers of a zone whose verdict is kept ready
DEFINITE = frozenset({Reason.LISTED, Reason.NOT_LISTED, Reason.NEUTRAL, Reason.ALLOW_LISTED})

_STATES = {reason: number for number, reason in enumerate(Reason, 16)}  # 0: not asked, 1: CLEAN, provisional
_REASONS = {number: reason for reason, number in _STATES.items()}
_DOUBTFUL = tuple(number for reason, number in _STATES.items() if reason not in DEFINITE)
_NOT_LISTED = bytes([_STATES[Reason.NOT_LISTED]])

Confirmed = Callable[[Subject, Zone, Verdict], None]


@dataclass(slots=True, eq=False)
class ZoneLane:
    """The pairs of one zone and one kind of subject, in the order of the subjects.

    next: the first pair not asked yet; confirmed: below this everything is final; end: how many there are in
    this round. order: the positions asked in this round, where not all are. followed: positions whose verdict
    is told whatever it is. carried: what an earlier process had found in this round, by reason.
    """

    zone: Zone
    kind: Kind
    subjects: Sequence[Subject]
    prefixes: Sequence[bytes]
    suffix: bytes = field(init=False)
    rate: float | None = field(init=False)
    state: bytearray = field(init=False)
    until: array[int] = field(init=False)
    next: int = 0
    end: int = field(init=False)
    confirmed: int = 0
    failures: int = 0
    health: ZoneHealth | None = None
    order: Sequence[int] = ()
    followed: frozenset[int] = frozenset()
    carried: dict[Reason, int] = field(default_factory=dict)
    _asked_to: int | None = None  # where it was given up
    _every: Sequence[bytes] = field(init=False)
    _held: list[tuple[int, Verdict, float]] = field(default_factory=list)
    _doubtful: list[int] = field(default_factory=list)
    _verdicts: dict[tuple[str, ...], Verdict] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._every = self.prefixes
        self.end = len(self.subjects)
        self.suffix = b"" if self.zone.needs_key else zone_suffix(self.zone.origin)
        self.rate = self.zone.rate
        self.state = bytearray(self.end)
        self.until = array("I", bytes(4 * self.end))

    @property
    def name(self) -> str:
        """The lane's name in a cursor."""
        return f"{self.zone.name} {self.kind}"

    @property
    def healthy(self) -> bool:
        """True where the zone's last controls were good."""
        return self.health is not None and self.health.healthy

    @property
    def cursor(self) -> int:
        """Below this an earlier process need not ask again; 0 in a round that leaves pairs out."""
        if self.order:
            return 0
        return self.confirmed if self._asked_to is None else self._asked_to

    def follow(self, texts: frozenset[str]) -> None:
        """From now on the verdict of these subjects is told, also where they are not listed."""
        found = (i for i, subject in enumerate(self.subjects) if subject.text in texts) if texts else ()
        self.followed = frozenset(found)

    def answered(self, index: int, answer: DnsAnswer) -> None:
        """Keeps what is not a plain "no such name". The verdict waits for the closing controls."""
        verdict = self._verdicts.get(answer.records) if answer.records else None
        if verdict is None:
            verdict = judge(self.zone, answer, self.health.denial if self.health else None)
            if answer.records and len(self._verdicts) < MAX_VERDICTS:
                self._verdicts[answer.records] = verdict
        if verdict.reason is Reason.NOT_LISTED:
            self.state[index] = CLEAN
            return
        self.state[index] = _STATES[verdict.reason]
        if verdict.outcome is Outcome.UNKNOWN:
            self._doubtful.append(index)
        else:
            self._held.append((index, verdict, answer.ttl))

    def confirm(self, now: float, tell: Confirmed) -> None:
        """Makes final what was asked since the last controls. now: wall seconds."""
        first, last = self.confirmed, self.next
        ttl = min(self.health.negative_ttl if self.health else 0.0, MAX_TTL)
        self.state[first:last] = self.state[first:last].replace(bytes([CLEAN]), _NOT_LISTED)
        if self.order:
            for index in range(first, last):
                self.until[self.order[index]] = int(now + ttl)
        else:
            self.until[first:last] = array("I", [int(now + ttl)]) * (last - first)
        for index in self._doubtful:
            self.until[self._position(index)] = 0
        for index, verdict, life in self._held:
            position = self._position(index)
            self.until[position] = int(now + min(life, MAX_TTL))
            if verdict.listed or position in self.followed:
                tell(self.subjects[position], self.zone, verdict)
        self._tell_clean(first, last, tell)
        self._clear()
        self.confirmed = last
        self.failures = 0

    def _tell_clean(self, first: int, last: int, tell: Confirmed) -> None:
        """Tells the followed ones that are not listed."""
        for position in sorted(self.followed):
            index = bisect_left(self.order, position) if self.order else position
            if not first <= index < last or self._position(index) != position:
                continue
            if self.state[index] == _STATES[Reason.NOT_LISTED]:
                verdict = Verdict(Outcome.PASS, False, Reason.NOT_LISTED, "not listed")
                tell(self.subjects[position], self.zone, verdict)

    def forget(self) -> None:
        """Takes back what was asked since the last good controls: it will be asked again."""
        self.state[self.confirmed : self.next] = bytes(self.next - self.confirmed)
        self._clear()
        self.next = self.confirmed

    def give_up(self) -> None:
        """Ends the lane of a zone that stays bad: what is left is unknown, for the zone's reason."""
        self.forget()
        reason = self.health.reason if self.health and self.health.reason else Reason.ZONE_UNREACHABLE
        self._asked_to = self.confirmed
        left = range(self.confirmed, self.end)
        self.state[self.confirmed : self.end] = bytes([_STATES[reason]]) * len(left)
        for index in left:
            self.until[self._position(index)] = 0
        self.next = self.confirmed = self.end

    def resume(self, at: int, found: Mapping[str, object]) -> None:
        """Goes on at a position that an earlier process had confirmed, with what it had found up to there."""
        counts = {}
        with suppress(ValueError):
            counts = {Reason(reason): n for reason, n in found.items() if isinstance(n, int)}
        if 0 <= at <= self.end and sum(counts.values()) == at:
            self.next = self.confirmed = at
            self.carried = counts

    def rearm(self, now: float) -> int:
        """Sets up the next round: only what is no longer fresh. Returns how many pairs are left out."""
        self._arrange([position for position, until in enumerate(self.until) if until <= now])
        self.next = self.confirmed = self.failures = 0
        self.carried = {}
        self._asked_to = None
        self.health = None
        return len(self.subjects) - self.end

    def narrow(self, texts: frozenset[str]) -> None:
        """Asks only these subjects in the round to come."""
        self._arrange([position for position, subject in enumerate(self.subjects) if subject.text in texts])

    def _arrange(self, positions: Sequence[int]) -> None:
        everything = len(positions) == len(self.subjects)
        self.order = () if everything else positions
        self.prefixes = self._every if everything else [self._every[i] for i in positions]
        self.end = len(positions)
        self.state = bytearray(self.end)

    def counts(self) -> dict[Reason, int]:
        """Pairs of this round by reason; those not asked yet are not counted."""
        counted = ((reason, self.state.count(number)) for reason, number in _STATES.items())
        mine = {reason: count for reason, count in counted if count}
        return {reason: n for reason in Reason if (n := mine.get(reason, 0) + self.carried.get(reason, 0))}

    def found(self) -> dict[str, int]:
        """Pairs below the cursor by reason, ready for JSON."""
        below = self.state[: self.cursor]
        mine = ((reason, below.count(number)) for reason, number in _STATES.items())
        return {str(reason): n for reason, m in mine if (n := m + self.carried.get(reason, 0))}

    def unknown(self) -> Iterator[tuple[Subject, Zone, Reason]]:
        """The pairs of this round that could not be seen, with the reason."""
        if not any(number in self.state for number in _DOUBTFUL):
            return
        for index, state in enumerate(self.state):
            reason = _REASONS.get(state)
            if reason is not None and reason not in DEFINITE:
                yield self.subjects[self._position(index)], self.zone, reason

    def _position(self, index: int) -> int:
        return self.order[index] if self.order else index

    def _clear(self) -> None:
        self._held.clear()
        self._doubtful.clear()


def build_lanes(subjects: Iterable[Subject], zones: Iterable[Zone]) -> list[ZoneLane]:
    """One lane for each zone and kind of subject that go together.

    A list of registrable domains is also asked for the registrable parent of each host name.
    """
    by_kind: dict[Kind, list[Subject]] = {kind: [] for kind in Kind}
    for subject in dict.fromkeys(subjects):
        by_kind[subject.kind].append(subject)
    labels = {kind: [subject_labels(s) for s in found] for kind, found in by_kind.items()}
    domains = by_kind[Kind.DOMAIN]
    parents = (Subject(parent, Kind.DOMAIN) for s in domains if (parent := registrable(s.text)))
    registered = list(dict.fromkeys([*domains, *parents]))
    registered_labels = [subject_labels(s) for s in registered]
    lanes = []
    for zone in {zone.name: zone for zone in zones}.values():
        for kind in sorted(zone.kinds):
            wide = kind is Kind.DOMAIN and zone.registered_names
            found, prefixes = (registered, registered_labels) if wide else (by_kind[kind], labels[kind])
            if found:
                lanes.append(ZoneLane(zone, kind, found, prefixes))
    return lanes


def fingerprint(lanes: Iterable[ZoneLane]) -> str:
    """Tells one plan from another: the zones, and the subjects in their order."""
    digest = hashlib.sha256()
    seen: set[int] = set()
    for lane in lanes:
        digest.update(f"{lane.name} {len(lane.subjects)}\n".encode())
        if id(lane.subjects) not in seen:
            seen.add(id(lane.subjects))
            digest.update("\n".join(s.text for s in lane.subjects).encode())
    return digest.hexdigest()[:32]
