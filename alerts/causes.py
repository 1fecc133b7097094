"""The pattern over the sender x seed matrix names the cause: many failing routes, one group. Pure.

Each candidate scope (a sender, a seed, a provider, a relay, a sender at a provider, one route, everything) is
weighed by how much better "trouble in exactly this scope" explains the newest results than the usual noise
does. The heaviest scope whose parts really take part wins, its routes are taken out, and so on.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from alerts import rules
from alerts.rules import WINDOW, Baseline, bad_in, evidence_weight


class ScopeKind(StrEnum):
    """What an alert is about."""

    SENDER = "sender"
    SEED = "seed"
    PROVIDER = "provider"
    RELAY = "relay"
    ALL = "all"
    SENDER_PROVIDER = "sender-provider"
    ROUTE = "route"
    SUBJECT = "subject"
    OWN = "own"


# Where two scopes cover the same routes, the earlier word is the one to say.
_PREFERENCE = {kind: -rank for rank, kind in enumerate(ScopeKind)}


class Scope(NamedTuple):
    """A scope and its name: ("sender", "app"), ("sender-provider", "app/gmail"), ("all", "")."""

    kind: ScopeKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" if self.name else str(self.kind)


class Cell(NamedTuple):
    """What is remembered of a route.

    recent: symbols, newest last; at: of the newest judged result; onset: send time of the first failure of
    this trouble (0: none); run: results since trouble was first seen; text, reply: the newest failure in
    words and its SMTP reply; authentication: methods not passing now; auth_since: since when.
    """

    sender: str
    seed: str
    provider: str
    relay: str
    recent: str = ""
    at: float = 0.0
    onset: float = 0.0
    run: int = 0
    text: str = ""
    reply: str = ""
    authentication: str = ""
    auth_since: float = 0.0
    base: Baseline = Baseline()

    @property
    def route(self) -> str:
        """The route's name, sender/seed."""
        return f"{self.sender}/{self.seed}"

    def scopes(self) -> tuple[Scope, ...]:
        """Every scope this route is part of."""
        found = (
            Scope(ScopeKind.SENDER, self.sender),
            Scope(ScopeKind.SEED, self.seed),
            Scope(ScopeKind.PROVIDER, self.provider),
            Scope(ScopeKind.ALL, ""),
            Scope(ScopeKind.SENDER_PROVIDER, f"{self.sender}/{self.provider}"),
            Scope(ScopeKind.ROUTE, self.route),
        )
        return (*found, Scope(ScopeKind.RELAY, self.relay)) if self.relay else found

    def within(self, scope: Scope) -> bool:
        """Whether this route is part of the scope."""
        return scope in self.scopes()


@dataclass(frozen=True, slots=True)
class Group:
    """Failing routes with one cause: where, which, and the weight of the evidence."""

    scope: Scope
    cells: tuple[Cell, ...]
    weight: float


# Which parts of a scope must take part, and what share of them, for the whole to be the cause.
_SHARES: dict[ScopeKind, tuple[tuple[str, float], ...]] = {
    ScopeKind.ALL: (("sender", 0.8), ("provider", 0.8)),
    ScopeKind.RELAY: (("sender", 0.8), ("provider", 0.5)),
    ScopeKind.SENDER: (("provider", 0.5),),
    ScopeKind.PROVIDER: (("seed", 0.5), ("sender", 0.5)),
    ScopeKind.SEED: (("sender", 0.5),),
    ScopeKind.SENDER_PROVIDER: (("seed", 0.5),),
}


class Matrix:
    """How many routes each scope has, and each part of each scope: kept up as routes come and go."""

    def __init__(self, cells: Iterable[Cell] = ()) -> None:
        self.routes: Counter[Scope] = Counter()
        self.parts: dict[tuple[Scope, str], Counter[str]] = defaultdict(Counter)
        for cell in cells:
            self.add(cell)

    def add(self, cell: Cell, sign: int = 1) -> None:
        """Counts a route in; sign -1 counts it out."""
        for scope in cell.scopes():
            self.routes[scope] += sign
            for part, _ in _SHARES.get(scope.kind, ()):
                self.parts[scope, part][getattr(cell, part)] += sign


