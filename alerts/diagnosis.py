"""From the shape of an alert and what changed before it to a closed word for its cause. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from alerts.causes import Scope, ScopeKind
from alerts.lifecycle import LikelyCause, Member
from alerts.settings import ROUTE_KINDS, AlertKind

_BY_SCOPE = {
    ScopeKind.SEED: "seed",
    ScopeKind.PROVIDER: "provider",
    ScopeKind.RELAY: "relay",
    ScopeKind.ALL: "us_or_relay",
    ScopeKind.ROUTE: "route",
    ScopeKind.SENDER: "sender",
    ScopeKind.SENDER_PROVIDER: "reputation",
}
_METHODS = ("dkim", "spf", "dmarc")


def main_kind(members: Iterable[Member]) -> AlertKind:
    """The kind most of the members show; among equals the worst."""
    counts = Counter(m.kind for m in members)
    order = {kind: rank for rank, kind in enumerate((*ROUTE_KINDS, *AlertKind))}
    return min(counts, key=lambda k: (-counts[k], order[k]))


def failing_method(texts: Iterable[str], share: float = 0.5) -> str:
    """The authentication method that most of these results show not passing: dkim, spf, dmarc, dns or ""."""
    listed = [t for t in texts if t]
    for method in _METHODS:
        shown = [t for t in listed if f"{method}=" in t]
        if listed and len(shown) >= share * len(listed):
            broken = sum(f"{method}=temperror" in t or f"{method}=permerror" in t for t in shown)
            return "dns" if broken > len(shown) / 2 else method
    return ""


def diagnose(scope: Scope, members: Iterable[Member], causes: Iterable[LikelyCause], method: str) -> str:
    """The word for the cause; scopes that are not a sender's name themselves.

    A sender's trouble is told apart by what changed (dns, listed), then by what the providers' verdicts say
    (dkim, spf, dmarc), then by the replies.
    """
    listed = list(members)
    base = _BY_SCOPE.get(scope.kind)
    if base is None:
        return str(main_kind(listed)) if listed else ""
    sender_side = scope.kind in (
        ScopeKind.SENDER,
        ScopeKind.SENDER_PROVIDER,
        ScopeKind.ROUTE,
        ScopeKind.RELAY,
    )
    if not sender_side:
        return base
    codes = [c.code for c in causes]
    for code in ("dns", "listed"):
        if code in codes:
            return code
    method = method or next((m for m in _METHODS if m in codes), "")
    if method:
        return method
    kind = main_kind(listed) if listed else AlertKind.MISSING
    if kind is AlertKind.SLOW:
        return "slow"
    if scope.kind is ScopeKind.SENDER_PROVIDER:
        return (
            "policy" if kind in (AlertKind.REJECTED, AlertKind.BOUNCED, AlertKind.DEFERRED) else "reputation"
        )
    if scope.kind is ScopeKind.SENDER and kind is AlertKind.MISSING:
        return "relay"
    return base
