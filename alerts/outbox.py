"""Notifications that cannot be lost: stored with the alert's change, sent, then marked.

At least once, in order: an item is sent only when it is the oldest unsent one of its receiver and
deduplication key, so that a trigger goes before its resolve. A crash between send and mark sends again;
nothing is ever marked before it was sent. One that may not be sure any more that the receiver is its own to
tell begins nothing, and breaks off what it has begun.
"""

from __future__ import annotations

import asyncio
import random as randomlib
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Protocol

from alerts.delivery import Delivery, Notifier
from alerts.notification import Gate, Notification, digest
from alerts.pace import Breaker, Pace
from alerts.settings import ReceiverSettings
from probes.clock import Clock
from probes.errors import StaleWrite, StoreError

FIRST_RETRY = 5.0
LONGEST_RETRY = 600.0
PERMANENT_RETRY = 3600.0
GIVE_UP_PERMANENT = 24 * 3600.0
GIVE_UP = 7 * 24 * 3600.0
LEASE = 120.0
LOOK = 0.5
"""Seconds between looks whether the receiver is still this process's to tell, while it is being told."""
_BATCH = 20
_DIGEST_MOST = 200


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A stored notification. due_at: not before this (epoch seconds); attempts: deliveries that failed."""

    id: str
    notification: Notification
    created_at: float
    due_at: float
    attempts: int = 0
    error: str = ""


class OutboxStore(Protocol):
    """Where notifications wait. Each method is one transaction.

    claim_due returns, for one receiver, items whose due_at has come, that are not leased, and that are the
    oldest unsent item of their (receiver, dedup_key); it leases them until now + lease, so that a crash frees
    them. Given-up items count as done. Adding (in the transaction of the alert's change) ignores a known id.
    """

    async def claim_due(self, receiver: str, now: float, limit: int, lease: float) -> Sequence[OutboxItem]:
        """Leases and returns at most `limit` items, those due longest first."""
        ...

    async def count_due(self, receiver: str, now: float) -> int:
        """How many items claim_due could give."""
        ...

    async def mark_sent(self, ids: Sequence[str], at: float) -> None:
        """They were sent at that time."""
        ...

    async def reschedule(self, ids: Sequence[str], due_at: float, error: str) -> None:
        """Ends the lease, counts an attempt if `error` says one failed, and sets due_at."""
        ...

    async def give_up(self, ids: Sequence[str], at: float, error: str) -> None:
        """Takes the items out of the queue without their having been sent (error: why)."""
        ...

    async def was_sent(self, receiver: str, dedup_key: str) -> bool:
        """Whether anything about this key was sent to this receiver."""
        ...

    async def needs_escalation(self, dedup_key: str) -> bool:
        """Whether the alert of this key is still firing, not muted and not acknowledged."""
        ...


@dataclass(frozen=True, slots=True)
class DeliveryEvent:
    """For metrics and logs. outcome: sent, retry, gave_up or skipped; delay: seconds since it was due."""

    receiver: str
    outcome: str
    reason: str
    delay: float
    detail: str = ""


def backoff(attempts: int, random: randomlib.Random) -> float:
    """Seconds to the next try after so many failures: doubled each time, capped, with half of it random."""
    full = min(LONGEST_RETRY, FIRST_RETRY * float(2 ** min(attempts, 20)))
    return full * (0.5 + random.random() / 2)


@dataclass(frozen=True, slots=True)
class _Line:
    """What one receiver is told with. A delivery under way ends with what it began with."""

    name: str
    notifier: Notifier
    settings: ReceiverSettings
    pace: Pace
    breaker: Breaker


class Outbox:
    """Delivers what is due. `step` does it once for all receivers; `run` until told to stop."""

    def __init__(
        self,
        store: OutboxStore,
        notifiers: Mapping[str, Notifier],
        clock: Clock,
        *,
        receivers: Mapping[str, ReceiverSettings] | None = None,
        random: randomlib.Random | None = None,
        observe: Callable[[DeliveryEvent], None] | None = None,
        left: Callable[[], float] = lambda: inf,
    ) -> None:
        """left: seconds for which this process is surely the one that delivers, asked again and again."""
        self._store = store
        self._left = left
        self._clock = clock
        self._random = random or randomlib.Random()
        self._observe = observe or (lambda event: None)
        self._wake = asyncio.Event()
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._lines: dict[str, _Line] = {}
        self.configure(notifiers, receivers or {})

    def configure(self, notifiers: Mapping[str, Notifier], receivers: Mapping[str, ReceiverSettings]) -> None:
        """Takes new notifiers after a reload; pace and breaker of receivers that stay are kept."""
        lines = {}
        for name, notifier in notifiers.items():
            known = self._lines.get(name)
            pace = known.pace if known else Pace(notifier.per_minute)
            breaker = known.breaker if known else Breaker()
            lines[name] = _Line(name, notifier, receivers.get(name) or ReceiverSettings(), pace, breaker)
        self._lines = lines

    def wake(self) -> None:
        """Something was added: look at once."""
        self._wake.set()
        self._wake = asyncio.Event()

    async def run(self, stop: asyncio.Event, every: float = 1.0) -> None:
        """Delivers until stop is set; each receiver has its own loop, so that none waits for another."""
        loops = self._loops
        try:
            while not stop.is_set():
                for name in self._lines:
                    if name not in loops or loops[name].done():
                        loops[name] = asyncio.create_task(self._loop(name, every), name=f"outbox {name}")
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), every)
        finally:
            for task in loops.values():
                task.cancel()
            await asyncio.gather(*loops.values(), return_exceptions=True)

    async def ended(self, name: str) -> None:
        """Returns once nothing is under way to a receiver that was taken away by `configure`."""
        loop = self._loops.get(name)
        if loop is not None and name not in self._lines:
            self.wake()
            await asyncio.wait({loop})

    async def _loop(self, name: str, every: float) -> None:
        """One receiver's loop; a store that fails is asked again, the items are still there."""
        while (line := self._lines.get(name)) is not None:
            wake = self._wake
            try:
                if await self._receiver(line):
                    continue
            except StaleWrite:
                pass  # another agent delivers by now
            except StoreError as error:
                self._observe(DeliveryEvent(name, "retry", "store", 0.0, error.detail))
            with suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), every)

    async def step(self) -> int:
        """One look at each receiver, all at the same time; how many notifications were sent."""
        found = await asyncio.gather(*map(self._receiver, list(self._lines.values())))
        return sum(found)

    async def _receiver(self, line: _Line) -> int:
        now, mono = self._clock.wall(), self._clock.monotonic()
        free = min(_BATCH, line.pace.free(mono), line.breaker.free(mono))
        if free <= 0:
            return 0
        over = line.settings.digest_over if line.notifier.digests else 0
        if over and await self._store.count_due(line.name, now) > over:
            return await self._digest(line, now)
        sent = 0
        for item in await self._store.claim_due(line.name, now, free, LEASE):
            late = self._clock.monotonic() - mono > LEASE / 2 or self._left() <= 0
            if late or line.name not in self._lines or not line.breaker.free(self._clock.monotonic()):
                await self._store.reschedule([item.id], item.due_at, "")
            else:
                sent += await self._one(line, item)
        return sent

    async def _one(self, line: _Line, item: OutboxItem) -> int:
        if not await self._passes(item):
            await self._store.give_up([item.id], self._clock.wall(), "skipped")
            self._event(item.notification, "skipped", str(item.notification.gate))
            return 0
        delivery = await self._send(line, item.notification)
        await self._settle(line, [item], delivery)
        return int(delivery.ok)

    async def _digest(self, line: _Line, now: float) -> int:
        claimed = await self._store.claim_due(line.name, now, _DIGEST_MOST, LEASE)
        items: list[OutboxItem] = []
        idle: list[OutboxItem] = []
        for item in claimed:
            (items if await self._passes(item) else idle).append(item)
        if idle:
            await self._store.give_up([i.id for i in idle], now, "skipped")
        if not items:
            return 0
        told = [i.notification for i in items]
        delivery = await self._send(line, told[0] if len(told) == 1 else digest(told, now))
        await self._settle(line, items, delivery)
        return len(items) if delivery.ok else 0

    async def _passes(self, item: OutboxItem) -> bool:
        n = item.notification
        if n.gate is Gate.IF_OPEN:
            return await self._store.needs_escalation(n.dedup_key)
        if n.gate is Gate.ALWAYS:
            return True
        return await self._store.was_sent(n.receiver, n.dedup_key) is (n.gate is Gate.IF_TOLD)

    async def _send(self, line: _Line, notification: Notification) -> Delivery:
        line.pace.take(self._clock.monotonic())
        seconds = line.settings.timeout
        try:
            async with asyncio.timeout(3 * seconds):
                return await self._while_ours(line.notifier.send(notification, self._clock.wall()))
        except TimeoutError:
            return Delivery(False, "unreachable", detail=f"no end within {3 * seconds:g} s")
        except Exception as error:  # a notifier's bug must not lose the alert nor stop the others
            return Delivery(False, "crashed", detail=type(error).__name__)

    async def _while_ours(self, sending: Coroutine[None, None, Delivery]) -> Delivery:
        task = asyncio.ensure_future(sending)
        try:
            while not task.done() and (left := self._left()) > 0:
                await asyncio.wait({task}, timeout=None if left == inf else min(left, LOOK))
        finally:
            task.cancel()  # unless it is done
        if not task.done():
            return Delivery(False, "unreachable", detail="broken off: another agent may deliver by now")
        return task.result()

    async def _settle(self, line: _Line, items: Sequence[OutboxItem], delivery: Delivery) -> None:
        """Marks, or plans the next try. What failed for good is tried hourly for a day."""
        ids, now = [i.id for i in items], self._clock.wall()
        if delivery.ok:
            line.breaker.succeeded()
            await self._store.mark_sent(ids, now)
            for item in items:
                self._event(item.notification, "sent", delivery.reason)
            return
        line.breaker.failed(self._clock.monotonic(), delivery.retry_after)
        over = now - items[0].created_at > (GIVE_UP_PERMANENT if delivery.permanent else GIVE_UP)
        if over:
            await self._store.give_up(ids, now, delivery.reason)
        else:
            wait = PERMANENT_RETRY if delivery.permanent else backoff(items[0].attempts, self._random)
            wait = max(wait, delivery.retry_after or 0.0)
            await self._store.reschedule(ids, now + wait, f"{delivery.reason} {delivery.detail}".strip())
        outcome = "gave_up" if over else "retry"
        for item in items:
            self._event(item.notification, outcome, delivery.reason, delivery.detail)

    def _event(self, n: Notification, outcome: str, reason: str, detail: str = "") -> None:
        delay = max(0.0, self._clock.wall() - max(n.at, n.not_before))
        self._observe(DeliveryEvent(n.receiver, outcome, reason, delay, detail))
