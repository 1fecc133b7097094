"""The MX records of a domain: can mail reach it (RFC 5321 section 5, RFC 7505)."""

from __future__ import annotations

from ipaddress import ip_address

from probes.dns import Resolver
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look


async def check_mx(domain: str, resolver: Resolver) -> tuple[list[Finding], list[str]]:
    """The findings, and the mail exchangers by preference."""
    answer = await resolver.query(domain, "MX")
    if not answer.status.conclusive:
        return [could_not_look("mx-unknown", answer)], []
    pairs = sorted((int(p), host) for p, _, host in (r.partition(" ") for r in answer.records) if p.isdigit())
    if not pairs:
        return await _without_mx(domain, resolver), []
    if (0, ".") in pairs:
        if len(pairs) == 1:
            return [Finding("mx-null", Severity.INFO, domain, "the domain takes no mail (RFC 7505)")], []
        text = "a null MX beside others (RFC 7505 section 3 forbids it)"
        return [
            Finding("mx-null-and-others", Severity.ERROR, domain, text, fix=f"{domain}. MX 0 . alone")
        ], []
    hosts = [host.rstrip(".").lower() for _, host in pairs]
    findings = [finding for host in dict.fromkeys(hosts) for finding in await _check_target(host, resolver)]
    return findings, list(dict.fromkeys(hosts))


async def _without_mx(domain: str, resolver: Resolver) -> list[Finding]:
    answers = [await resolver.query(domain, rdtype) for rdtype in ("A", "AAAA")]
    fix = f"{domain}. MX 10 mail.{domain}."
    if any(a.records for a in answers):
        text = "no MX: mail goes to the domain's own address, and bounces there when nobody listens"
        return [Finding("mx-implicit", Severity.WARNING, domain, text, "RFC 5321 section 5.1", fix)]
    silent = [a for a in answers if not a.status.conclusive]
    if silent:
        return [could_not_look("mx-unknown", silent[0])]
    why = "mail to the domain cannot be delivered; many receivers refuse mail from such a domain"
    return [Finding("mx-missing", Severity.ERROR, domain, "no MX and no address", why, fix)]


async def _check_target(host: str, resolver: Resolver) -> list[Finding]:
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        fix = "give the host a name with an A record, and name that in the MX"
        return [
            Finding("mx-address", Severity.ERROR, host, "an MX names an address, not a host", "RFC 1035", fix)
        ]
    findings: list[Finding] = []
    alias = await resolver.query(host, "CNAME")
    if alias.records:
        text = f"an MX points at an alias ({alias.records[0]})"
        fix = f"name {alias.records[0]} in the MX itself"
        findings.append(Finding("mx-alias", Severity.WARNING, host, text, "RFC 5321 section 5.1", fix))
    answers = [await resolver.query(host, rdtype) for rdtype in ("A", "AAAA")]
    if any(a.records for a in answers):
        return findings
    silent = [a for a in answers if not a.status.conclusive]
    if silent:
        return [*findings, could_not_look("mx-unknown", silent[0])]
    text = "an MX host has no address"
    fix = f"{host}. A ..., or take the host out of the MX records"
    return [
        *findings,
        Finding("mx-unresolved", Severity.ERROR, host, text, "mail waits, then bounces", fix),
    ]
