"""One evaluation's working copy of the state: changed freely inside, then made immutable again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from alerts.causes import Cell, Matrix
from alerts.lifecycle import Alert
from alerts.observation import Expected
from alerts.rules import WINDOW, bad_in, condition
from alerts.settings import ROUTE_KINDS, RuleSet
from alerts.state import Condition, EngineState, Memo, Noise

T = TypeVar("T")


class Draft:
    """A state being changed. Copies a part only when it is first changed."""

    def __init__(
        self, state: EngineState, rules: RuleSet, now: float, expected: Expected | None = None
    ) -> None:
        self.before = state
        self.expected = expected
        self.rules = rules
        self.now = now
        self.cells: dict[str, Cell] = dict(state.cells)
        self.conditions: dict[str, Condition] = dict(state.conditions)
        self.alerts: dict[str, Alert] = dict(state.alerts)
        self.suspects: set[str] = set(state.suspects)
        self.hot: set[str] = set(state.hot)
        self.noise: Noise = state.noise
        self.last_run = state.last_run
        self._memo = state.memo
        route_rules = [rules.rule(kind) for kind in ROUTE_KINDS]
        self._least = min(min(r.failure_threshold, r.failures or 99) for r in route_rules)

    def put(self, alert: Alert) -> None:
        """Sets an alert."""
        self.alerts[alert.key] = alert

    def drop(self, key: str) -> None:
        """Forgets an alert."""
        self.alerts.pop(key, None)

    def open_alerts(self) -> list[Alert]:
        """Open alerts, oldest first."""
        return sorted((a for a in self.alerts.values() if a.open), key=lambda a: (a.started, a.key))

    def claims(self) -> dict[str, str]:
        """Which open alert holds each member."""
        return {name: a.key for a in self.alerts.values() if a.open for name in a.members}

    def conditions_of(self, alert: Alert) -> list[Condition]:
        """The conditions among an alert's members."""
        return [self.conditions[n] for n in alert.members if n in self.conditions]

    def matrix(self) -> Matrix:
        """All routes counted by scope."""
        if self._memo.matrix is None:
            self._memo.matrix = Matrix(self.cells.values())
        return self._memo.matrix

    def set_cell(self, cell: Cell) -> None:
        """Stores a route and whether it is suspect or its rule true."""
        name = cell.route
        known = self.cells.get(name)
        if known is None or (known.provider, known.relay) != (cell.provider, cell.relay):
            self._memo = Memo()
        self.cells[name] = cell
        recent = cell.recent
        if not bad_in(recent, len(recent)):
            self.suspects.discard(name)
            self.hot.discard(name)
            return
        (self.suspects.add if bad_in(recent, WINDOW) else self.suspects.discard)(name)
        is_hot = bad_in(recent, len(recent)) >= self._least and condition(recent, self.rules) is not None
        (self.hot.add if is_hot else self.hot.discard)(name)

    def done(self) -> EngineState:
        """The changed state, sharing what did not change."""
        old = self.before
        return EngineState(
            _same(old.cells, self.cells),
            _same(old.conditions, self.conditions),
            _same(old.alerts, self.alerts),
            self.noise,
            self.last_run,
            frozenset(self.suspects),
            frozenset(self.hot),
            self._memo,
        )


def _same(old: Mapping[str, T], new: dict[str, T]) -> Mapping[str, T]:
    if len(old) == len(new) and all(old.get(k) is v for k, v in new.items()):
        return old
    return new
