"""The state machine of a canary: (canary, event, moment) -> canary. Pure; the same object means no change.

The honesty rules of DESIGN section 2 live here: *missing* needs a complete scan that began after the
deadline; a lost final reply is *unconfirmed* and never sent again; what we could not see is *unknown*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Literal

from probes.canary.state import Canary, Moment, Reply, State
from probes.outcome import Evidence, Outcome, Placement

RETRY_DELAYS = (60.0, 300.0, 600.0, 900.0, 1800.0)
"""Seconds before the second, third, ... attempt of a deferred canary; the last value repeats."""

SUSPENDED = 5.0
"""Seconds by which the wall clock must be ahead of the monotonic one to say that the machine slept."""

Attempt = Literal["accepted", "deferred", "rejected", "unconfirmed", "unreachable"]


@dataclass(frozen=True, slots=True)
class Sent:
    """How one attempt to submit ended. retry_after: seconds, where the reply asks for silence."""

    result: Attempt
    reply: Reply | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    soft: bool = False
    retry_after: float | None = None
    detail: str = ""
    fault: str = ""  # of the network or of TLS, as a closed word
    at: Moment | None = None  # when the final reply was read


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message with the token, as judged from its folder and header."""

    placement: Placement
    outcome: Outcome
    reason: str
    folder: str
    seen: Moment
    internal_date: float | None = None
    category: str = ""
    verdicts: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Scan:
    """A look into every folder that counts. clean: complete, on the current UIDVALIDITY, clocks steady."""

    began: Moment
    clean: bool
    fault: str = ""


@dataclass(frozen=True, slots=True)
class BounceSeen:
    """A DSN that names this canary. soft: the seed's own reason (full, disabled)."""

    status: str
    text: str
    soft: bool
    permanent: bool
    seen: Moment
    meaning: str = ""


_NAMES = tuple(field.name for field in fields(Canary))
_values = attrgetter(*_NAMES)


def _step(canary: Canary, **changes: object) -> Canary:
    """As dataclasses.replace, in half the time."""
    known: dict[str, Any] = dict(zip(_NAMES, _values(canary), strict=True))
    return Canary(**{**known, **changes, "version": canary.version + 1})


def _settle(
    canary: Canary, placement: Placement, outcome: Outcome, reason: str, at: Moment, **changes: object
) -> Canary:
    changes.setdefault("state", State.SETTLED)
    changes.setdefault("due_at", canary.watched_until)
    return _step(canary, placement=placement, outcome=outcome, reason=reason, settled_at=at.wall, **changes)


def retry_delay(attempts: int) -> float:
    """Seconds to wait after the given number of attempts."""
    return RETRY_DELAYS[min(attempts, len(RETRY_DELAYS)) - 1]


def sent(canary: Canary, event: Sent, now: Moment) -> Canary:
    """An attempt to submit has ended. A canary that was settled meanwhile keeps its verdict."""
    facts: dict[str, object] = {
        "attempts": canary.attempts + 1,
        "reply": event.reply,
        "stages": event.stages,
        "soft": canary.soft and (event.result == "accepted" or event.soft),
    }
    if event.result in ("accepted", "unconfirmed"):
        facts["accepted"] = event.at or now
    if canary.state not in (State.INTENDED, State.DEFERRED):
        return _step(canary, **facts)
    if event.result == "accepted":
        return _step(canary, state=State.SENT, due_at=canary.deadline_wall, **facts)
    if event.result == "unconfirmed":
        return _step(canary, state=State.UNCONFIRMED, due_at=canary.deadline_wall, **facts)
    if event.result == "deferred":
        return _deferred(canary, event, now, facts)
    evidence = (*canary.evidence, *_reply_evidence(event, now))
    if event.result == "rejected":
        return _settle(
            canary,
            Placement.REJECTED,
            Outcome.UNKNOWN if event.soft else Outcome.FAIL,
            "seed-fault" if event.soft else (event.reply.meaning if event.reply else "") or "rejected",
            now,
            evidence=evidence,
            **facts,
        )
    return _settle(
        canary, Placement.UNKNOWN, Outcome.UNKNOWN, "sender-unreachable", now, evidence=evidence, **facts
    )


