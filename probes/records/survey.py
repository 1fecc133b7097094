"""Every record of one mail domain, as one Result: what is wrong, why it matters, what to publish."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from probes.authentication.dmarc_policy import Policy
from probes.clock import Clock, SystemClock
from probes.dns import DnsStatus, Resolver
from probes.http import Fetcher
from probes.outcome import Evidence, Outcome, Result, Severity
from probes.records.bimi import check_bimi
from probes.records.caa import find_caa
from probes.records.dane import check_dane
from probes.records.dkim import judge_keys, look_at_keys
from probes.records.dmarc import check_dmarc
from probes.records.dnssec import AskSigned, DnssecState, ask_signed, check_dnssec
from probes.records.exchangers import contact_all, judge_contacts
from probes.records.finding import Finding, outcome_of
from probes.records.mx import check_mx
from probes.records.reach import Reach
from probes.records.rules import score
from probes.records.senders import SendingHost, check_senders
from probes.records.servers import Authorities, Zone, check_servers
from probes.records.snapshot import watched
from probes.records.spf import survey_spf
from probes.records.sts import check_mta_sts
from probes.records.tls_rpt import check_tls_rpt

ABSENT = "ns-no-domain"


@dataclass(frozen=True, slots=True)
class Survey:
    """What is looked at. selectors: DKIM selectors in use; first_seen: of them, epoch seconds; senders: hosts
    that mail leaves from.
    """

    domain: str
    selectors: Sequence[str] = ()
    senders: Sequence[SendingHost] = ()
    first_seen: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SurveyMeans:
    """What a survey may touch. fetcher: policies and logos; reach: contacts mail exchangers; authorities:
    asks name servers themselves. None of one: that is not looked at.
    """

    resolver: Resolver
    fetcher: Fetcher | None = None
    clock: Clock = field(default_factory=SystemClock)
    reach: Reach | None = None
    authorities: Authorities | None = None
    ask_signed: AskSigned = ask_signed


@dataclass(slots=True)
class _Found:
    """What a survey collects."""

    findings: list[Finding] = field(default_factory=list)
    data: dict[str, object] = field(default_factory=dict)


async def survey(what: Survey, means: SurveyMeans) -> Result:
    """Looks at every record of a domain. Fail for any fault, unknown for what was not seen, else pass."""
    at, started = means.clock.wall(), means.clock.monotonic()
    found = _Found()
    await asyncio.gather(
        _receiving(what, means, found), _sending(what, means, found), _zone(what, means, found)
    )
    absent = [f for f in found.findings if f.code == ABSENT]
    findings = sorted(
        dict.fromkeys(found.findings), key=lambda f: (-f.severity.rank, f.unknown, f.code, f.name)
    )
    outcome = outcome_of(findings)
    reason = {Outcome.PASS: "clean", Outcome.UNKNOWN: "unknown", Outcome.FAIL: "faults"}[outcome]
    lines = score(findings, _looked(what))
    return Result(
        probe="records",
        target=what.domain,
        outcome=outcome,
        reason=reason,
        summary=("the domain does not exist: " if absent else "") + _summary(findings),
        at=at,
        seconds=max(0.0, means.clock.monotonic() - started),
        evidence=tuple(Evidence("dns", f"{f.name}: {f.what}", at) for f in findings if not f.is_note),
        data={
            "findings": [row(f) for f in findings if not f.is_note],
            "notes": [row(f) for f in findings if f.is_note],
            **dict(sorted(found.data.items())),
            "rules": [
                {
                    "provider": line.provider,
                    "rule": line.rule,
                    "text": line.text,
                    "outcome": line.outcome.value,
                }
                for line in lines
            ],
        },
    )


def findings_of(result: Result) -> list[Finding]:
    """The findings of a survey's result, notes left out."""
    items = result.data["findings"]
    assert isinstance(items, list)
    return [
        Finding(
            item["code"],
            Severity(item["severity"]),
            item["name"],
            item["what"],
            item["why"],
            item["fix"],
            unknown=item["outcome"] == Outcome.UNKNOWN,
        )
        for item in items
    ]


def _summary(findings: Sequence[Finding]) -> str:
    faults = sum(outcome_of([f]) is Outcome.FAIL for f in findings)
    unseen, notes = sum(f.unknown for f in findings), sum(f.is_note for f in findings)
    text = f"{faults} fault{'s' * (faults != 1)}" if faults else "no fault"
    return (
        text
        + (f", {unseen} not seen" if unseen else "")
        + (f", {notes} note{'s' * (notes != 1)}" if notes else "")
    )


def _looked(what: Survey) -> set[str]:
    looked = {"mx", "spf", "dmarc"}
    looked |= {"dkim"} if what.selectors else set()
    looked |= {"ptr"} if what.senders else set()
    return looked | ({"helo"} if any(sender.helo for sender in what.senders) else set())


