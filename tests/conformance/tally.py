"""Counts the cases of a set."""

from __future__ import annotations

from collections.abc import Iterable

from tests.conformance.row import Row

RIGHT = "ours is right: "
"""How a fault begins that is a difference on purpose: it counts as passed, and is listed."""


def tally(name: str, faults: Iterable[tuple[str, str]]) -> Row:
    """faults: of every case a label and what is wrong with it, "" for nothing."""
    cases = list(faults)
    wrong = sum(bool(fault) and not fault.startswith(RIGHT) for _, fault in cases)
    notes = tuple(f"{' '.join(label.split())[:90]}: {fault}" for label, fault in cases if fault)
    return Row(name, len(cases) - wrong, len(cases), notes)
