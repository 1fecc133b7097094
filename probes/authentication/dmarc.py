"""DMARC (RFC 9989), and what the older RFC 7489 says beside it where the two differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from probes.authentication.dkim import DkimResult
from probes.authentication.dmarc_policy import (
    Policy,
    PolicyUnknown,
    PublicSuffixRule,
    Rule,
    TreeWalkRule,
)
from probes.authentication.domains import load_suffixes, normal_domain
from probes.authentication.spf_result import SpfResult
from probes.dns import Resolver

_MILDER = {"reject": "quarantine", "quarantine": "none", "none": "none"}
#: Distinct identifiers whose alignment is looked up; each may cost a walk.
IDENTIFIER_CAP = 10


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """What DMARC says of a message.

    result: pass, fail, none, temperror or permerror; rule: the RFC it was found by; domain: the author
    domain; organizational_domain: of the author; policy_domain, record: the record that speaks; policy:
    p=, sp= or np= as it applies; disposition: what the owner asks for this message (t=y and a pass soften
    it); dkim, spf: domains that passed and align; strict_dkim, strict_spf: the alignment asked for;
    testing: t=y; older: the RFC 7489 evaluation, where it differs.
    """

    result: str
    rule: str
    domain: str
    detail: str
    organizational_domain: str = ""
    policy_domain: str = ""
    record: str = ""
    policy: str = "none"
    disposition: str = "none"
    dkim: tuple[str, ...] = ()
    spf: tuple[str, ...] = ()
    strict_dkim: bool = False
    strict_spf: bool = False
    testing: bool = False
    author_exists: bool | None = None
    faults: tuple[str, ...] = ()
    older: DmarcResult | None = None

    def to_json(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "result": self.result,
            "domain": self.domain,
            "detail": self.detail,
            "rule": self.rule,
            "organizational_domain": self.organizational_domain,
            "policy_domain": self.policy_domain,
            "record": self.record,
            "policy": self.policy,
            "disposition": self.disposition,
            "aligned": {"dkim": list(self.dkim), "spf": list(self.spf)},
            "strict": {"dkim": self.strict_dkim, "spf": self.strict_spf},
            "testing": self.testing,
            "author_exists": self.author_exists,
            "faults": list(self.faults),
            "older": self.older.to_json() if self.older else None,
        }


@dataclass(frozen=True, slots=True)
class Identifiers:
    """What DMARC aligns: the domains that passed, and those that might have, had we been able to look.

    anything: somebody unknown might have passed (SPF without an address, or without a sender).
    """

    dkim: tuple[str, ...] = ()
    spf: tuple[str, ...] = ()
    dkim_unknown: tuple[str, ...] = ()
    spf_unknown: tuple[str, ...] = ()
    anything: bool = False


def identifiers(spf: SpfResult, dkim: Iterable[DkimResult]) -> Identifiers:
    """The identifiers of RFC 9989 section 4.4 from what SPF and DKIM found."""
    results = tuple(dkim)
    unknown = spf.result == "temperror" or not spf.evaluated
    return Identifiers(
        dkim=_distinct(one.domain for one in results if one.result == "pass"),
        spf=(spf.domain,) if spf.result == "pass" else (),
        dkim_unknown=_distinct(one.domain for one in results if one.result in ("temperror", "neutral")),
        spf_unknown=(spf.domain,) if unknown and spf.domain else (),
        anything=unknown and not spf.domain,
    )


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(normal_domain(name) for name in names if name))[:IDENTIFIER_CAP]


async def evaluate_dmarc(authors: Sequence[str], found: Identifiers, resolver: Resolver) -> DmarcResult:
    """Evaluates both rules; the older one is kept beside where result, owner, policy or disposition differ.

    authors: the domains of From, as `author_domains` gives them.
    """
    if len(authors) != 1:
        return _no_author(authors)
    author = authors[0]
    await load_suffixes()
    newer = await evaluate_rule(TreeWalkRule(resolver), author, found)
    older = await evaluate_rule(PublicSuffixRule(resolver), author, found)
    if _gist(newer) == _gist(older):
        return newer
    return replace(newer, older=older)


def _gist(one: DmarcResult) -> tuple[str, ...]:
    """What makes two evaluations the same for people; without a record nobody's owner matters."""
    if not one.record:
        return (one.result,)
    return (one.result, one.organizational_domain, one.policy_domain, one.policy, one.disposition)


