"""What the load world knows: every message by token, and the mailboxes. Its word is the ground truth."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

DELIVER = "deliver"
HOLD = "hold"
"""Accepted, delivered when `release` is called."""
SWALLOW = "swallow"
"""Accepted, never delivered."""
EAT = "eat"
"""Delivered, but the connection ends instead of the final 250."""
DEFER = "defer"
"""Refused once with 451, delivered at the next attempt."""
TWICE = "twice"
"""Two copies are delivered."""

TABLE = 10_000
"""Shares are counted in ten thousandths."""


class Watcher(Protocol):
    """A session that wants to know of new messages. since: when it logged in."""

    since: float

    def announce(self) -> None:
        """Something was delivered to its mailbox."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of a mailbox, its body forgotten: the reader reads headers."""

    uid: int
    header: bytes
    size: int
    at: float


@dataclass(slots=True)
class Box:
    """A mailbox: inbox and an empty junk folder. sessions: those that are logged in."""

    letters: list[Letter] = field(default_factory=list)
    sessions: list[Watcher] = field(default_factory=list)
    most: int = 0
    """Sessions at the same time, at most."""

    def put(self, header: bytes, size: int) -> None:
        """Delivers, and tells whoever idles."""
        self.letters.append(Letter(len(self.letters) + 1, header, size, time.time()))
        for session in self.sessions:
            session.announce()


@dataclass(slots=True)
class Handled:
    """What became of a token. codes: every final reply it got, 0 where it got none; copies: deliveries;
    at: wall times of the DATA that was accepted."""

    to: str
    codes: list[int] = field(default_factory=list)
    copies: int = 0
    at: list[float] = field(default_factory=list)


@dataclass
class Post:
    """The running world's memory, and its switches."""

    boxes: dict[str, Box] = field(default_factory=dict)
    handled: dict[str, Handled] = field(default_factory=dict)
    shares: dict[str, int] = field(default_factory=dict)
    """Ten thousandths of the tokens by fate; the rest is delivered."""
    delay: float = 0.0
    """Seconds between acceptance and its reply."""
    held: list[tuple[str, str, bytes, int]] = field(default_factory=list)
    clock: Callable[[], float] = time.time

    def box(self, address: str) -> Box:
        """The mailbox of an address; there is one for every address."""
        return self.boxes.setdefault(address, Box())

    def fate(self, token: str) -> str:
        """What becomes of a token: a function of the token alone, so that everybody can work it out."""
        drawn = int.from_bytes(hashlib.blake2b(token.encode(), digest_size=4).digest(), "big") % TABLE
        for name, share in self.shares.items():
            if drawn < share:
                return name
            drawn -= share
        return DELIVER

    def take(self, token: str, to: str, header: bytes, size: int) -> int:
        """A message whose final dot has come. Returns the code to answer with, 0: hang up instead."""
        known = self.handled.setdefault(token, Handled(to))
        fate = self.fate(token)
        if fate == DEFER and not known.codes:
            known.codes.append(451)
            return 451
        code = 0 if fate == EAT else 250
        known.codes.append(code)
        known.at.append(self.clock())
        if fate == HOLD:
            self.held.append((token, to, header, size))
        elif fate != SWALLOW:
            for _ in range(2 if fate == TWICE else 1):
                self._deliver(known, to, header, size)
        return code

    def _deliver(self, known: Handled, to: str, header: bytes, size: int) -> None:
        known.copies += 1
        self.box(to).put(header, size)

    def release(self) -> int:
        """Delivers what was held. Returns how many."""
        held, self.held = self.held, []
        for token, to, header, size in held:
            self._deliver(self.handled[token], to, header, size)
        return len(held)
