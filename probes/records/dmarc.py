"""The DMARC record that speaks for a domain: policy, faults, receivers of reports (RFC 9989, RFC 9990)."""

from __future__ import annotations

from collections.abc import Mapping

from probes.authentication.dmarc_policy import Policy, PolicyUnknown, TreeWalkRule
from probes.authentication.dmarc_record import DmarcRecord, parse_dmarc
from probes.authentication.domains import is_below, registrable
from probes.dns import Resolver
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look, texts
from probes.records.text import read_dmarc

_BULK = "Gmail, Yahoo and Microsoft want DMARC of whoever sends in bulk"


async def check_dmarc(domain: str, resolver: Resolver) -> tuple[list[Finding], Policy | None]:
    """The findings, and the policy that holds for the domain (None where it could not be seen)."""
    name = f"_dmarc.{domain}"
    own, answer = await texts(name, resolver, "v")
    if not answer.status.conclusive:
        return [could_not_look("dmarc-unknown", answer)], None
    try:
        policy = await TreeWalkRule(resolver).policy(domain)
    except PolicyUnknown as error:
        text = f"could not be looked up: {error}"
        return [Finding("dmarc-unknown", Severity.INFO, name, text, unknown=True)], None
    records = [text for text in own if parse_dmarc(text) is not None]
    fix = f'{name}. TXT "v=DMARC1; p=none; rua=mailto:dmarc@{domain}"'
    if len(records) > 1:
        what = f"{len(records)} DMARC records: receivers use none of them"
        return [Finding("dmarc-several", Severity.ERROR, name, what, _BULK, _one_of(name, records))], policy
    broken = [text for text in own if "dmarc" in text[:20].lower()]
    if not records and broken:
        what = f"receivers do not take this for a DMARC record: {broken[0][:200]}"
        return [Finding("dmarc-broken", Severity.ERROR, name, what, _BULK, fix)], policy
    if policy.record is None:
        return [Finding("dmarc-missing", Severity.ERROR, name, "no DMARC record", _BULK, fix)], policy
    return [*_judge(policy, policy.record), *await _authorised(policy, policy.record, resolver)], policy


def _one_of(name: str, records: list[str]) -> str:
    """The strictest of several records."""
    order = {"reject": 0, "quarantine": 1}
    read = [(parse_dmarc(text), text) for text in records]
    ranked = [(order.get((record and record.policy) or "", 2), text) for record, text in read]
    return f'leave one: {name}. TXT "{min(ranked)[1]}"'


def _judge(policy: Policy, record: DmarcRecord) -> list[Finding]:
    name = f"_dmarc.{policy.domain}"
    findings = []
    reading = read_dmarc(record.text)
    if not reading.usable:
        what = "receivers do not apply it: " + "; ".join(reading.faults)
        fix = f'{name}. TXT "v=DMARC1; p=none; rua=mailto:dmarc@{policy.domain}"'
        findings.append(Finding("dmarc-broken", Severity.ERROR, name, what, _BULK, fix))
    elif reading.faults:
        what, why = "; ".join(reading.faults), "what is wrong is ignored; a wrong policy counts as p=none"
        findings.append(
            Finding("dmarc-syntax", Severity.WARNING, name, what, why, f"correct it: {record.text}")
        )
    if policy.assessment == "none" and reading.usable:
        why = "nobody is asked to refuse forgeries; enough for the bulk rules"
        better = f'{name}. TXT "{stricter(record.text)}" once the reports are clean'
        findings.append(Finding("dmarc-none", Severity.INFO, name, "p=none only watches", why, better))
    if record.testing:
        findings.append(Finding("dmarc-testing", Severity.INFO, name, "t=y: the policy is not to be applied"))
    if not record.reports_to:
        fix = f'{name}. TXT "{_with(record.text, {"rua": f"mailto:dmarc@{policy.domain}"})}"'
        text = "no rua=: nobody gets reports"
        findings.append(Finding("dmarc-no-reports", Severity.INFO, name, text, fix=fix))
    return findings


def stricter(text: str) -> str:
    """The record with quarantine where it says none."""
    wanted = {"p": "quarantine"}
    if any(
        _tag(part) == "sp" and part.rpartition("=")[2].strip().lower() == "none" for part in text.split(";")
    ):
        wanted["sp"] = "quarantine"
    return _with(text, wanted)


def _with(text: str, wanted: Mapping[str, str]) -> str:
    """A record with these tags in place of its own, or behind them."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    left = dict(wanted)
    told = [f"{tag}={left.pop(tag)}" if (tag := _tag(part)) in left else part for part in parts]
    return "; ".join([*told, *(f"{tag}={value}" for tag, value in left.items())])


def _tag(part: str) -> str:
    return part.partition("=")[0].strip().lower()


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
