"""A clock whose wall time is the database's: what several machines write down can be compared."""

from __future__ import annotations

from collections.abc import Callable

from agent.store.clock import Offset, better
from probes.clock import Clock, Timer


class SharedClock:
    """The machine's monotonic clock, moved to the database's time; the machine's own until that is known."""

    def __init__(self, own: Clock) -> None:
        self._own = own
        self._offset: Offset | None = None

    def take(self, offset: Offset) -> None:
        """A new measurement: the better one counts."""
        self._offset = better(self._offset, offset)

    def wall(self) -> float:
        """Seconds since the epoch. Jumps only where the database's clock was set."""
        return self._own.wall() if self._offset is None else self._own.monotonic() + self._offset.seconds

    def monotonic(self) -> float:
        """As the machine has it."""
        return self._own.monotonic()

    @property
    def boot(self) -> str:
        """As the machine has it."""
        return self._own.boot

    async def sleep(self, seconds: float) -> None:
        """As the machine has it."""
        await self._own.sleep(seconds)

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """As the machine has it."""
        return self._own.call_later(seconds, call)
