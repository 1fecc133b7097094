"""What Gmail, Yahoo and Microsoft want of who sends in bulk, line by line: pass, fail or unknown.

Sources: support.google.com/a/answer/81126, senders.yahooinc.com/best-practices, and Microsoft's requirements
for high volume senders (2025). What no record tells (alignment, unsubscribing) is unknown here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from probes.outcome import Outcome, combine
from probes.records.finding import Finding, outcome_of

PROVIDERS = ("gmail", "yahoo", "microsoft")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. kinds: the kinds of record whose faults break it; codes: only these faults, or all."""

    name: str
    text: str
    providers: tuple[str, ...]
    kinds: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()


RULES = (
    Rule("spf", "SPF for the sending domain", PROVIDERS, ("spf",)),
    Rule("dkim", "DKIM for the sending domain, with a key that counts", PROVIDERS, ("dkim",)),
    Rule(
        "dmarc",
        "a DMARC record, p=none or stricter",
        PROVIDERS,
        ("dmarc",),
        ("dmarc-missing", "dmarc-several", "dmarc-broken", "dmarc-unknown"),
    ),
    Rule("ptr", "a name for each sending address, which leads back to it", ("gmail", "yahoo"), ("ptr",)),
    Rule("helo", "a HELO name that leads to the sending address", ("yahoo",), ("helo",)),
    Rule("reply", "From and return path domains that take mail", ("microsoft", "yahoo"), ("mx",),
         ("mx-missing", "mx-unresolved", "mx-unknown")),
    Rule("alignment", "From aligned with SPF or DKIM: canaries tell", PROVIDERS),
    Rule("unsubscribe", "one-click List-Unsubscribe in bulk mail: canaries tell", ("gmail", "yahoo")),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Line:
    """A rule of one provider and how it stands."""

    provider: str
    rule: str
    text: str
    outcome: Outcome


def score(findings: Iterable[Finding], looked: Collection[str]) -> list[Line]:
    """Every line of every provider. looked: kinds of record that there was something to look for."""
    seen = list(findings)
    return [Line(provider, r.name, r.text, _outcome(r, seen, looked)) for provider in PROVIDERS for r in RULES
            if provider in r.providers]  # fmt: skip


def _outcome(rule: Rule, findings: Iterable[Finding], looked: Collection[str]) -> Outcome:
    if not rule.kinds or not set(rule.kinds) <= set(looked):
        return Outcome.UNKNOWN
    own = [f for f in findings if f.kind in rule.kinds and (not rule.codes or f.code in rule.codes)]
    return combine([Outcome.PASS, outcome_of(own)])