async def _receiving(what: Survey, means: SurveyMeans, found: _Found) -> None:
    """MX, what stands behind it, and the policies about it."""
    domain, resolver = what.domain, means.resolver
    mx, exchangers = await check_mx(domain, resolver)
    sts = await check_mta_sts(domain, exchangers, resolver, means.fetcher)
    found.findings += [*mx, *sts.findings, *await check_tls_rpt(domain, resolver)]
    contacts = await contact_all(exchangers, resolver, means.reach) if means.reach else []
    found.findings += judge_contacts(contacts, sts.demands_tls, means.clock.wall())
    if means.authorities is not None:
        signed = {host: await _is_signed(host, means) for host in exchangers}
        found.findings += await check_dane(exchangers, contacts, signed, resolver)
    found.data["mx"] = exchangers
    found.data["mta_sts"] = (
        {"mode": sts.policy.mode, "mx": list(sts.policy.hosts), "max_age_seconds": sts.policy.max_age}
        if sts.policy
        else None
    )
    found.data["mta_sts_text"] = sts.text
    found.data["contacts"] = [
        {"host": c.host, "address": c.address, "state": c.state, "starttls": c.starttls, "trusted": c.trusted}
        for c in contacts
    ]


async def _is_signed(host: str, means: SurveyMeans) -> bool | None:
    zone = await means.authorities.zone_of(host) if means.authorities else None
    if zone is None:
        return None
    answer = await means.resolver.query(zone.apex, "DS")
    return bool(answer.records) if answer.status.conclusive else None


async def _sending(what: Survey, means: SurveyMeans, found: _Found) -> None:
    """SPF, DKIM, DMARC, BIMI and the hosts that send."""
    domain, resolver, now = what.domain, means.resolver, means.clock.wall()
    spf = await survey_spf(domain, resolver)
    dmarc, policy = await check_dmarc(domain, resolver)
    keys = await look_at_keys(domain, what.selectors, resolver, what.first_seen)
    found.findings += [
        *spf.findings,
        *dmarc,
        *judge_keys(keys, now),
        *await check_bimi(domain, policy, resolver, means.fetcher),
        *await check_senders(domain, what.senders, resolver, spf=spf.usable),
    ]
    found.data["spf"] = {
        "tree": spf.draw(),
        "terms": spf.root.to_json(),
        "lookups": spf.lookups,
        "voids": spf.voids,
    }
    found.data["dkim"] = [key.to_json(now) for key in keys]
    found.data["dmarc"] = _dmarc_row(policy)


def _dmarc_row(policy: Policy | None) -> dict[str, object] | None:
    if policy is None or policy.record is None:
        return None
    record = policy.record
    return {
        "domain": policy.domain,
        "record": record.text,
        "policy": policy.assessment,
        "alignment": {
            "dkim": "strict" if record.strict_dkim else "relaxed",
            "spf": "strict" if record.strict_spf else "relaxed",
        },
        "testing": record.testing,
        "rua": list(record.reports_to),
        "ruf": list(record.failures_to),
    }


async def _zone(what: Survey, means: SurveyMeans, found: _Found) -> None:
    """Whether there is such a name at all; the name servers, DNSSEC, and CAA."""
    found.findings += await _existence(what.domain, means.resolver)
    found.data["caa"] = list(await find_caa(what.domain, means.resolver))
    if means.authorities is None:
        return
    zone = await means.authorities.zone_of(what.domain)
    if zone is None:
        return
    found.findings += await check_servers(zone, watched(what.domain, what.selectors), means.authorities)
    state = await check_dnssec(zone, means.resolver, means.clock, means.ask_signed)
    found.findings += state.findings
    found.data["zone"] = _zone_row(zone, state)


async def _existence(domain: str, resolver: Resolver) -> list[Finding]:
    """A name that DNS does not know has no records at all: that is to be said before any of them."""
    if (await resolver.query(domain, "MX")).status is not DnsStatus.NXDOMAIN:
        return []
    what = "the domain does not exist: DNS answers NXDOMAIN (is the name spelled right?)"
    why = "no mail reaches it, and every provider refuses mail that claims to come from it"
    fix = f"register the domain or renew it, and have its parent delegate it: {domain}. NS <its name servers>"
    return [Finding(ABSENT, Severity.CRITICAL, domain, what, why, fix)]


def _zone_row(zone: Zone, state: DnssecState) -> dict[str, object]:
    servers = [{"host": host, "address": address} for host, address in zone.servers]
    return {"apex": zone.apex, "servers": servers, "dnssec": state.state, "signatures_until": state.until}


def row(finding: Finding) -> dict[str, object]:
    """A finding, ready for JSON."""
    return {
        "kind": finding.kind,
        "code": finding.code,
        "severity": finding.severity.value,
        "outcome": outcome_of([finding]).value,
        "name": finding.name,
        "what": finding.what,
        "why": finding.why,
        "fix": finding.fix,
    }
