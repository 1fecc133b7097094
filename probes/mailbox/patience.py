"""When to try again: jittered back-off, and at most three refused logins (G13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from probes.mailbox.model import Reason

STRIKES: Final = 3
HOLD: Final = 3_600.0
"""Seconds without any login after the third refusal."""
FIRST: Final = 1.0
LONGEST: Final = 300.0
STABLE: Final = 60.0
"""Seconds a session must have lived before the back-off starts over."""
_REFUSALS: Final = frozenset({Reason.LOGIN_REFUSED, Reason.LIMITED})


class Patience:
    """Counts what went wrong and says how long to wait. rnd: uniform over [0, 1)."""

    def __init__(self, rnd: Callable[[], float]) -> None:
        self._rnd = rnd
        self._failures = 0
        self._strikes = 0
        self.final = False

    def after(self, reason: Reason) -> float | None:
        """Seconds to wait after a session ended for `reason`; None: until told otherwise."""
        if reason is Reason.GRANT_REFUSED:
            self.final = True
            return None
        if reason in _REFUSALS:
            self._strikes += 1
            if self._strikes >= STRIKES:
                self._strikes = 0
                return HOLD
        self._failures += 1
        step: float = min(LONGEST, FIRST * 2.0 ** min(20, self._failures - 1))
        if reason in _REFUSALS:
            step = max(step, 10.0 * self._strikes)
        return step * (0.5 + self._rnd())

    def lived(self, seconds: float) -> None:
        """A session was of use for so long."""
        if seconds >= STABLE:
            self._failures = 0

    def clean(self) -> None:
        """A full scan went well: the refusals before it count no more."""
        self._strikes = 0

    def forget(self) -> None:
        """Somebody said: try again."""
        self._failures = self._strikes = 0
        self.final = False
