"""The DNS questions of one message: each asked once, all together within a number and a time.

A question beyond either ends as TIMEOUT or ERROR, never as an exception: its asker reports a temperror.
"""

from __future__ import annotations

import asyncio

from probes.dns import DnsAnswer, DnsStatus, Resolver

#: Questions for one message: SPF at its limits needs about 120, DMARC 8 a domain, a signature one.
QUESTION_CAP = 250
#: Seconds for all questions of one message (RFC 7208 section 4.6.4 wants at least 20).
TOTAL_SECONDS = 20.0
#: Seconds after which a resolver that has forgotten its own deadline is left alone.
GRACE_SECONDS = 0.25
#: Seconds for one question.
QUESTION_SECONDS = 5.0


class Lookups:
    """A resolver for one message, with memory, a cap and a deadline. Satisfies `Resolver`; `close` it.

    Each question gets its own time from the resolver; one timer for all of them ends those that a resolver
    forgets (a timer each would cost a sixth of the whole evaluation).
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        cap: int = QUESTION_CAP,
        total_seconds: float = TOTAL_SECONDS,
        question_seconds: float = QUESTION_SECONDS,
    ) -> None:
        self._resolver = resolver
        self._left = cap
        self._question_seconds = question_seconds
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + total_seconds
        self._timer = self._loop.call_at(self._deadline + GRACE_SECONDS, self._expire)
        self._known: dict[tuple[str, str], DnsAnswer] = {}
        self._asking: dict[tuple[str, str], asyncio.Future[DnsAnswer]] = {}
        self._waiting: set[asyncio.Task[object]] = set()
        self._expired: set[asyncio.Task[object]] = set()
        self.asked: list[tuple[str, str]] = []

    def close(self) -> None:
        """Ends the timer."""
        self._timer.cancel()

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        """Asks once per message; a second asker gets the same answer. Never raises for what DNS did."""
        key = (name.lower().rstrip("."), rdtype)
        known = self._known.get(key)
        if known is not None:
            return known
        asking = self._asking.get(key)
        if asking is not None:
            return await asyncio.shield(asking)
        asking = self._asking[key] = self._loop.create_future()
        answer = DnsAnswer(name, rdtype, DnsStatus.ERROR, detail="the question was abandoned")
        try:
            answer = self._known[key] = await self._ask(key, timeout)
        finally:
            del self._asking[key]
            if not asking.done():
                asking.set_result(answer)
        return answer

    async def _ask(self, key: tuple[str, str], timeout: float | None) -> DnsAnswer:
        if self._left <= 0:
            return DnsAnswer(*key, DnsStatus.ERROR, detail="too many DNS questions for one message")
        self._left -= 1
        self.asked.append(key)
        left = self._deadline - self._loop.time()
        if left <= 0:
            return DnsAnswer(*key, DnsStatus.TIMEOUT, detail="no time left for this message")
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            seconds = min(left, timeout or self._question_seconds, self._question_seconds)
            return await self._resolver.query(*key, timeout=seconds)
        except asyncio.CancelledError:
            if task not in self._expired or task.uncancel() > 0:
                raise  # somebody else ends the whole task
            return DnsAnswer(*key, DnsStatus.TIMEOUT, detail="the resolver did not come back")
        except (OSError, ValueError, UnicodeError) as error:
            return DnsAnswer(*key, DnsStatus.ERROR, detail=f"{type(error).__name__}: {error}")
        finally:
            self._waiting.discard(task)
            self._expired.discard(task)

    def _expire(self) -> None:
        self._expired = set(self._waiting)
        for task in self._expired:
            task.cancel()
