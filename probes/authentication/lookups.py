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
#: Seconds for one question.
QUESTION_SECONDS = 5.0


class Lookups:
    """A resolver for one message, with memory, a cap and a deadline. Satisfies `Resolver`."""

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
        self._deadline = asyncio.get_running_loop().time() + total_seconds
        self._known: dict[tuple[str, str], DnsAnswer] = {}
        self._asking: dict[tuple[str, str], asyncio.Future[DnsAnswer]] = {}
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        """Asks once per message; a second asker gets the same answer. Never raises for what DNS did."""
        key = (name.lower().rstrip("."), rdtype)
        known = self._known.get(key)
        if known is not None:
            return known
        asking = self._asking.get(key)
        if asking is not None:
            return await asyncio.shield(asking)
        asking = self._asking[key] = asyncio.get_running_loop().create_future()
        answer = DnsAnswer(name, rdtype, DnsStatus.ERROR, detail="the question was abandoned")
        try:
            answer = self._known[key] = await self._ask(key, timeout)
        finally:
            del self._asking[key]
            if not asking.done():
                asking.set_result(answer)
        return answer

    async def _ask(self, key: tuple[str, str], timeout: float | None) -> DnsAnswer:
        name, rdtype = key
        if self._left <= 0:
            return DnsAnswer(name, rdtype, DnsStatus.ERROR, detail="too many DNS questions for one message")
        self._left -= 1
        self.asked.append(key)
        now = asyncio.get_running_loop().time()
        seconds = min(self._deadline - now, timeout or self._question_seconds, self._question_seconds)
        if seconds <= 0:
            return DnsAnswer(name, rdtype, DnsStatus.TIMEOUT, detail="no time left for this message")
        try:
            # A little more than the resolver's own time: its status says more than ours.
            async with asyncio.timeout(seconds + 0.25):
                return await self._resolver.query(name, rdtype, timeout=seconds)
        except TimeoutError:
            return DnsAnswer(name, rdtype, DnsStatus.TIMEOUT, detail="the resolver did not come back")
        except (OSError, ValueError, UnicodeError) as error:
            return DnsAnswer(name, rdtype, DnsStatus.ERROR, detail=f"{type(error).__name__}: {error}")