def _no_author(authors: Sequence[str]) -> DmarcResult:
    if not authors:
        return DmarcResult("none", TreeWalkRule.name, "", "From has no domain")
    detail = f"From has several domains: {', '.join(authors[:5])}"
    return DmarcResult("permerror", TreeWalkRule.name, authors[0], detail)


async def evaluate_rule(rule: Rule, author: str, found: Identifiers) -> DmarcResult:
    """Evaluates one author domain under one rule. DNS failures are temperror."""
    try:
        policy = await rule.policy(author)
        if policy.record is None:
            return DmarcResult("none", rule.name, author, f"no DMARC record for {author}")
        if not policy.record.applies:
            return _told(rule, author, policy, "none", "the policy is not valid and no reports are asked for")
        return await _aligned(rule, author, policy, found)
    except PolicyUnknown as error:
        return DmarcResult("temperror", rule.name, author, str(error))


def _told(
    rule: Rule,
    author: str,
    policy: Policy,
    result: str,
    detail: str,
    *,
    owner: str = "",
    dkim: tuple[str, ...] = (),
    spf: tuple[str, ...] = (),
) -> DmarcResult:
    record = policy.record
    assert record is not None
    disposition = "none"
    if result == "fail":
        disposition = _MILDER[policy.assessment] if record.testing else policy.assessment
    return DmarcResult(
        result=result,
        rule=rule.name,
        domain=author,
        detail=detail,
        organizational_domain=owner,
        policy_domain=policy.domain,
        record=record.text,
        policy=policy.assessment,
        disposition=disposition,
        dkim=dkim,
        spf=spf,
        strict_dkim=record.strict_dkim,
        strict_spf=record.strict_spf,
        testing=record.testing,
        author_exists=policy.author_exists,
        faults=record.faults,
    )


async def _aligned(rule: Rule, author: str, policy: Policy, found: Identifiers) -> DmarcResult:
    record = policy.record
    assert record is not None
    owner = await rule.organizational(author)
    dkim = await _aligning(rule, author, owner, found.dkim, record.strict_dkim)
    spf = await _aligning(rule, author, owner, found.spf, record.strict_spf)
    if dkim or spf:
        passed = ", ".join([f"DKIM {name}" for name in dkim] + [f"SPF {name}" for name in spf])
        detail = f"aligned with {author}: {passed}"
        return _told(rule, author, policy, "pass", detail, owner=owner, dkim=dkim, spf=spf)
    if found.anything or await _might_align(rule, author, owner, found, policy):
        detail = "nothing that passed aligns, but not all could be looked at"
        return _told(rule, author, policy, "temperror", detail, owner=owner)
    detail = f"nothing that passed aligns with {author}"
    return _told(rule, author, policy, "fail", detail, owner=owner)


async def _might_align(rule: Rule, author: str, owner: str, found: Identifiers, policy: Policy) -> bool:
    """Whether something we could not look at would align: then a fail is not certain."""
    record = policy.record
    assert record is not None
    return bool(
        await _aligning(rule, author, owner, found.dkim_unknown, record.strict_dkim)
        or await _aligning(rule, author, owner, found.spf_unknown, record.strict_spf)
    )


async def _aligning(
    rule: Rule, author: str, owner: str, names: Sequence[str], strict: bool
) -> tuple[str, ...]:
    """The names in alignment with the author domain (sections 4.4.1, 4.4.2, 4.10.2)."""
    if strict:
        return tuple(name for name in names if name == author)
    return tuple([name for name in names if name == author or await rule.organizational(name) == owner])
