"""MTA-STS as published: the TXT record, the policy over HTTPS, and whether it names every mail exchanger
(RFC 8461). A domain without it has no fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from probes.dns import Resolver
from probes.errors import DataError, HttpUnavailable
from probes.http import Fetcher, Limits
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look, texts
from probes.records.sts_policy import StsPolicy, parse_sts_policy
from probes.records.text import parse_sts_record

SHORT_AGE = 604_800  # below a week a policy protects little (RFC 8461 section 3.2 speaks of weeks)
POLICY_LIMITS = Limits(seconds=60.0, max_bytes=64 * 1024, content_types=("text/plain",))
NOT_SEEN = frozenset({"dns", "timeout", "connection"})
"""Reasons of a fetch that may lie on our side."""

_WHY = "senders go on without TLS protection, or with an old policy"


@dataclass(frozen=True, slots=True)
class StsSurvey:
    """What was found. policy: None where there is none or it cannot be had; text: the file as it is,
    "" where the domain has none, None where it could not be had."""

    findings: list[Finding] = field(default_factory=list)
    policy: StsPolicy | None = None
    text: str | None = None

    @property
    def demands_tls(self) -> bool:
        """Whether senders must not deliver without a good certificate."""
        return self.policy is not None and self.policy.mode == "enforce"


async def check_mta_sts(
    domain: str, exchangers: Iterable[str], resolver: Resolver, fetcher: Fetcher | None
) -> StsSurvey:
    """Looks at record, policy and mail exchangers."""
    name = f"_mta-sts.{domain}"
    found, answer = await texts(name, resolver, "v=STSv1")
    if not answer.status.conclusive:
        return StsSurvey([could_not_look("mta-sts-unknown", answer)])
    if not found:
        return StsSurvey(text="")
    fault = _record_fault(found)
    if fault:
        fix = f'{name}. TXT "v=STSv1; id=20260101T000000"'
        return StsSurvey([Finding("mta-sts-record", Severity.ERROR, name, fault, _WHY, fix)])
    return await _fetch(domain, exchangers, fetcher) if fetcher is not None else StsSurvey()


def _record_fault(found: list[str]) -> str:
    if len(found) > 1:
        return f"{len(found)} records: senders use none of them"
    try:
        parse_sts_record(found[0])
    except DataError as error:
        return error.detail
    return ""


async def _fetch(domain: str, exchangers: Iterable[str], fetcher: Fetcher) -> StsSurvey:
    url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
    fix = f"serve the policy at {url} as text/plain, with a certificate for mta-sts.{domain}"
    try:
        fetched = await fetcher.fetch(url, POLICY_LIMITS)
    except HttpUnavailable as error:
        if error.facts.get("reason") in NOT_SEEN:
            return StsSurvey([Finding("mta-sts-unknown", Severity.INFO, url, error.detail, unknown=True)])
        return StsSurvey([Finding("mta-sts-fetch", Severity.ERROR, url, error.detail, _WHY, fix)])
    if fetched.status != 200:
        text = f"status {fetched.status}; a redirect is not followed (RFC 8461 section 3.3)"
        return StsSurvey([Finding("mta-sts-fetch", Severity.ERROR, url, text, _WHY, fix)])
    try:
        text = fetched.body.decode("utf-8")
        policy = parse_sts_policy(text)
    except (DataError, UnicodeDecodeError) as error:
        fix = "correct that line of the policy file, and give the TXT record a new id="
        finding = Finding("mta-sts-policy", Severity.ERROR, url, _detail(error), _WHY, fix)
        return StsSurvey([finding], text=fetched.body.decode("latin-1"))
    return StsSurvey(_judge(policy, url, exchangers), policy, text)


def _detail(error: DataError | UnicodeDecodeError) -> str:
    return error.detail if isinstance(error, DataError) else "it is not UTF-8"


def _judge(policy: StsPolicy, url: str, exchangers: Iterable[str]) -> list[Finding]:
    findings = []
    for host in exchangers:
        if policy.mode != "none" and not policy.covers(host):
            severity = Severity.CRITICAL if policy.mode == "enforce" else Severity.WARNING
            text = f"the mail exchanger {host} is not in the policy (mode {policy.mode})"
            why = "senders that obey the policy, Gmail and Microsoft among them, do not deliver to it"
            fix = f"add the line: mx: {host}; then give the TXT record a new id="
            findings.append(Finding("mta-sts-mx", severity, url, text, why, fix))
    if policy.mode == "enforce" and policy.max_age < SHORT_AGE:
        text = f"max_age of {policy.max_age} s is forgotten between two messages"
        findings.append(Finding("mta-sts-age", Severity.INFO, url, text, fix="max_age: 1209600"))
    return findings
