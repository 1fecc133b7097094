"""Changes that were announced: they are recorded, and nobody is alerted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Announced:
    """One announced change. value: what the record becomes, None for anything; until: epoch seconds, None for
    as long as it is announced at all.
    """

    name: str
    rdtype: str
    value: str | None = None
    until: float | None = None

    def covers(self, name: str, rdtype: str, records: tuple[str, ...], now: float) -> bool:
        """Whether a change of this record to these is meant. "" stands for no record at all."""
        if (name, rdtype) != (self.name, self.rdtype) or (self.until is not None and now > self.until):
            return False
        if self.value is None:
            return True
        wanted = _plain(self.value)
        return any(_plain(record) == wanted for record in records) or (not wanted and not records)


def _plain(record: str) -> str:
    """A record as people write it: quotes and a final dot do not count."""
    return " ".join(record.replace('" "', "").replace('"', "").split()).rstrip(".")


def is_announced(
    items: Iterable[Announced], name: str, rdtype: str, records: tuple[str, ...], now: float
) -> bool:
    """Whether any of them covers the change."""
    return any(item.covers(name, rdtype, records, now) for item in items)
