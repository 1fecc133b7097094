"""MTA-STS, TLS-RPT and BIMI as published (RFC 8461, RFC 8460). A domain without them has no fault."""

from __future__ import annotations

import re
from dataclasses import dataclass

from probes.authentication.dmarc_policy import Policy
from probes.dns import Resolver
from probes.errors import DataError, HttpUnavailable
from probes.http import Fetcher, Limits
from probes.outcome import Severity
from probes.records.finding import Finding, could_not_look, texts

MAX_AGE = 31_557_600  # seconds, RFC 8461 section 3.2
SHORT_AGE = 604_800  # below a week a policy protects little (RFC 8461 section 3.2 speaks of weeks)
POLICY_LIMITS = Limits(seconds=60.0, max_bytes=64 * 1024, content_types=("text/plain",))
SVG_LIMITS = Limits(seconds=15.0, max_bytes=1024 * 1024, redirects=2)

_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_WHY = "senders go on without TLS protection, or with an old policy"


@dataclass(frozen=True, slots=True)
class StsPolicy:
    """An MTA-STS policy. mode: enforce, testing or none; hosts: names, or *.name; max_age: seconds."""

    mode: str
    hosts: tuple[str, ...]
    max_age: int

    def covers(self, host: str) -> bool:
        """Whether a mail exchanger is named (RFC 8461 section 4.1: a wildcard stands for one label)."""
        name = host.rstrip(".").lower()
        parent = name.partition(".")[2]
        return name in self.hosts or f"*.{parent}" in self.hosts


