"""Faults of our own told only afterwards: a store that could not be written, a clock that jumped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agent.runner.services import Services
from agent.store import rows
from agent.store.database import Tx
from alerts.observation import OwnState, observation_to_json
from alerts.settings import AlertKind

CLOCK = "wall clock"
STEADY = 5.0
"""Seconds after a jump in which the clock is not yet said to be good."""
ENOUGH = 2
"""Good looks after which nothing more needs to be said."""


@dataclass
class OwnFaults:
    """Asked at each beat. At the start it says that all is well: an earlier life may have said else."""

    services: Services
    _failures: int = 0
    _broken_since: float | None = None
    _told: bool = False
    _steady_from: float = float("-inf")
    """Monotonic: from then on the clock is called steady again, and not in the breath that told its jump."""
    _goods: dict[AlertKind, int] = field(
        default_factory=lambda: dict.fromkeys((AlertKind.STORE, AlertKind.CLOCK), 0)
    )

    def jumped(self, tx: Tx, seconds: float, now: float) -> None:
        """The wall clock jumped: told at once, and good again by the next looks."""
        self._goods[AlertKind.CLOCK] = 0
        self._steady_from = self.services.clock.monotonic() + STEADY
        self._say(tx, AlertKind.CLOCK, CLOCK, now, bad=f"the wall clock jumped by {seconds:.1f} s")

    def store_of(self, place: str, now: float) -> dict[str, object]:
        """An observation: what an agent that has gone said of its store counts no more."""
        return observation_to_json(OwnState(AlertKind.STORE, _name(self.services, place), True, now))

    async def look(self) -> None:
        """Says what is broken or good again. Raises StoreError while nothing can be written."""
        now, database = self.services.clock.wall(), self.services.database
        if database.failures != self._failures:
            self._failures, self._told, self._goods[AlertKind.STORE] = database.failures, False, 0
            self._broken_since = now if self._broken_since is None else self._broken_since
        steady = self.services.clock.monotonic() >= self._steady_from
        if not steady or all(count >= ENOUGH for count in self._goods.values()):
            return
        await database.write(lambda tx: self._tell(tx, now))
        if self._broken_since is not None and not self._told:
            self._told = True
            return
        for kind in self._goods:
            self._goods[kind] += 1
        if self._goods[AlertKind.STORE] >= ENOUGH:
            self._broken_since = None

    def _tell(self, tx: Tx, now: float) -> None:
        self.services.fence(tx)
        store = _name(self.services, self.services.place)
        if self._broken_since is not None and not self._told:
            text = f"{self.services.database.failure}; nothing was sent meanwhile"
            self._say(tx, AlertKind.STORE, store, self._broken_since, bad=text)
            return
        self._say(tx, AlertKind.STORE, store, now)
        self._say(tx, AlertKind.CLOCK, CLOCK, now)

    @staticmethod
    def _say(tx: Tx, kind: AlertKind, subject: str, at: float, bad: str = "") -> None:
        rows.observe(tx, at, "own", observation_to_json(OwnState(kind, subject, not bad, at, text=bad)))


def _name(services: Services, place: str) -> str:
    """Of a server that several agents use, each tells for itself."""
    url = services.database.url
    if not services.database.shared:
        return Path(url.database or "").name
    return f"of {place}"
