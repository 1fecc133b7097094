"""Three-valued truth: what every observation comes down to, and the words for where a canary landed.

"I could not look" is never "lost", never "not listed", never "fine": it is UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What an observation says: good, bad, or "could not look"."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """The process exit code that tells this outcome: 0 pass, 1 fail, 3 unknown."""
        return {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.UNKNOWN: 3}[self]


def combine(outcomes: Iterable[Outcome]) -> Outcome:
    """Over many: any fail is fail, else any unknown is unknown, else pass. Nothing looked at is unknown."""
    seen = set(outcomes)
    if Outcome.FAIL in seen:
        return Outcome.FAIL
    if Outcome.UNKNOWN in seen or not seen:
        return Outcome.UNKNOWN
    return Outcome.PASS


class Placement(StrEnum):
    """Where a canary landed (DESIGN section 3)."""

    INBOX = "inbox"
    TAB = "tab"
    SPAM = "spam"
    OTHER = "other"
    MISSING = "missing"
    REJECTED = "rejected"
    BOUNCED = "bounced"
    DEFERRED = "deferred"
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How bad, in PagerDuty's four words."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for info up to 3 for critical, so that the worst can be picked with max()."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Evidence:
    """One fact that supports a verdict.

    kind: a closed word such as "smtp-reply", "header", "dns", "log"; text: the fact, for people, without
    secrets; at: seconds since the epoch, or None where the fact has no time.
    """

    kind: str
    text: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What one execution of a probe found.

    probe: the registry's name; target: what was looked at; reason: a closed word, fit for a metric label;
    summary: one line for people; data: JSON-ready detail; at: start, seconds since the epoch;
    seconds: how long it took.
    """

    probe: str
    target: str
    outcome: Outcome
    reason: str
    summary: str
    at: float
    seconds: float
    evidence: tuple[Evidence, ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)