def tags(record: str) -> dict[str, str]:
    """The name=value pairs of a record, names in lower case; the first of two counts."""
    found: dict[str, str] = {}
    for part in record.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def parse_sts_policy(text: str) -> StsPolicy:
    """Reads a policy file. Raises DataError naming what is wrong."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if line.strip() and not colon:
            raise DataError(f"not a field: {line[:40]!r}")
        fields.setdefault(name.strip(), []).append(value.strip())
    if fields.get("version") != ["STSv1"]:
        raise DataError("version: STSv1 is missing")
    mode, age = (fields.get(name, [""])[0] for name in ("mode", "max_age"))
    if mode not in ("enforce", "testing", "none"):
        raise DataError(f"mode is {mode!r}, not enforce, testing or none")
    if not age.isascii() or not age.isdigit() or len(age) > 10 or int(age) > MAX_AGE:
        raise DataError(f"max_age is {age[:20]!r}, not 0 to {MAX_AGE}")
    hosts = tuple(host.lower().rstrip(".") for host in fields.get("mx", []))
    if mode != "none" and not hosts:
        raise DataError("no mx")
    return StsPolicy(mode, hosts, int(age))


async def check_mta_sts(
    domain: str, exchangers: list[str], resolver: Resolver, fetcher: Fetcher
) -> list[Finding]:
    """The TXT record, the policy over HTTPS, and whether it names every mail exchanger."""
    name = f"_mta-sts.{domain}"
    found, answer = await texts(name, resolver, "v=STSv1")
    if not answer.status.conclusive:
        return [could_not_look("mta-sts-unknown", answer)]
    if not found:
        return []
    if len(found) > 1 or not _ID.match(tags(found[0]).get("id", "")):
        fix = f'{name}. TXT "v=STSv1; id=20260101T000000"'
        text = "several records" if len(found) > 1 else "id= is missing or not 1 to 32 letters and digits"
        return [Finding("mta-sts-record", Severity.ERROR, name, text, _WHY, fix)]
    url = f"https://mta-sts.{domain}/.well-known/mta-sts.txt"
    try:
        fetched = await fetcher.fetch(url, POLICY_LIMITS)
    except HttpUnavailable as error:
        if error.facts.get("reason") in ("dns", "timeout", "connection"):
            return [Finding("mta-sts-unknown", Severity.INFO, url, str(error), unknown=True)]
        return [Finding("mta-sts-fetch", Severity.ERROR, url, str(error), _WHY, f"serve the policy at {url}")]
    if fetched.status != 200:
        text = f"status {fetched.status}; a redirect is not followed (RFC 8461 section 3.3)"
        return [Finding("mta-sts-fetch", Severity.ERROR, url, text, _WHY, f"serve the policy at {url}")]
    return _judge_policy(fetched.body, url, exchangers)


def _judge_policy(body: bytes, url: str, exchangers: list[str]) -> list[Finding]:
    try:
        policy = parse_sts_policy(body.decode("utf-8"))
    except (DataError, UnicodeDecodeError) as error:
        return [Finding("mta-sts-policy", Severity.ERROR, url, str(error), _WHY, "correct the policy file")]
    findings = []
    for host in exchangers:
        if policy.mode != "none" and not policy.covers(host):
            severity = Severity.CRITICAL if policy.mode == "enforce" else Severity.WARNING
            text = f"the mail exchanger {host} is not in the policy (mode {policy.mode})"
            why = "senders that obey the policy do not deliver to it"
            findings.append(Finding("mta-sts-mx", severity, url, text, why, f"add the line: mx: {host}"))
    if policy.mode == "enforce" and policy.max_age < SHORT_AGE:
        text = f"max_age of {policy.max_age} s is forgotten between two messages"
        findings.append(Finding("mta-sts-age", Severity.INFO, url, text, fix="max_age: 1209600"))
    return findings


async def check_tls_rpt(domain: str, resolver: Resolver) -> list[Finding]:
    """The TLS-RPT record, where there is one (RFC 8460 section 3)."""
    name = f"_smtp._tls.{domain}"
    found, answer = await texts(name, resolver, "v=TLSRPTv1")
    if not answer.status.conclusive:
        return [could_not_look("tls-rpt-unknown", answer)]
    if not found:
        return []
    uris = [uri.strip() for uri in tags(found[0]).get("rua", "").split(",")]
    if len(found) == 1 and all(uri.startswith(("mailto:", "https://")) for uri in uris):
        return []
    text = "several records" if len(found) > 1 else "rua= names no mailto: or https: address"
    fix = f'{name}. TXT "v=TLSRPTv1; rua=mailto:tlsrpt@{domain}"'
    return [Finding("tls-rpt-record", Severity.WARNING, name, text, "no reports are sent", fix)]


async def check_bimi(
    domain: str, policy: Policy | None, resolver: Resolver, fetcher: Fetcher
) -> list[Finding]:
    """The default BIMI record, where there is one: the policy it needs, and whether its logo can be had."""
    name = f"default._bimi.{domain}"
    found, answer = await texts(name, resolver, "v=BIMI1")
    if not answer.status.conclusive:
        return [could_not_look("bimi-unknown", answer)]
    if not found:
        return []
    findings = []
    if policy is not None and policy.assessment not in ("quarantine", "reject"):
        text = f"a logo needs DMARC with p=quarantine or reject, not {policy.assessment}"
        fix = f'_dmarc.{domain}. TXT "v=DMARC1; p=quarantine; ..."'
        findings.append(Finding("bimi-policy", Severity.WARNING, name, text, "no logo is shown", fix))
    url = tags(found[0]).get("l", "")
    if not url:
        return findings  # l= empty: the domain declines
    try:
        fetched = await fetcher.fetch(url, SVG_LIMITS)
    except HttpUnavailable as error:
        unknown = error.facts.get("reason") in ("dns", "timeout", "connection")
        severity = Severity.INFO if unknown else Severity.WARNING
        return [
            *findings,
            Finding("bimi-logo", severity, name, str(error), "no logo is shown", unknown=unknown),
        ]
    if fetched.status != 200 or fetched.content_type != "image/svg+xml":
        text = f"the logo is answered with status {fetched.status}, {fetched.content_type or 'no type'}"
        findings.append(
            Finding("bimi-logo", Severity.WARNING, name, text, "no logo is shown", "serve image/svg+xml")
        )
    return findings
