"""One figure of a benchmark beside that of its peer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BenchRow:
    """figure, peer: in `unit`, peer None where it is not there; ratio: ours to theirs; goal: ratio wanted."""

    name: str
    figure: float
    unit: str
    peer: float | None
    peer_name: str
    ratio: float | None
    goal: float | None
    ok: bool | None
