"""Every step of a canary goes through here: one transaction, then the counters, then whoever listens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agent.fleet.resources import MAILBOX
from agent.runner.services import Services
from agent.runner.together import Together
from agent.store import canaries, rows
from agent.store.database import Hint, Tx
from alerts.observation import CanaryResult, Reply, observation_to_json
from probes.canary.state import Canary, Moment, State
from probes.errors import StaleWrite
from probes.outcome import Placement

Step = Callable[[Canary, Moment], Canary]


WAITING = frozenset({State.INTENDED, State.DEFERRED, State.SENT, State.UNCONFIRMED})

SEND_LEASE = 600.0
"""Seconds after which an intent that is still open belongs to a process that died."""

RECENT = 5_000
"""Canaries that got their verdict last: an older state of one, read before and told after, is no news."""


@dataclass(frozen=True, slots=True)
class Change:
    """A canary before and after a step; before is None for a new intent."""

    before: Canary | None
    after: Canary


Listener = Callable[[Change], None]


class Ledger:
    """The one writer of canary rows, and the memory of those that are awaited in the mailboxes held here.

    The memory makes things quick; what it does not know is looked up in the store. So are those that have
    their verdict, whose copies and late arrivals count for days: they are many, and hardly ever asked for.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: dict[str, dict[str, Canary]] = {}  # by seed and token: no verdict yet
        self._judged: dict[str, int] = {}  # the versions of those that had theirs last
        self._awaited = Together(self._read_awaited)
        self._listeners: list[Listener] = []

    async def load(self, seed: str) -> None:
        """The seed's mailbox is read here from now on: remembers what is in flight to it."""
        self._waiting[seed] = {}
        for canary in await self._awaited.get(seed) or ():
            self.remember(canary)

    async def _read_awaited(self, seeds: Sequence[str]) -> Mapping[str, Sequence[Canary]]:
        services = self._services
        until = services.clock.wall() + max(services.config.longest_deadline, SEND_LEASE)
        found: defaultdict[str, list[Canary]] = defaultdict(list)
        for canary in await services.database.read(lambda conn: canaries.awaited(conn, seeds, until)):
            found[canary.seed].append(canary)
        return found

    def forget(self, seed: str) -> None:
        """Another agent reads the seed's mailbox."""
        self._waiting.pop(seed, None)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Hears of every change after its commit, on the loop; returns how to stop hearing."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def waiting(self, seed: str) -> Collection[Canary]:
        """Canaries whose message should turn up in the seed's mailbox soon, oldest first."""
        return self._waiting.get(seed, {}).values()

    def oldest(self, seed: str) -> float:
        """When the oldest canary that may still be looked for was made."""
        watched = self._services.clock.wall() - self._services.config.watched.get(seed, 0.0)
        first = next(iter(self._waiting.get(seed, {}).values()), None)  # they are in that order
        return watched if first is None else min(first.created.wall, watched)

    def expects(self, seed: str, token: str) -> Canary | None:
        """The canary without a verdict for that mailbox that bears the token."""
        return self._waiting.get(seed, {}).get(token)

    async def apply(
        self, canary_id: str, step: Step, known: Canary | None = None, *, may_wait: bool = False
    ) -> Canary | None:
        """Moves one canary on and returns it; None where there is no such canary.

        known: the canary as the caller has it. Where that is how the row stands it is not read again.
        may_wait: as in `Database.write`.
        """
        change = await self._services.database.write(
            lambda tx: self.apply_in(tx, canary_id, step, known),
            durable=False,
            order=canary_id,
            may_wait=may_wait,
        )
        if change is None:
            return None
        self.committed([change])
        return change.after

    def apply_in(self, tx: Tx, canary_id: str, step: Step, known: Canary | None = None) -> Change | None:
        """The same inside a transaction; the caller passes the changes to `committed` afterwards."""
        tx.flush(canary_id)
        if known is not None:
            with suppress(StaleWrite):  # the row has moved on: it is read
                return self.move_in(tx, known, step)
        before = canaries.hold(tx.conn, canary_id)
        return None if before is None else self.move_in(tx, before, step)

    def move_in(self, tx: Tx, before: Canary, step: Step) -> Change:
        """The same with the canary as its row should stand. Raises StaleWrite, with nothing written, where it
        does not."""
        self._services.fence(tx)
        after = step(before, self._services.now())
        if after is not before:
            canaries.save(tx, after, before)
            self._observe(tx, before, after)
        return Change(before, after)

    def intend_in(self, tx: Tx, canary: Canary) -> Change:
        """Records a new intent inside a transaction."""
        canaries.insert(tx, canary)
        return Change(None, canary)

    def _announce(self, canary: Canary) -> None:
        """Whoever reads the seed's mailbox may look out for it."""
        reader = self._services.fleet.holder(MAILBOX + canary.seed)
        if reader:
            self._services.hints.put(Hint("sent", canary.id, reader))

    def committed(self, changes: Iterable[Change]) -> None:
        """What follows a commit: counters, memory, listeners."""
        for change in changes:
            if change.before is None:
                self._announce(change.after)
            self._count(change)
            self.remember(change.after)
            for listener in tuple(self._listeners):
                listener(change)

    def _observe(self, tx: Tx, before: Canary, after: Canary) -> None:
        if after.outcome is None or _verdict(before) == _verdict(after):
            return
        now = self._services.clock.wall()
        rows.observe(tx, now, "canary", observation_to_json(self._result(after, now)))

    def _result(self, canary: Canary, now: float) -> CanaryResult:
        assert canary.outcome is not None
        reply = canary.reply
        return CanaryResult(
            sender=canary.sender,
            seed=canary.seed,
            provider=canary.provider,
            at=now,
            outcome=canary.outcome,
            placement=canary.placement or Placement.UNKNOWN,
            reason=canary.reason,
            sent_at=canary.accepted.wall if canary.accepted else canary.created.wall,
            category=canary.category,
            authentication=dict(canary.verdicts),
            latency=canary.latency,
            reply=Reply(reply.code, reply.enhanced, reply.meaning, reply.text) if reply else None,
            relay=self._relay(canary.sender),
            evidence=canary.evidence,
        )

    def _relay(self, name: str) -> str:
        sender = self._services.config.senders.get(name)
        if sender is None:
            return ""
        if sender.relay:
            return sender.relay.host
        return (sender.direct.source_ip or "") if sender.direct else ""

    def _count(self, change: Change) -> None:
        before, after = change.before, change.after
        metrics = self._services.metrics
        if before is None:
            return
        if after.attempts > before.attempts:
            metrics.submitted(after)
        if after.settled_at is not None and before.settled_at is None:
            metrics.settled(after)
        if after.late and not before.late:
            metrics.late.labels(after.sender, after.provider).inc()
        if after.duplicates > before.duplicates:
            metrics.duplicates.labels(after.sender, after.provider).inc()

    def foresee(self, known: Canary, after: Canary) -> None:
        """The mailbox is looked at in the light of a step that is still to be written: the message may come
        before that. Nothing else hangs on it."""
        if self.expects(known.seed, known.token) is known:
            self.remember(after)

    def remember(self, canary: Canary) -> None:
        """Keeps in mind what the mailbox may still show, where it is read here."""
        if canary.seed not in self._waiting:
            return
        waiting, token = self._waiting[canary.seed], canary.token
        before = waiting.get(token)
        last = before.version if before is not None else self._judged.get(token, 0)
        if last > canary.version:
            return  # told out of order
        if canary.state in WAITING:
            waiting[token] = canary
            return
        waiting.pop(token, None)
        self._judged[token] = canary.version
        if len(self._judged) > RECENT:
            del self._judged[next(iter(self._judged))]


def _verdict(canary: Canary) -> tuple[object, ...]:
    return (canary.outcome, canary.placement, canary.reason)
