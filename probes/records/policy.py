"""DKIM keys and the DMARC record as published (RFC 6376, RFC 8301, RFC 9989)."""

from __future__ import annotations

from collections.abc import Iterable

from probes.authentication.dmarc_policy import Policy, PolicyUnknown, TreeWalkRule, fetch_records
from probes.authentication.dmarc_record import DmarcRecord
from probes.authentication.domains import is_below, registrable
from probes.authentication.keys import KeyState, find_key
from probes.dns import Resolver
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look, texts

SHORT_KEY = 2048  # bits; RFC 8301 section 3.2: signers SHOULD use at least that, and MUST 1024

_BULK = "Gmail, Yahoo and Microsoft want DMARC of whoever sends in bulk"
_LOST = "messages signed with it fail DKIM"


async def check_dkim(domain: str, selectors: Iterable[str], resolver: Resolver) -> list[Finding]:
    """The keys of the selectors in use."""
    return [
        f for selector in selectors for f in await _check_key(f"{selector}._domainkey.{domain}", resolver)
    ]


async def _check_key(name: str, resolver: Resolver) -> list[Finding]:
    found = await find_key(name, resolver)
    if found.state is KeyState.UNREACHABLE:
        return [Finding("dkim-unknown", Severity.INFO, name, found.detail, unknown=True)]
    fix = f'{name}. TXT "v=DKIM1; k=rsa; p=..." with the key that is signed with'
    kinds = {
        KeyState.MISSING: "dkim-missing",
        KeyState.REVOKED: "dkim-revoked",
        KeyState.SYNTAX: "dkim-syntax",
    }
    if found.key is None:
        return [
            Finding(kinds.get(found.state, "dkim-syntax"), Severity.ERROR, name, found.detail, _LOST, fix)
        ]
    key, findings = found.key, []
    if key.kind == "rsa" and key.bits < SHORT_KEY:
        severity = Severity.ERROR if key.bits < 1024 else Severity.WARNING
        why = "receivers ignore keys below 1024 bits, and will soon want 2048 (RFC 8301)"
        new = f'a new selector with 2048 bits: {name}. TXT "v=DKIM1; k=rsa; p=..."'
        findings.append(Finding("dkim-short", severity, name, f"{key.bits} bits only", why, new))
    if key.testing:
        why = "receivers treat its signatures as if there were none"
        findings.append(
            Finding("dkim-testing", Severity.WARNING, name, "t=y: still testing", why, "take t=y out")
        )
    return findings


async def check_dmarc(domain: str, resolver: Resolver) -> tuple[list[Finding], Policy | None]:
    """The findings, and the policy that holds for the domain (None where it could not be seen)."""
    name = f"_dmarc.{domain}"
    try:
        own = await fetch_records(domain, resolver)
        policy = await TreeWalkRule(resolver).policy(domain)
    except PolicyUnknown as error:
        text = f"could not be looked up: {error}"
        return [Finding("dmarc-unknown", Severity.INFO, name, text, unknown=True)], None
    fix = f'{name}. TXT "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"'
    if len(own) > 1:
        what = f"{len(own)} DMARC records: receivers use none of them"
        return [Finding("dmarc-several", Severity.ERROR, name, what, _BULK, "leave one")], policy
    if policy.record is None:
        return [Finding("dmarc-missing", Severity.ERROR, name, "no DMARC record", _BULK, fix)], policy
    return [*_judge(policy, policy.record), *await _authorised(policy, policy.record, resolver)], policy


def _judge(policy: Policy, record: DmarcRecord) -> list[Finding]:
    name = f"_dmarc.{policy.domain}"
    findings = []
    if record.faults:
        what = "; ".join(record.faults)
        findings.append(
            Finding("dmarc-syntax", Severity.WARNING, name, what, "a wrong tag is ignored", "correct it")
        )
    if policy.assessment == "none":
        why = "nobody is asked to refuse forgeries; enough for the bulk rules"
        better = f'{name}. TXT "v=DMARC1; p=quarantine; ..." once the reports are clean'
        findings.append(Finding("dmarc-none", Severity.INFO, name, "p=none only watches", why, better))
    if record.testing:
        findings.append(Finding("dmarc-testing", Severity.INFO, name, "t=y: the policy is not to be applied"))
    if not record.reports_to:
        fix = f"add rua=mailto:dmarc@{policy.domain}"
        findings.append(
            Finding("dmarc-no-reports", Severity.INFO, name, "no rua=: nobody gets reports", fix=fix)
        )
    return findings


async def _authorised(policy: Policy, record: DmarcRecord, resolver: Resolver) -> list[Finding]:
    """Whether each outside receiver of reports has agreed (RFC 9990 section 4)."""
    findings = []
    owner = registrable(policy.domain) or policy.domain
    hosts = {_mail_domain(uri) for uri in (*record.reports_to, *record.failures_to)}
    for host in sorted(host for host in hosts if host):
        if host == owner or is_below(host, owner):
            continue
        name = f"{policy.domain}._report._dmarc.{host}"
        found, answer = await texts(name, resolver, "v=DMARC1")
        if not answer.status.conclusive:
            findings.append(could_not_look("dmarc-unknown", answer))
        elif not found:
            what = f"{host} has not agreed to take reports: they are not sent"
            fix = f'{name}. TXT "v=DMARC1" (to be published by {host})'
            findings.append(Finding("dmarc-external", Severity.WARNING, name, what, "RFC 9990", fix))
    return findings


def _mail_domain(uri: str) -> str:
    """The domain of a mailto: URI, without the size limit that older records add after a `!`."""
    scheme, _, address = uri.partition(":")
    host = address.partition("?")[0].partition("!")[0].rpartition("@")[2]
    return host.strip().rstrip(".").lower() if scheme.strip().lower() == "mailto" else ""
