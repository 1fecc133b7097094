"""What the reader of a mailbox does next, and when: decisions only, no waiting, no network."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from probes.mailbox.burst import Burst
from probes.mailbox.model import Expectation
from probes.mailbox.presets import Preset

PROVE: Final = 44.0
"""Seconds between proofs of life; with the deadline of a proof or a command it makes less than 60 (G5)."""
PROVE_GRID: Final = 0.25
"""Proofs fall due on this grid, so that those of many sessions are handled in one turn of the loop."""
PROOF_TIMEOUT: Final = 12.0
COMMAND_TIMEOUT: Final = 15.0
SLOW_POLL: Final = 300.0
"""Seconds between looks at junk while nothing is expected."""
RESCAN: Final = 15.0
"""Seconds between full scans while one is wanted and none was complete."""
MIN_SPACING: Final = 0.5
"""Seconds between full scans at least, should the owner forget that it had one."""
RETRY_SCAN: Final = 60.0
"""Seconds between full scans after an incomplete one that nobody waits for."""
PEEK: Final = 0.5
"""Seconds between looks at junk in a burst."""
IDLE_WORTH: Final = 1.0
"""Seconds of waiting from which IDLE is worth its round trips."""
FOREVER: Final = 1e9
INBOX: Final = "INBOX"


class Do(Enum):
    """What to do next."""

    WAIT = auto()
    SCAN = auto()
    REMOVE = auto()
    READ = auto()
    ASK = auto()
    POLL = auto()
    PROVE = auto()


@dataclass(slots=True)
class Agenda:
    """When things fall due in one session. All times are of the monotonic clock, but scanned_from, the
    wall time at which the last complete scan began."""

    preset: Preset
    burst: Burst
    proved: float
    looked: float  # the last look at junk
    scan_now: bool = True
    complete: bool = False  # the last full scan was
    scanned_from: float = float("-inf")
    scanned: float = float("-inf")
    asked: float = float("-inf")
    peeked: float = float("-inf")

    def next(
        self, expected: Expectation, now: float, wall: float, news: bool, removals: bool
    ) -> tuple[Do, float]:
        """The most urgent thing, or how many seconds nothing is."""
        scan_in = self._scan_in(expected, now, wall)
        ask_in = self.ask_in(expected, now)
        poll_in = self.looked + (self.preset.poll_seconds if expected.open else SLOW_POLL) - now
        prove_in = (self.proved + PROVE) // PROVE_GRID * PROVE_GRID - now
        urgent = (
            (Do.SCAN, scan_in <= 0),
            (Do.READ, news),
            (Do.REMOVE, removals),
            (Do.ASK, ask_in <= 0),
            (Do.POLL, poll_in <= 0),
            (Do.PROVE, prove_in <= 0),
        )
        for what, due in urgent:
            if due:
                return what, 0.0
        return Do.WAIT, min(scan_in, ask_in, poll_in, prove_in)

    def _scan_in(self, expected: Expectation, now: float, wall: float) -> float:
        """Seconds until a full scan: asked for by hand, by a deadline, or because the last one was
        incomplete."""
        if self.scan_now:
            return 0.0
        if expected.scan_after is not None and self.scanned_from <= expected.scan_after:
            spacing = MIN_SPACING if self.complete else RESCAN
            return max(expected.scan_after - wall + 0.001, self.scanned + spacing - now)
        return FOREVER if self.complete else self.scanned + RETRY_SCAN - now

    def ask_in(self, expected: Expectation, now: float) -> float:
        """Seconds until the next NOOP of a burst."""
        window = expected.burst
        if window is None or not self.preset.noop_bursts:
            return FOREVER
        if now < window[0]:
            return window[0] - now
        pause = self.burst.pause(window, now)
        return FOREVER if pause is None else max(self.asked, window[0]) + pause - now

    def may_idle(self, expected: Expectation, now: float) -> bool:
        """Whether IDLE is worth it: not between the NOOPs of a burst."""
        return self.preset.idle and self.ask_in(expected, now) > IDLE_WORTH

    def peek(self, now: float, began: float) -> bool:
        """Whether a NOOP of a burst should look at junk instead; notes that it does. began: when the burst
        did, for the inbox comes first."""
        if now - max(self.peeked, began) < PEEK:
            return False
        self.peeked = now
        return True
