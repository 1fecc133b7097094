"""Many keys that are asked for at the same time are one read of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Together(Generic[T]):
    """Reads what several tasks ask for within one turn of the loop in one go. read: values by key, for those
    that have one."""

    def __init__(self, read: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]]) -> None:
        self._read = read
        self._asked: set[str] = set()
        self._answer: asyncio.Task[Mapping[str, T]] | None = None

    async def get(self, key: str) -> T | None:
        """One key's value, or None. Raises what the read raises."""
        self._asked.add(key)
        if self._answer is None:
            self._answer = asyncio.create_task(self._ask())
        # One that is cancelled must not take the others' answer along.
        return (await asyncio.shield(self._answer)).get(key)

    async def _ask(self) -> Mapping[str, T]:
        await asyncio.sleep(0)
        keys, self._asked, self._answer = sorted(self._asked), set(), None
        return await self._read(keys)
