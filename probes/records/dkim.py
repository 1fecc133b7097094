"""DKIM keys as published: there, readable, long enough, meant (RFC 6376 section 3.6.1, RFC 8301)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from probes.authentication.keys import DkimKey, KeySearch, KeyState, find_key
from probes.dns import Resolver
from probes.outcome import Severity
from probes.records.finding import Finding

SHORT_KEY = 2048  # bits; RFC 8301 section 3.2: signers SHOULD use at least that, and MUST 1024
OLD = 400 * 86400.0
"""Seconds a key may be in use before its age is noted (M3AAWG: rotate twice a year)."""

_LOST = "messages signed with it fail DKIM, and DMARC where nothing else aligns"
_CODES = {
    KeyState.MISSING: "dkim-missing",
    KeyState.REVOKED: "dkim-revoked",
    KeyState.SYNTAX: "dkim-syntax",
}


@dataclass(frozen=True, slots=True)
class KeySurvey:
    """One selector. key: None where there is none to be had; since: epoch seconds it was first seen."""

    selector: str
    search: KeySearch
    since: float | None = None

    def to_json(self, now: float) -> dict[str, object]:
        """JSON-ready."""
        key = self.search.key
        return {
            "selector": self.selector,
            "name": self.search.name,
            "state": self.search.state.value,
            "type": key.kind if key else None,
            "bits": key.bits if key else None,
            "testing": key.testing if key else None,
            "age_seconds": max(0.0, now - self.since) if self.since is not None else None,
        }


async def look_at_keys(
    domain: str, selectors: Iterable[str], resolver: Resolver, first_seen: Mapping[str, float]
) -> list[KeySurvey]:
    """The keys of the selectors in use. first_seen: epoch seconds, by selector."""
    return [
        KeySurvey(
            selector, await find_key(f"{selector}._domainkey.{domain}", resolver), first_seen.get(selector)
        )
        for selector in dict.fromkeys(selectors)
    ]


def judge_keys(keys: Iterable[KeySurvey], now: float) -> list[Finding]:
    """The faults of each."""
    return [finding for key in keys for finding in _judge(key, now)]


def _judge(found: KeySurvey, now: float) -> list[Finding]:
    search = found.search
    if search.state is KeyState.UNREACHABLE:
        return [Finding("dkim-unknown", Severity.INFO, search.name, search.detail, unknown=True)]
    if search.key is None:
        fix = f'{search.name}. TXT "v=DKIM1; k=rsa; p=..." with the public half of the key in use; '
        fix += "or let the signer use another selector"
        return [Finding(_CODES[search.state], Severity.ERROR, search.name, search.detail, _LOST, fix)]
    return [*_judge_key(search.name, search.key), *_judge_age(found, now)]


def _judge_key(name: str, key: DkimKey) -> list[Finding]:
    findings = []
    if key.kind == "rsa" and key.bits < SHORT_KEY:
        severity = Severity.ERROR if key.bits < 1024 else Severity.WARNING
        why = "receivers ignore keys below 1024 bits, and will soon want 2048 (RFC 8301)"
        domain = name.partition("._domainkey.")[2]
        fix = f'a key of 2048 bits under a new selector: NEW._domainkey.{domain}. TXT "v=DKIM1; k=rsa; p=..."'
        findings.append(Finding("dkim-short", severity, name, f"{key.bits} bits only", why, fix))
    if key.testing:
        why = "receivers may treat its signatures as if there were none"
        fix = "take t=y out of the record"
        findings.append(Finding("dkim-testing", Severity.WARNING, name, "t=y: still testing", why, fix))
    if key.hashes and "sha256" not in key.hashes:
        why, fix = "RFC 8301 section 3.1: sha1 is not to be used", "take h= out of the record"
        findings.append(Finding("dkim-hash", Severity.ERROR, name, f"h={':'.join(key.hashes)}", why, fix))
    if key.services and not {"*", "email"} & set(key.services):
        why, fix = "the key is not for mail", "take s= out of the record"
        findings.append(
            Finding("dkim-service", Severity.ERROR, name, f"s={':'.join(key.services)}", why, fix)
        )
    return findings


def _judge_age(found: KeySurvey, now: float) -> list[Finding]:
    if found.since is None or now - found.since < OLD:
        return []
    text = f"in use for {(now - found.since) / 86400:.0f} days at least"
    fix = "publish a new key under another selector, sign with it, and take this one out a week later"
    return [Finding("dkim-old", Severity.INFO, found.search.name, text, "keys are to be rotated", fix)]
