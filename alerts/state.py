"""What the engine remembers, whole and JSON-ready.

Parts are immutable and shared from state to state, so that a change costs what changed, and `changed_rows`
can tell a store exactly which rows to write.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from alerts import codec
from alerts.causes import Cell, Matrix
from alerts.lifecycle import Alert
from alerts.rules import WINDOW, bad_in
from alerts.settings import AlertKind
from probes.errors import DataError
from probes.outcome import Severity


@dataclass(frozen=True, slots=True)
class Condition:
    """A listing, a drifted record, or a fault of our own: bad or not, since when, seen how often in a row.

    since: first seen bad (epoch seconds); ok_since: first seen good again; item: the zone or record.
    """

    id: str
    kind: AlertKind
    subject: str
    since: float
    at: float
    bad: bool = True
    count: int = 1
    goods: int = 0
    ok_since: float = 0.0
    item: str = ""
    senders: tuple[str, ...] = ()
    provider: str = ""
    severity: Severity = Severity.WARNING
    text: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Noise:
    """The usual rate of lone failures (between two passes), learned, with a prior of 0.3 percent."""

    lone: float = 0.0
    judged: float = 0.0

    @property
    def rate(self) -> float:
        """The chance that one result fails by mere noise, within 0.1 and 3 percent."""
        return min(0.03, max(0.001, (3.0 + self.lone) / (1000.0 + self.judged)))

    def seen(self, judged: int, lone: int) -> Noise:
        """After so many more results; the memory is about 50,000 results long."""
        more = Noise(self.lone + lone, self.judged + judged)
        return Noise(more.lone / 2, more.judged / 2) if more.judged > 50_000 else more


class Memo:
    """The matrix of one set of routes, made when first asked for."""

    def __init__(self) -> None:
        self.matrix: Matrix | None = None


@dataclass(frozen=True, slots=True)
class EngineState:
    """All the engine knows. suspects: routes with a recent failure; hot: those whose rule is true."""

    cells: Mapping[str, Cell] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    noise: Noise = field(default_factory=Noise)
    last_run: float = 0.0
    suspects: frozenset[str] = frozenset()
    hot: frozenset[str] = frozenset()
    memo: Memo = field(default_factory=Memo, compare=False, repr=False)

    @property
    def matrix(self) -> Matrix:
        """The routes counted by scope."""
        if self.memo.matrix is None:
            self.memo.matrix = Matrix(self.cells.values())
        return self.memo.matrix

    def firing(self) -> list[Alert]:
        """Open alerts, oldest first."""
        return sorted((a for a in self.alerts.values() if a.open), key=lambda a: (a.started, a.key))


def rows(state: EngineState) -> dict[str, Any]:
    """The state as JSON values under stable keys: "cell NAME", "condition ID", "alert KEY", "engine"."""
    found: dict[str, Any] = {f"cell {name}": codec.to_json(c) for name, c in state.cells.items()}
    found |= {f"condition {name}": codec.to_json(c) for name, c in state.conditions.items()}
    found |= {f"alert {name}": codec.to_json(a) for name, a in state.alerts.items()}
    return found | {"engine": _engine_row(state)}


def _engine_row(state: EngineState) -> dict[str, Any]:
    return {"noise": codec.to_json(state.noise), "last_run": state.last_run, "hot": sorted(state.hot)}


def changed_rows(old: EngineState, new: EngineState) -> tuple[dict[str, Any], list[str]]:
    """What a store must write and delete to go from the old state's rows to the new one's."""
    write: dict[str, Any] = {}
    delete: list[str] = []
    parts: tuple[tuple[str, Mapping[str, Any], Mapping[str, Any]], ...] = (
        ("cell", old.cells, new.cells),
        ("condition", old.conditions, new.conditions),
        ("alert", old.alerts, new.alerts),
    )
    for prefix, before, after in parts:
        if before is after:
            continue
        write |= {f"{prefix} {k}": codec.to_json(v) for k, v in after.items() if before.get(k) is not v}
        delete += [f"{prefix} {k}" for k in before if k not in after]
    if _engine_row(old) != _engine_row(new):
        write["engine"] = _engine_row(new)
    return write, delete


def from_rows(found: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> EngineState:
    """The state that `rows` gave. Raises DataError."""
    cells: dict[str, Cell] = {}
    conditions: dict[str, Condition] = {}
    alerts: dict[str, Alert] = {}
    engine: Mapping[str, Any] = {}
    for key, value in dict(found).items():
        part, _, name = key.partition(" ")
        if part == "cell":
            cells[name] = codec.from_json(Cell, value)
        elif part == "condition":
            conditions[name] = codec.from_json(Condition, value)
        elif part == "alert":
            alerts[name] = codec.from_json(Alert, value)
        elif part == "engine":
            engine = value
    return EngineState(
        cells,
        conditions,
        alerts,
        codec.from_json(Noise, engine.get("noise", {})),
        float(engine.get("last_run", 0.0)),
        frozenset(name for name, c in cells.items() if bad_in(c.recent, WINDOW)),
        frozenset(n for n in engine.get("hot", ()) if n in cells),
    )


def to_json(state: EngineState) -> str:
    """The whole state as one JSON text."""
    return json.dumps(rows(state), separators=(",", ":"))


def from_json(text: str) -> EngineState:
    """The state that to_json wrote. Raises DataError."""
    try:
        return from_rows(json.loads(text))
    except ValueError as error:
        raise DataError(f"engine state: {error}") from error


def retain(
    state: EngineState, routes: frozenset[tuple[str, str]], keep: Callable[[Condition], bool] | None = None
) -> EngineState:
    """Without the routes and conditions that are no longer configured (after a reload).

    routes: the (sender, seed) pairs that are; keep: whether a listing, record or own fault is (None: yes).
    Their alerts lose them at the next evaluation, and resolve if nothing else is left.
    """
    cells = {n: c for n, c in state.cells.items() if (c.sender, c.seed) in routes}
    conditions = {n: c for n, c in state.conditions.items() if keep is None or keep(c)}
    if len(cells) == len(state.cells) and len(conditions) == len(state.conditions):
        return state
    return replace(
        state,
        cells=cells,
        conditions=conditions,
        suspects=frozenset(n for n in state.suspects if n in cells),
        hot=frozenset(n for n in state.hot if n in cells),
        memo=Memo(),
    )
