"""One thing that is not as it was."""

from __future__ import annotations

from dataclasses import dataclass

from probes.outcome import Severity

RANK = (
    *("certificate", "dkim", "spf", "dmarc", "arc", "tls", "listing", "ptr", "helo", "mx", "mta-sts", "key"),
    *("score", "reply", "placement", "rate", "latency"),
)
"""Likely causes first: of differences that weigh the same, the first of these is named as the cause."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between before and after.

    what: a closed word (spf, dkim, placement, latency, listing, ...); words: for people, "dkim pass (s1) ->
    fail (s2: no key)"; severity: error decides the verdict, warning and info are told; fix: the next step.
    """

    what: str
    before: str
    after: str
    words: str
    severity: Severity
    fix: str = ""

    @property
    def order(self) -> tuple[int, int]:
        """Sorts the worst and likeliest cause first."""
        rank = RANK.index(self.what) if self.what in RANK else len(RANK)
        return -self.severity.rank, rank

    def to_json(self) -> dict[str, str]:
        """JSON-ready."""
        return {
            "what": self.what,
            "before": self.before,
            "after": self.after,
            "words": self.words,
            "severity": self.severity.value,
            "fix": self.fix,
        }