def _reply_evidence(event: Sent, now: Moment) -> tuple[Evidence, ...]:
    if event.reply:
        reply = event.reply
        text = " ".join(part for part in (str(reply.code), reply.enhanced, reply.text) if part)
        return (Evidence("smtp-reply", text, now.wall),)
    kind = event.fault or "smtp"
    return (Evidence(kind, event.detail.removeprefix(f"{kind}: "), now.wall),) if event.detail else ()


def _deferred(canary: Canary, event: Sent, now: Moment, facts: dict[str, object]) -> Canary:
    delay = max(event.retry_after or 0.0, retry_delay(canary.attempts + 1))
    evidence = (*canary.evidence, *_reply_evidence(event, now))[-8:]
    # The deadline is a point at which to judge, even when the next attempt lies beyond it.
    due = min(now.wall + delay, canary.deadline_wall) if not canary.overdue(now) else now.wall + delay
    return _step(
        canary,
        state=State.DEFERRED,
        due_at=due,
        retry_at=now.wall + delay,
        evidence=evidence,
        **facts,
    )


def resending(canary: Canary, lease_until: float, epoch: int) -> Canary:
    """A deferred canary is about to be sent again with its token: from here it may have been accepted."""
    return _step(canary, state=State.INTENDED, retry_at=None, due_at=lease_until, epoch=epoch)


def handed_over(canary: Canary, now: Moment) -> Canary:
    """Nothing was sent in this attempt: it is another agent's to send."""
    if canary.state is not State.INTENDED:
        return canary
    return _step(canary, state=State.DEFERRED, retry_at=now.wall, due_at=now.wall)


def postponed(canary: Canary, until: float) -> Canary:
    """A deferred canary's next attempt has to wait: sending is paused, or the provider asked for silence."""
    return _step(canary, retry_at=until, due_at=min(until, canary.deadline_wall))


def withdrawn(canary: Canary, now: Moment) -> Canary:
    """Its sender or seed left the config before this attempt began: nothing was sent, nothing is known."""
    if canary.state is not State.INTENDED:
        return canary
    return _settle(canary, Placement.UNKNOWN, Outcome.UNKNOWN, "withdrawn", now)


def abandoned(canary: Canary, now: Moment) -> Canary:
    """Its sender died while the intent was open: it may have been accepted, so it is never sent again."""
    if canary.state is not State.INTENDED:
        return canary
    note = Evidence("agent", "the sending process ended before the final reply", now.wall)
    return _step(
        canary,
        state=State.UNCONFIRMED,
        accepted=canary.accepted or canary.created,
        due_at=canary.deadline_wall,
        evidence=(*canary.evidence, note),
    )


def arrived(canary: Canary, event: Arrival, now: Moment) -> Canary:
    """A message with the token was seen: the first sighting places it, a later one is a duplicate."""
    if canary.state is State.MISSING or (canary.state is State.SETTLED and canary.seen_at is None):
        # Declared missing, or settled without sight: it came late, which is told but un-counts nothing.
        return _step(
            canary,
            state=State.SETTLED,
            late=True,
            folder=event.folder,
            category=event.category,
            seen_at=event.seen.wall,
            latency=_latency(canary, event),
            verdicts=event.verdicts,
            evidence=(*canary.evidence, *event.evidence),
        )
    if canary.state is State.CLOSED:
        return canary
    if not canary.state.awaits_arrival:
        return _step(canary, duplicates=canary.duplicates + 1)
    return _settle(
        canary,
        event.placement,
        event.outcome,
        event.reason,
        now,
        category=event.category,
        folder=event.folder,
        seen_at=event.seen.wall,
        latency=_latency(canary, event),
        verdicts=event.verdicts,
        evidence=(*canary.evidence, *event.evidence),
    )


