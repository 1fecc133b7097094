"""Faults that appear and go between two looks. Pure. What was wrong from the first look on is reported, not
alerted; what appears later is told once it was seen twice running, since servers have bad moments.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from probes.outcome import Outcome, Severity
from probes.records.finding import Finding, outcome_of

LOOKS = 2
"""Looks in a row that a fault must be seen at before it is told."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that is there. looks: in a row; told: an alert knows of it; old: from the first look on, or
    part of a drift that is told by itself.
    """

    code: str
    name: str
    what: str
    severity: Severity
    looks: int = 1
    told: bool = False
    old: bool = False

    @property
    def key(self) -> str:
        """Names the fault, whatever its text says today."""
        return f"{self.code} {self.name}"


@dataclass(frozen=True, slots=True)
class FaultChanges:
    """known: to be remembered; raised: to be told now; cleared: told before and gone."""

    known: dict[str, Fault] = field(default_factory=dict)
    raised: list[Fault] = field(default_factory=list)
    cleared: list[Fault] = field(default_factory=list)

    @property
    def waiting(self) -> bool:
        """Whether a fault waits for its second look."""
        return any(not fault.told and not fault.old for fault in self.known.values())


def compare_faults(
    known: Mapping[str, Fault] | None, findings: Iterable[Finding], drifted: Collection[str] = ()
) -> FaultChanges:
    """What changed. known: None at the first look; drifted: names whose records changed: faults there are
    part of that. A kind of which something could not be seen clears nothing.
    """
    seen = list(findings)
    blind = {finding.kind for finding in seen if finding.unknown}
    changes = FaultChanges()
    for finding in seen:
        if outcome_of([finding]) is Outcome.FAIL and finding.severity.rank >= Severity.ERROR.rank:
            _take(changes, known, finding, drifted)
    for key, fault in (known or {}).items():
        if key in changes.known:
            continue
        if any(fault.code.startswith(f"{kind}-") for kind in blind):
            changes.known[key] = fault
        elif fault.told:
            changes.cleared.append(fault)
    return changes


def _take(
    changes: FaultChanges, known: Mapping[str, Fault] | None, finding: Finding, drifted: Collection[str]
) -> None:
    fresh = Fault(finding.code, finding.name, finding.what, finding.severity)
    former = (known or {}).get(fresh.key)
    if former is None:
        changes.known[fresh.key] = replace(fresh, old=known is None or finding.name in drifted)
        return
    fault = replace(fresh, looks=former.looks + 1, told=former.told, old=former.old)
    if not fault.old and not fault.told and fault.looks >= LOOKS:
        fault = replace(fault, told=True)
        changes.raised.append(fault)
    changes.known[fault.key] = fault
