"""Removing own canaries after their retention: asked for by other tasks, done by the reader in its
session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from probes.errors import MailboxUnavailable
from probes.mailbox.commands import CommandRefused
from probes.mailbox.imap import ImapSession, uid_set


@dataclass(eq=False, slots=True)
class Removal:
    """One request: messages as (folder, uidvalidity, uid), and how many of them are gone."""

    messages: tuple[tuple[str, int, int], ...]
    done: asyncio.Future[int] = field(repr=False)


class Removals:
    """The requests that wait for a session."""

    def __init__(self) -> None:
        self._waiting: list[Removal] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, messages: Sequence[tuple[str, int, int]]) -> Removal:
        """A new request."""
        removal = Removal(tuple(messages), asyncio.get_running_loop().create_future())
        self._waiting.append(removal)
        return removal

    def take(self) -> Removal:
        """The next request; it stays until it is dropped."""
        return self._waiting[0]

    def drop(self, removal: Removal) -> None:
        """Forgets a request."""
        if removal in self._waiting:
            self._waiting.remove(removal)

    def fail(self, why: str) -> None:
        """Ends all requests with an error."""
        waiting, self._waiting = self._waiting, []
        for removal in waiting:
            if not removal.done.done():
                removal.done.set_exception(MailboxUnavailable(why, reason="stopped"))
                removal.done.exception()  # marked as seen: the asker may have gone


async def remove(
    session: ImapSession, removal: Removal, looks_like: Callable[[bytes], bool], trash: str | None
) -> int:
    """Deletes what still looks like a canary under the same UIDVALIDITY; a folder that refuses is passed
    over."""
    folders: dict[tuple[str, int], list[int]] = {}
    for name, uidvalidity, uid in removal.messages:
        folders.setdefault((name, uidvalidity), []).append(uid)
    removed = 0
    for (name, uidvalidity), uids in folders.items():
        try:
            state = await session.examine(name)
            if state.uidvalidity != uidvalidity or not state.exists:
                continue
            came = await session.fetch(uid_set(uids), "HEADER.FIELDS (X-MAILCANARY-TOKEN SUBJECT)", 4 * 1024)
            ours = [one.uid for one in came if one.uid in uids and looks_like(one.data)]
            if ours and await session.delete(name, uidvalidity, ours, trash):
                removed += len(ours)
        except CommandRefused:
            continue
    return removed
