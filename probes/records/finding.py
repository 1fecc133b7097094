"""What is wrong with a record: one finding says what, why it matters, and what to publish instead."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from probes.dns import DnsAnswer, Resolver
from probes.outcome import Outcome, Severity, combine

KINDS = (
    *("mx", "spf", "dkim", "dmarc", "mta-sts", "tls-rpt", "bimi"),
    *("ptr", "helo", "dnssec", "dane", "ns", "caa"),
)
"""Every kind of record that is looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, or one thing that could not be seen.

    code: a closed word that begins with its kind; name: the DNS name, host or URL; what: the fault; why:
    whose rule it breaks; fix: what to publish or do; unknown: True where we could not look. INFO is a note.
    """

    code: str
    severity: Severity
    name: str
    what: str
    why: str = ""
    fix: str = ""
    unknown: bool = False

    @property
    def kind(self) -> str:
        """The kind of record, one of KINDS: fit for a metric label."""
        return next(kind for kind in KINDS if self.code.startswith(f"{kind}-"))

    @property
    def is_note(self) -> bool:
        """True for what is worth knowing and no fault."""
        return self.severity is Severity.INFO and not self.unknown


def could_not_look(code: str, answer: DnsAnswer) -> Finding:
    """The finding of a question that was not answered. Never says anything about the record."""
    detail = f" ({answer.detail})" if answer.detail else ""
    text = f"{answer.rdtype} could not be looked up: {answer.status.value}{detail}"
    return Finding(code, Severity.INFO, answer.name, text, unknown=True)


def outcome_of(findings: Iterable[Finding]) -> Outcome:
    """Fail for any finding of weight, else unknown for anything not seen, else pass; notes never fail."""
    outcomes = [Outcome.PASS]
    for finding in findings:
        if finding.unknown:
            outcomes.append(Outcome.UNKNOWN)
        elif finding.severity is not Severity.INFO:
            outcomes.append(Outcome.FAIL)
    return combine(outcomes)


async def texts(name: str, resolver: Resolver, prefix: str) -> tuple[list[str], DnsAnswer]:
    """The TXT records at a name that begin with a version tag, in any case, and the answer itself."""
    answer = await resolver.query(name, "TXT")
    return [text for text in answer.records if text.lower().startswith(prefix.lower())], answer
