"""The canary: one tokenised message on a route, as an immutable value that events move on.

Persisted by the agent as one row; `version` grows by one with every step, so that the row can be advanced
by compare-and-swap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from probes.clock import Clock
from probes.outcome import Evidence, Outcome, Placement


class State(StrEnum):
    """Where a canary is in its life."""

    INTENDED = "intended"  # committed, being sent by the holder of its lease
    DEFERRED = "deferred"  # refused for now (4xx): sent again with the same token
    SENT = "sent"  # the final 250 was read
    UNCONFIRMED = "unconfirmed"  # it may have been accepted; never sent again
    SETTLED = "settled"  # it has its placement
    MISSING = "missing"  # declared missing, still watched for
    CLOSED = "closed"  # nothing more is expected of it

    @property
    def awaits_arrival(self) -> bool:
        """True while a message that bears the token may still turn up and would change what we know."""
        return self in (State.INTENDED, State.DEFERRED, State.SENT, State.UNCONFIRMED, State.MISSING)


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks: wall in seconds since the epoch, monotonic within `boot`."""

    wall: float
    monotonic: float
    boot: str

    @classmethod
    def of(cls, clock: Clock) -> Moment:
        return cls(clock.wall(), clock.monotonic(), clock.boot)

    def since(self, earlier: Moment) -> float:
        """Seconds from `earlier` to this, on the monotonic clock where both share a boot."""
        if self.boot == earlier.boot:
            return self.monotonic - earlier.monotonic
        return self.wall - earlier.wall


@dataclass(frozen=True, slots=True)
class Reply:
    """What the SMTP server last said (RFC 5321 section 4.2, RFC 3463); meaning is a closed word."""

    code: int
    enhanced: str = ""
    text: str = ""
    stage: str = ""
    meaning: str = ""
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Canary:
    """A canary and all that is known of it.

    deadline: seconds from creation until it must have arrived. late_after: seconds from creation during
    which a missing canary is still watched for. soft: every refusal so far was greylisting or the seed's
    own fault. retry_at: when a deferred one is sent again. latency: seconds from acceptance to arrival.
    epoch: names the life of the agent that sends it.
    """

    id: str
    token: str
    message_id: str
    sender: str
    seed: str
    provider: str
    round: str
    created: Moment
    deadline: float
    late_after: float
    state: State = State.INTENDED
    version: int = 1
    due_at: float | None = None
    attempts: int = 0
    retry_at: float | None = None
    soft: bool = True
    accepted: Moment | None = None
    reply: Reply | None = None
    stages: Mapping[str, float] = field(default_factory=dict)
    placement: Placement | None = None
    category: str = ""
    outcome: Outcome | None = None
    reason: str = ""
    settled_at: float | None = None
    seen_at: float | None = None
    latency: float | None = None
    folder: str = ""
    late: bool = False
    duplicates: int = 0
    verdicts: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    epoch: int = 0

    @property
    def route(self) -> str:
        """The route's name: sender and seed with a slash between."""
        return f"{self.sender}/{self.seed}"

    @property
    def deadline_wall(self) -> float:
        """The deadline, seconds since the epoch, by the wall clock of the creation."""
        return self.created.wall + self.deadline

    @property
    def watched_until(self) -> float:
        """Seconds since the epoch until which the mailbox is searched for it."""
        return self.created.wall + max(self.late_after, self.deadline)

    def overdue(self, at: Moment) -> bool:
        """True once the deadline has passed."""
        return at.since(self.created) >= self.deadline