def find_groups(suspects: Sequence[Cell], matrix: Matrix, claimed: Matrix, noise: float) -> list[Group]:
    """Groups of the suspects (routes with a recent failure), heaviest first.

    claimed counts routes that other alerts hold already; noise is the usual failure rate of one result.
    """
    left = {cell.route: cell for cell in suspects}
    groups: list[Group] = []
    held = Matrix()
    while left:
        found = _heaviest(list(left.values()), matrix, (claimed, held), noise)
        if found is None:
            break
        groups.append(found)
        for cell in found.cells:
            held.add(left.pop(cell.route))
    return _joined(groups)


def _heaviest(cells: list[Cell], matrix: Matrix, taken: tuple[Matrix, Matrix], noise: float) -> Group | None:
    by_scope: dict[Scope, list[Cell]] = defaultdict(list)
    for cell in cells:
        for scope in cell.scopes():
            by_scope[scope].append(cell)
    weighed = []
    for scope, members in by_scope.items():
        size = matrix.routes[scope] - sum(t.routes[scope] for t in taken)
        kind = ScopeKind.ROUTE if size <= 1 else scope.kind
        if size <= 1 and scope.kind is not ScopeKind.ROUTE:
            continue
        failures = sum(bad_in(c.recent, WINDOW) for c in members)
        weight = evidence_weight(failures, max(size * WINDOW, failures), noise)
        weighed.append((weight, _PREFERENCE[kind], scope, members))
    weighed.sort(key=lambda w: (round(w[0], 6), w[1], w[2]), reverse=True)
    for weight, _, scope, members in weighed:
        if weight <= 0:
            return None
        if _takes_part(scope, members, matrix, taken, noise):
            return Group(scope, tuple(members), max(weight, *(_alone(c, noise) for c in members)))
    return None


def _alone(cell: Cell, noise: float) -> float:
    return rules.route_weight(cell.recent, noise)


def _takes_part(
    scope: Scope, members: Sequence[Cell], matrix: Matrix, taken: tuple[Matrix, Matrix], noise: float
) -> bool:
    """Whether enough parts of the scope show failures beyond noise, so that the whole is to blame."""
    for part, share in _SHARES.get(scope.kind, ()):
        failures: Counter[str] = Counter()
        for cell in members:
            failures[getattr(cell, part)] += bad_in(cell.recent, WINDOW)
        sizes = {
            name: size - sum(t.parts[scope, part][name] for t in taken)
            for name, size in matrix.parts[scope, part].items()
        }
        sizes = {name: size for name, size in sizes.items() if size > 0}
        bad = sum(
            evidence_weight(failures[name], max(size * WINDOW, failures[name]), noise) >= 2
            for name, size in sizes.items()
            if failures[name]
        )
        if bad < min(2, len(sizes)) or bad < share * len(sizes):
            return False
    return True


def _joined(groups: list[Group]) -> list[Group]:
    """Three or more small groups that share a sender, seed or provider are one: some of its routes fail."""
    small = [
        g for g in groups if g.scope.kind in (ScopeKind.ROUTE, ScopeKind.SENDER_PROVIDER) and g.weight >= 8
    ]
    for kind in (ScopeKind.SENDER, ScopeKind.SEED, ScopeKind.PROVIDER):
        shared: dict[Scope, list[Group]] = defaultdict(list)
        for group in small:
            names = {getattr(c, kind.value) for c in group.cells}
            if len(names) == 1:
                shared[Scope(kind, names.pop())].append(group)
        for scope, parts in shared.items():
            if len(parts) >= 3:
                whole = Group(scope, tuple(c for p in parts for c in p.cells), sum(p.weight for p in parts))
                rest = [g for g in groups if g not in parts]
                return _joined([*rest, whole])
    return sorted(groups, key=lambda g: -g.weight)


def covering(cells: Iterable[Cell]) -> Mapping[str, frozenset[str]]:
    """The senders, seeds and providers of some routes."""
    listed = list(cells)
    return {
        "sender": frozenset(c.sender for c in listed),
        "seed": frozenset(c.seed for c in listed),
        "provider": frozenset(c.provider for c in listed),
    }
