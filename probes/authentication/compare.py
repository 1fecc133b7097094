"""Where the provider's verdict and ours part ways. What either could not look at is no disagreement."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from probes.authentication.domains import normal_domain
from probes.authentication.evaluate import Evaluation

#: Results that say nothing about the message.
_UNKNOWN = frozenset({"temperror", ""})
#: What counts is whether a method vouches for the message: the other words are used for one another.
_PASS = "pass"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One result a provider wrote: method: spf, dkim, arc or dmarc; domain: "" where not told."""

    method: str
    result: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A method (and domain) on which the provider says one thing and we another; detail: ours, for people."""

    method: str
    domain: str
    theirs: str
    ours: str
    detail: str


def disagreements(ours: Evaluation, theirs: Iterable[Verdict]) -> tuple[Disagreement, ...]:
    """Compares every verdict with ours: pass against anything else that is certain, and vice versa."""
    found = []
    for verdict in theirs:
        match = _ours(ours, verdict)
        if match is None:
            continue
        result, detail = match
        if {result, verdict.result} & _UNKNOWN or (result == _PASS) == (verdict.result == _PASS):
            continue
        found.append(Disagreement(verdict.method, verdict.domain, verdict.result, result, detail))
    return tuple(found)


def _ours(ours: Evaluation, verdict: Verdict) -> tuple[str, str] | None:
    """Our result for the same method and domain; None where we looked at nothing of the kind."""
    match verdict.method:
        case "spf":
            return (ours.spf.result, ours.spf.detail) if ours.spf.evaluated else None
        case "arc":
            return ours.arc.result, ours.arc.detail
        case "dmarc":
            return ours.dmarc.result, ours.dmarc.detail
        case "dkim":
            return _our_dkim(ours, normal_domain(verdict.domain))
        case _:
            return None


def _our_dkim(ours: Evaluation, domain: str) -> tuple[str, str] | None:
    """The best of our results for a signing domain: one good signature is what a provider reports."""
    same = [one for one in ours.dkim if not domain or one.domain == domain]
    if not same:
        return None
    best = next((one for one in same if one.result == _PASS), None)
    best = best or next((one for one in same if one.result in _UNKNOWN), same[0])
    return best.result, best.detail
