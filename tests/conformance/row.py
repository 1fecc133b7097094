"""One line of the conformance report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """name: the set; passed of total; notes: each difference, with the reason or the RFC line that makes
    it right.
    """

    name: str
    passed: int
    total: int
    notes: tuple[str, ...] = ()
