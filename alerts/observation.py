"""What the engine is told: facts that probes found, frozen and JSON-ready. Times are epoch seconds, UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alerts import codec
from alerts.settings import AlertKind
from probes.errors import DataError
from probes.outcome import Evidence, Outcome, Placement, Severity


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply: code (RFC 5321 section 4.2), enhanced status (RFC 3463), our meaning of it, its text."""

    code: int
    enhanced: str = ""
    meaning: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """What became of one canary.

    at: when the verdict was reached; sent_at: when it was submitted (None: never was); reason: a closed word;
    category: of a tab; authentication: method to result word or "ambiguous"; latency: seconds from submit to
    arrival; relay: the way out (relay host or source IP), so that senders sharing one are known to.
    """

    sender: str
    seed: str
    provider: str
    at: float
    outcome: Outcome
    placement: Placement
    reason: str = ""
    sent_at: float | None = None
    category: str = ""
    authentication: Mapping[str, str] = field(default_factory=dict)
    latency: float | None = None
    reply: Reply | None = None
    relay: str = ""
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class ListingSeen:
    """One subject at one DNS blocklist zone, as a sweep found it; listed None means could not look.

    senders: the configured senders that use the subject; none means nobody knows which.
    """

    subject: str
    zone: str
    listed: bool | None
    at: float
    severity: Severity = Severity.WARNING
    reason: str = ""
    delist_url: str = ""
    senders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecordSeen:
    """One watched DNS record: ok False means it drifted or is wrong, None could not look.

    record: which, as "TXT s1._domainkey.acme.example"; before and after: its text then and now.
    """

    domain: str
    record: str
    ok: bool | None
    at: float
    severity: Severity = Severity.WARNING
    reason: str = ""
    before: str = ""
    after: str = ""
    senders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OwnState:
    """The state of a part of the agent itself: a seed readable, a sender usable, resolver, store, clock.

    kind: one of OWN_KINDS; subject: the seed, sender, resolver, ...; provider: of a seed.
    """

    kind: AlertKind
    subject: str
    ok: bool
    at: float
    reason: str = ""
    text: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Expected:
    """That canary results should come: since when (epoch seconds; earlier silence is no fault), and how long
    it may be between two (seconds), whatever a rule says."""

    since: float = 0.0
    at_least: float = 0.0


Observation = CanaryResult | ListingSeen | RecordSeen | OwnState

_TYPES: dict[str, type[Observation]] = {
    "canary": CanaryResult,
    "listing": ListingSeen,
    "record": RecordSeen,
    "own": OwnState,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def observation_to_json(observation: Observation) -> dict[str, Any]:
    """A JSON object that says its type."""
    return {"type": _NAMES[type(observation)], **codec.to_json(observation)}


def observation_from_json(data: Mapping[str, Any]) -> Observation:
    """The observation that observation_to_json wrote. Raises DataError."""
    kind = _TYPES.get(str(data.get("type")))
    if kind is None:
        raise DataError(f"unknown observation type {data.get('type')!r}")
    return codec.from_json(kind, data)
