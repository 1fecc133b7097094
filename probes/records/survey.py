"""Every record of one mail domain, as one Result: what is wrong, why it matters, what to publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from probes.clock import Clock, SystemClock
from probes.dns import Resolver
from probes.http import Fetcher
from probes.outcome import Evidence, Outcome, Result
from probes.records.finding import Finding, outcome_of
from probes.records.hosts import check_mx, check_senders
from probes.records.policy import check_dkim, check_dmarc
from probes.records.reporting import check_bimi, check_mta_sts, check_tls_rpt
from probes.records.spf import survey_spf


@dataclass(frozen=True, slots=True)
class Survey:
    """What is looked at. selectors: DKIM selectors in use; senders: addresses that mail leaves from."""

    domain: str
    selectors: Sequence[str] = ()
    senders: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class SurveyMeans:
    """What a survey may touch."""

    resolver: Resolver
    fetcher: Fetcher
    clock: Clock = field(default_factory=SystemClock)


async def survey(what: Survey, means: SurveyMeans) -> Result:
    """Looks at every record of a domain. Fail for any fault, unknown for what was not seen, else pass."""
    at, started = means.clock.wall(), means.clock.monotonic()
    resolver, domain = means.resolver, what.domain
    findings, exchangers = await check_mx(domain, resolver)
    spf = await survey_spf(domain, resolver)
    dmarc, policy = await check_dmarc(domain, resolver)
    findings += [
        *spf.findings,
        *dmarc,
        *await check_dkim(domain, what.selectors, resolver),
        *await check_mta_sts(domain, exchangers, resolver, means.fetcher),
        *await check_tls_rpt(domain, resolver),
        *await check_bimi(domain, policy, resolver, means.fetcher),
        *await check_senders(what.senders, resolver),
    ]
    findings.sort(key=lambda f: -f.severity.rank)
    outcome = outcome_of(findings)
    reason = {Outcome.PASS: "clean", Outcome.UNKNOWN: "unknown", Outcome.FAIL: "faults"}[outcome]
    faults = sum(outcome_of([f]) is Outcome.FAIL for f in findings)
    return Result(
        probe="records",
        target=domain,
        outcome=outcome,
        reason=reason,
        summary=f"{faults} faults, {sum(f.unknown for f in findings)} not seen, {len(findings)} findings",
        at=at,
        seconds=max(0.0, means.clock.monotonic() - started),
        evidence=tuple(Evidence("dns", f"{f.name}: {f.what}", at) for f in findings),
        data={
            "findings": [row(f) for f in findings],
            "spf": {"tree": spf.tree, "lookups": spf.lookups, "voids": spf.voids},
            "mx": exchangers,
            "dmarc": policy.assessment if policy and policy.record else None,
        },
    )


def row(finding: Finding) -> dict[str, object]:
    """A finding, ready for JSON."""
    return {
        "kind": finding.kind,
        "severity": finding.severity.value,
        "outcome": outcome_of([finding]).value,
        "name": finding.name,
        "what": finding.what,
        "why": finding.why,
        "fix": finding.fix,
    }
