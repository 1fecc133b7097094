"""The TLS-RPT record, where there is one (RFC 8460 section 3)."""

from __future__ import annotations

from probes.dns import Resolver
from probes.errors import DataError
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look, texts
from probes.records.text import parse_tls_rpt


async def check_tls_rpt(domain: str, resolver: Resolver) -> list[Finding]:
    """Whether anybody can send reports to where it says. A domain without it has no fault."""
    name = f"_smtp._tls.{domain}"
    found, answer = await texts(name, resolver, "v=TLSRPTv1")
    if not answer.status.conclusive:
        return [could_not_look("tls-rpt-unknown", answer)]
    if not found:
        return []
    try:
        parse_tls_rpt(found[0])
        fault = f"{len(found)} records: senders use none of them" if len(found) > 1 else ""
    except DataError as error:
        fault = error.detail
    if not fault:
        return []
    fix = f'{name}. TXT "v=TLSRPTv1; rua=mailto:tlsrpt@{domain}"'
    return [Finding("tls-rpt-record", Severity.WARNING, name, fault, "no reports are sent", fix)]