def _latency(canary: Canary, event: Arrival) -> float | None:
    """Seconds from acceptance to arrival: when we saw it, or the provider's date where we looked late.

    INTERNALDATE has whole seconds and another clock, so it only ever moves the figure down, and only to
    within what we know to be true: after acceptance, before the sighting. Never negative; None where the
    machine slept in between, for the monotonic clock slept too.
    """
    start = canary.accepted or canary.created
    upper = event.seen.since(start)
    suspended = (event.seen.wall - start.wall) - upper > SUSPENDED
    if upper < 0 or suspended:
        return None
    if event.internal_date is None:
        return upper
    stamped = event.internal_date - start.wall
    looked_late = upper - stamped > 3.0
    return min(max(stamped, 0.0), upper) if looked_late and stamped > -2.0 else upper


def scanned(canary: Canary, scan: Scan, now: Moment) -> Canary:
    """A scan ended and did not show the canary. Only a clean one that began after the deadline settles it."""
    if canary.state not in (State.SENT, State.UNCONFIRMED):
        return canary
    if not scan.clean:
        return unreadable(canary, scan.fault or "scan-incomplete", now)
    if not canary.overdue(scan.began):
        return canary
    if canary.state is State.UNCONFIRMED:
        return _settle(canary, Placement.UNKNOWN, Outcome.UNKNOWN, "unconfirmed", now)
    note = Evidence("mailbox", "a full scan that began after the deadline did not find it", now.wall)
    return _settle(
        canary,
        Placement.MISSING,
        Outcome.FAIL,
        "missing",
        now,
        state=State.MISSING,
        evidence=(*canary.evidence, note),
    )


def unreadable(canary: Canary, fault: str, now: Moment) -> Canary:
    """The deadline has passed and the mailbox cannot be read: unknown for now, and still to be settled."""
    if canary.state not in (State.SENT, State.UNCONFIRMED) or not canary.overdue(now):
        return canary
    if canary.outcome is Outcome.UNKNOWN and canary.reason == fault:
        return canary
    return _step(canary, placement=Placement.UNKNOWN, outcome=Outcome.UNKNOWN, reason=fault)


def bounced(canary: Canary, event: BounceSeen, now: Moment) -> Canary:
    """A DSN came back. A delay notice changes nothing; a failure settles what has not been seen."""
    if not event.permanent or canary.seen_at is not None:
        return canary
    if canary.state not in (State.SENT, State.UNCONFIRMED, State.INTENDED, State.DEFERRED, State.MISSING):
        return canary
    return _settle(
        canary,
        Placement.BOUNCED,
        Outcome.UNKNOWN if event.soft else Outcome.FAIL,
        "seed-fault" if event.soft else event.meaning or "bounced",
        now,
        reply=Reply(0, event.status, event.text, "dsn", event.meaning),
        evidence=(*canary.evidence, Evidence("dsn", f"{event.status} {event.text}".strip(), now.wall)),
    )


def due(canary: Canary, now: Moment) -> Canary:
    """Its due time has come: judge a deferral that outlived the deadline, close what is watched no more."""
    if canary.state is State.DEFERRED and canary.overdue(now):
        return _settle(
            canary,
            Placement.DEFERRED,
            Outcome.UNKNOWN if canary.soft else Outcome.FAIL,
            (canary.reply.meaning if canary.reply else "") or "deferred",
            now,
        )
    if now.wall < canary.watched_until or now.since(canary.created) < canary.late_after:
        return canary
    if canary.state in (State.SETTLED, State.MISSING):
        return _step(canary, state=State.CLOSED, due_at=None)
    if canary.state in (State.SENT, State.UNCONFIRMED):
        reason = canary.reason or "seed-unreadable"
        return _settle(
            canary, Placement.UNKNOWN, Outcome.UNKNOWN, reason, now, state=State.CLOSED, due_at=None
        )
    return canary


def rested(after: Canary, before: Canary, now: Moment, seconds: float = 60.0) -> Canary:
    """What came due and still is: looked at again later, in the same step as whatever else changed."""
    if after.due_at is None or after.due_at > now.wall:
        return after
    if after is before:
        return _step(before, due_at=now.wall + seconds)
    return replace(after, due_at=now.wall + seconds)


def may_send_again(canary: Canary, now: Moment) -> bool:
    """True when a deferred canary's next attempt is due and its deadline lies ahead."""
    if canary.state is not State.DEFERRED or canary.overdue(now):
        return False
    return canary.retry_at is None or now.wall >= canary.retry_at
