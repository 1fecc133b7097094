"""The outbox's store in memory: for tests, one-shot commands, and as the reference of what a store does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from alerts.notification import Notification
from alerts.outbox import OutboxItem


@dataclass(slots=True)
class _Row:
    item: OutboxItem
    leased_until: float = 0.0
    sent_at: float | None = None
    given_up: str = ""

    @property
    def waiting(self) -> bool:
        return self.sent_at is None and not self.given_up


class MemoryOutbox:
    """OutboxStore in memory. open_keys: the alerts that still need escalation."""

    def __init__(self) -> None:
        self.rows: dict[str, _Row] = {}
        self.open_keys: set[str] = set()

    def add(self, notifications: Iterable[Notification], now: float) -> None:
        """Stores notifications; one whose id is known is ignored."""
        for n in notifications:
            self.rows.setdefault(n.id, _Row(OutboxItem(n.id, n, now, max(now, n.not_before))))

    def _heads(self, receiver: str, now: float) -> list[_Row]:
        heads: dict[str, _Row] = {}
        for row in self.rows.values():
            if row.waiting and row.item.notification.receiver == receiver:
                heads.setdefault(row.item.notification.dedup_key, row)
        return [r for r in heads.values() if r.item.due_at <= now and r.leased_until <= now]

    async def claim_due(self, receiver: str, now: float, limit: int, lease: float) -> Sequence[OutboxItem]:
        """See OutboxStore."""
        heads = sorted(self._heads(receiver, now), key=lambda r: r.item.due_at)[:limit]
        for row in heads:
            row.leased_until = now + lease
        return [row.item for row in heads]

    async def count_due(self, receiver: str, now: float) -> int:
        """See OutboxStore."""
        return len(self._heads(receiver, now))

    async def mark_sent(self, ids: Sequence[str], at: float) -> None:
        """See OutboxStore."""
        for name in ids:
            self.rows[name].sent_at = at

    async def reschedule(self, ids: Sequence[str], due_at: float, error: str) -> None:
        """See OutboxStore."""
        for name in ids:
            row = self.rows[name]
            attempts = row.item.attempts + (1 if error else 0)
            row.item = replace(row.item, due_at=due_at, attempts=attempts, error=error)
            row.leased_until = 0.0

    async def give_up(self, ids: Sequence[str], at: float, error: str) -> None:
        """See OutboxStore."""
        for name in ids:
            self.rows[name].given_up = error or "given up"

    async def was_sent(self, receiver: str, dedup_key: str) -> bool:
        """See OutboxStore."""
        notes = (r.item.notification for r in self.rows.values() if r.sent_at is not None)
        return any(n.receiver == receiver and n.dedup_key == dedup_key for n in notes)

    async def needs_escalation(self, dedup_key: str) -> bool:
        """See OutboxStore."""
        return dedup_key in self.open_keys
