"""The default BIMI record, where there is one: the policy it needs, its logo and its mark certificate."""

from __future__ import annotations

from probes.authentication.dmarc_policy import Policy
from probes.dns import Resolver
from probes.errors import DataError, HttpUnavailable
from probes.http import Fetched, Fetcher, Limits
from probes.outcome import Severity
from probes.records.dmarc import stricter
from probes.records.finding import Finding, could_not_look, texts
from probes.records.sts import NOT_SEEN
from probes.records.text import parse_bimi

SVG_LIMITS = Limits(seconds=15.0, max_bytes=1024 * 1024, redirects=2)
PEM_LIMITS = Limits(seconds=15.0, max_bytes=256 * 1024, redirects=2)

_WHY = "no logo is shown"


async def check_bimi(
    domain: str, policy: Policy | None, resolver: Resolver, fetcher: Fetcher | None
) -> list[Finding]:
    """Whether a mailbox provider could show the logo. A domain without the record has no fault."""
    name = f"default._bimi.{domain}"
    found, answer = await texts(name, resolver, "v=BIMI1")
    if not answer.status.conclusive:
        return [could_not_look("bimi-unknown", answer)]
    if not found:
        return []
    try:
        if len(found) > 1:
            raise DataError(f"{len(found)} records")
        record = parse_bimi(found[0])
    except DataError as error:
        fix = f'{name}. TXT "v=BIMI1; l=https://{domain}/logo.svg; a=https://{domain}/mark.pem"'
        return [Finding("bimi-record", Severity.WARNING, name, error.detail, _WHY, fix)]
    findings = _policy_faults(domain, name, policy)
    if fetcher is None:
        return findings
    if record.location:
        findings += await _logo(record.location, fetcher)
    if record.authority:
        findings += await _certificate(record.authority, fetcher)
    return findings


def _policy_faults(domain: str, name: str, policy: Policy | None) -> list[Finding]:
    if policy is None or policy.assessment in ("quarantine", "reject"):
        return []
    text = f"a logo needs DMARC with p=quarantine or reject, not {policy.assessment}"
    text_now = policy.record.text if policy.record else "v=DMARC1; p=none"
    fix = f'_dmarc.{policy.domain or domain}. TXT "{stricter(text_now)}"'
    return [Finding("bimi-policy", Severity.WARNING, name, text, _WHY, fix)]


async def _logo(url: str, fetcher: Fetcher) -> list[Finding]:
    fetched = await _fetch("bimi-logo", url, SVG_LIMITS, fetcher)
    if isinstance(fetched, Finding):
        return [fetched]
    if fetched.status == 200 and fetched.content_type == "image/svg+xml" and b"<svg" in fetched.body[:4096]:
        return []
    text = f"the logo is answered with status {fetched.status}, {fetched.content_type or 'no type'}"
    return [Finding("bimi-logo", Severity.WARNING, url, text, _WHY, "serve an SVG as image/svg+xml there")]


async def _certificate(url: str, fetcher: Fetcher) -> list[Finding]:
    fetched = await _fetch("bimi-certificate", url, PEM_LIMITS, fetcher)
    if isinstance(fetched, Finding):
        return [fetched]
    if fetched.status == 200 and b"-----BEGIN CERTIFICATE-----" in fetched.body:
        return []
    text = f"the mark certificate is answered with status {fetched.status}, and is no PEM file"
    fix = "serve the certificate with its chain as PEM there"
    return [Finding("bimi-certificate", Severity.WARNING, url, text, "Gmail shows no logo without it", fix)]


async def _fetch(code: str, url: str, limits: Limits, fetcher: Fetcher) -> Fetched | Finding:
    try:
        return await fetcher.fetch(url, limits)
    except HttpUnavailable as error:
        if error.facts.get("reason") in NOT_SEEN:
            return Finding("bimi-unknown", Severity.INFO, url, error.detail, unknown=True)
        return Finding(
            code, Severity.WARNING, url, error.detail, _WHY, "serve it over https, reachable for all"
        )
