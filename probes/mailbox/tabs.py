"""Gmail's tabs: no label tells them, but X-GM-RAW searches do (Gmail's IMAP extensions)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from probes.mailbox.commands import CommandRefused
from probes.mailbox.imap import ImapSession, uid_set

CATEGORIES: Final = ("promotions", "updates", "social", "forums", "reservations", "purchases")
"""Asked for in this order once the primary tab does not have all; a message is in one of the first four."""


async def categories(session: ImapSession, uids: Sequence[int]) -> dict[int, str]:
    """The category by UID in the selected folder; messages of the primary tab are left out.

    "unknown" where no search finds the message, or searching is refused: nobody knows then which tab it is
    in.
    """
    left = set(uids)
    told: dict[int, str] = {}
    try:
        left -= await _members(session, left, "primary")
        for category in CATEGORIES:
            if not left:
                break
            members = await _members(session, left, category)
            told.update(dict.fromkeys(members, category))
            left -= members
    except CommandRefused:
        pass
    return told | dict.fromkeys(left, "unknown")


async def _members(session: ImapSession, uids: set[int], category: str) -> set[int]:
    found = await session.search("UID", uid_set(sorted(uids)), "X-GM-RAW", f'"category:{category}"')
    return uids & set(found)
