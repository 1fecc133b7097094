"""Reading folders: what is new, and the full scan that may say "it is not there".

Each folder has a cursor: its UIDVALIDITY, the UID up to which everything was read, and the UIDs read above
the horizon. UIDs only grow while the UIDVALIDITY stands (RFC 3501 section 2.3.1.1), so reading on from the
cursor misses nothing; another UIDVALIDITY starts the folder from scratch.

Why a scan is complete: inbox, junk and the rest are read in turn, again and again, until one whole pass finds
every UIDVALIDITY and UIDNEXT as the pass before left them. A message that moves between folders gets a new
UID where it arrives. Had one left a folder F before F was read and entered a folder G after G was read,
then G's UIDNEXT would have grown and the pass would not have stood still. So a message that was in some
counting folder all the time was seen in one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from probes.clock import Clock
from probes.errors import MailboxUnavailable
from probes.mailbox.commands import CommandRefused
from probes.mailbox.folders import Folder, FolderMap
from probes.mailbox.imap import HEADER_CAP, Fetched, FolderState, ImapSession, uid_set
from probes.mailbox.model import Reason, Role, ScannedFolder, ScanReport, SeenMessage
from probes.mailbox.parse import search_day
from probes.mailbox.tabs import categories

DAY: Final = 86_400.0
PASSES: Final = 8
"""Passes after which a mailbox that never stands still makes the scan incomplete."""
FEW: Final = 8
"""So many new messages are fetched with their whole header at once; of more, the telling fields come
first."""
OTHER_CAP: Final = 300
"""Unread messages in a folder nobody configured, above which the server is asked to search for the header."""
_FIELDS: Final = "HEADER.FIELDS (X-MAILCANARY-TOKEN SUBJECT)"
_FIELDS_CAP: Final = 4 * 1024
_TOKEN_FIELD: Final = b"x-mailcanary-token:"


def has_token_field(header: bytes) -> bool:
    """The plain test for a canary: its header field. The agent passes one that looks at the subject too."""
    lowered = header.lower()
    return lowered.startswith(_TOKEN_FIELD) or b"\n" + _TOKEN_FIELD in lowered


@dataclass(slots=True)
class Cursor:
    """How far a folder was read. uidnext: 0 where it was not read yet; read: UIDs known above the horizon."""

    uidvalidity: int
    uidnext: int = 0
    read: set[int] = field(default_factory=set)


class Scanner:
    """Reads folders through whatever session it is handed; its cursors outlive the session.

    looks_like: whether a header (whole, or its subject and token fields) may be a canary's. tell: gets
    each message; what it raises leaves the cursor where it was. whole_cap: bytes of each message to read
    in a mailbox of bounces, where every message is told; None for a seed. tabs: whether Gmail's categories
    are asked for. on_failure: called when there is something for `refused`.
    """

    def __init__(
        self,
        clock: Clock,
        tell: Callable[[SeenMessage], Coroutine[None, None, None]],
        looks_like: Callable[[bytes], bool] = has_token_field,
        whole_cap: int | None = None,
        tabs: bool = False,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._tell = tell
        self._looks_like = looks_like
        self._whole_cap = whole_cap
        self._tabs = tabs
        self._on_failure = on_failure
        self._cursors: dict[str, Cursor] = {}
        self._telling: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None

    def moved(self, name: str, uidvalidity: int | None, uidnext: int | None) -> bool:
        """Whether a STATUS of the folder tells of something unread; a server that does not say may have."""
        cursor = self._cursors.get(name)
        if cursor is None or cursor.uidvalidity != uidvalidity:
            return True
        return uidnext is None or uidnext > cursor.uidnext

    async def read(
        self, session: ImapSession, folder: Folder, since: float | None, deep: bool = False
    ) -> FolderState:
        """Examines the folder and tells everything unread. since: epoch seconds of the oldest message of
        interest, None: only what comes from now on. deep: trusts no cursor, searches again from the day
        before `since`."""
        state = await session.examine(folder.name)
        cursor = self._cursors.get(folder.name)
        if cursor is None or cursor.uidvalidity != state.uidvalidity:
            cursor = self._cursors[folder.name] = Cursor(state.uidvalidity)
        uidnext = state.uidnext if state.uidnext is not None else await self._highest(session, state) + 1
        wanted = await self._wanted(session, cursor, uidnext, state.exists, since, deep)
        if folder.role is Role.OTHER and len(wanted) > OTHER_CAP:
            told = await session.search("UID", uid_set(wanted), "HEADER", "X-Mailcanary-Token", '""')
            wanted = [uid for uid in told if uid not in cursor.read]
        await self._take(session, folder, cursor, wanted)
        cursor.uidnext = max(cursor.uidnext, uidnext, *(uid + 1 for uid in wanted[-1:]))
        return FolderState(state.uidvalidity, uidnext, session.exists)

    async def read_on(self, session: ImapSession, folder: Folder) -> None:
        """Tells what has come to the selected folder: one round trip, since the latency of it is the product.
        Whether it was taken is seen later, by `told` and `refused`: what comes next shall not wait for it."""
        cursor = self._cursors[folder.name]
        item, cap = ("", self._whole_cap) if self._whole_cap else ("HEADER", HEADER_CAP)
        came = await session.fetch(f"{max(1, cursor.uidnext)}:*", item, cap)
        new = [one for one in came if one.uid >= cursor.uidnext and one.uid not in cursor.read]
        for message in await self._likely(session, folder, cursor, new):
            telling = asyncio.ensure_future(self._tell(message))
            telling.add_done_callback(partial(self._ended, cursor, message.uid))
            self._telling.add(telling)
        cursor.read.update(one.uid for one in new)
        for one in came:  # "n:*" names the last message even where it is below n
            cursor.uidnext = max(cursor.uidnext, one.uid + 1)

    def _ended(self, cursor: Cursor, uid: int, telling: asyncio.Task[None]) -> None:
        self._telling.discard(telling)
        if telling.cancelled():
            return
        failure = telling.exception()
        if failure is not None:  # a full scan finds it again
            cursor.read.discard(uid)
            self._failure = failure
            self._on_failure()

    def refused(self) -> None:
        """Raises what went wrong with what `read_on` told, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def told(self) -> None:
        """Returns once all that `read_on` told was taken. Raises what went wrong with it."""
        if self._telling:
            await asyncio.wait(self._telling)
        self.refused()

    async def _highest(self, session: ImapSession, state: FolderState) -> int:
        return max(await session.search("UID", "*"), default=0) if state.exists else 0

    async def _wanted(
        self,
        session: ImapSession,
        cursor: Cursor,
        uidnext: int,
        exists: int,
        since: float | None,
        deep: bool,
    ) -> list[int]:
        found: set[int] = set()
        if exists and cursor.uidnext and uidnext > cursor.uidnext:
            found.update(await session.search("UID", f"{cursor.uidnext}:*"))
            found = {uid for uid in found if uid >= cursor.uidnext}
        if exists and since is not None and (deep or not cursor.uidnext):
            recent = set(await session.search("SINCE", search_day(since - DAY)))
            cursor.read &= recent  # what has gone, or lies before the horizon, need not be known any more
            found |= recent
        return sorted(found - cursor.read)

    async def _take(self, session: ImapSession, folder: Folder, cursor: Cursor, uids: list[int]) -> None:
        if self._whole_cap:
            await self._fetch(session, folder, cursor, uids, "", self._whole_cap, step=4)
        elif len(uids) <= FEW:
            await self._fetch(session, folder, cursor, uids, "HEADER", HEADER_CAP, step=FEW)
        else:
            likely: list[int] = []
            for batch in _batches(uids, 200):
                came = await session.fetch(uid_set(batch), _FIELDS, _FIELDS_CAP)
                await self._none_left_out(session, batch, came)
                candidates = {one.uid for one in came if self._looks_like(one.data)}
                cursor.read.update(set(batch) - candidates)
                likely.extend(sorted(candidates))
            await self._fetch(session, folder, cursor, likely, "HEADER", HEADER_CAP, step=20)

    async def _fetch(
        self,
        session: ImapSession,
        folder: Folder,
        cursor: Cursor,
        uids: list[int],
        item: str,
        cap: int,
        step: int,
    ) -> None:
        for batch in _batches(uids, step):
            came = await session.fetch(uid_set(batch), item, cap)
            await self._none_left_out(session, batch, came)
            await self._tell_all(session, folder, cursor, [one for one in came if one.uid in batch])

    async def _none_left_out(self, session: ImapSession, batch: list[int], came: list[Fetched]) -> None:
        """A UID without an answer was expunged meanwhile, or the server left it out: then we could not
        look."""
        missing = set(batch) - {one.uid for one in came}
        if missing and set(await session.search("UID", uid_set(sorted(missing)))) & missing:
            raise MailboxUnavailable("FETCH left out messages that are there", reason="protocol-error")

    async def _tell_all(
        self, session: ImapSession, folder: Folder, cursor: Cursor, came: list[Fetched]
    ) -> None:
        await self._tell_each(await self._likely(session, folder, cursor, came))
        cursor.read.update(one.uid for one in came)

    async def _likely(
        self, session: ImapSession, folder: Folder, cursor: Cursor, came: list[Fetched]
    ) -> list[SeenMessage]:
        """Those that are to be told."""
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        headers = {one.uid: _header(one.data) for one in came}
        likely = [one for one in came if self._whole_cap or self._looks_like(headers[one.uid])]
        tabs: dict[int, str] = {}
        if likely and self._tabs and folder.role is Role.INBOX and session.can("X-GM-EXT-1"):
            tabs = await categories(session, [one.uid for one in likely])
        return [
            SeenMessage(
                folder=folder.name,
                role=Role.TAB if tabs.get(one.uid) not in (None, "unknown") else folder.role,
                category=tabs.get(one.uid),
                uid=one.uid,
                uidvalidity=cursor.uidvalidity,
                internaldate=one.internaldate,
                size=one.size,
                seen_wall=wall,
                seen_monotonic=monotonic,
                header=headers[one.uid],
                whole=one.data if self._whole_cap else b"",
            )
            for one in likely
        ]

    async def _tell_each(self, seen: Sequence[SeenMessage]) -> None:
        """All at once, so that one commit may take them all; the first failure is raised once all have
        ended."""
        if len(seen) == 1:
            await self._tell(seen[0])
        elif seen:
            for failure in await asyncio.gather(*map(self._tell, seen), return_exceptions=True):
                if failure is not None:
                    raise failure

    # the full scan

    async def scan(
        self, session: ImapSession, folders: FolderMap, since: float | None, fault: tuple[Reason, str] | None
    ) -> ScanReport:
        """A full scan of what counts, then a look into the others. fault: what LIST has shown to be wrong
        already. Raises only when the session is lost; `failed` makes the report of that."""
        began = self._clock.wall(), self._clock.monotonic()
        found: dict[str, ScannedFolder] = {}
        settled = False
        stood: dict[str, tuple[int, int | None]] = {}
        for number in range(PASSES):
            before = dict(stood)
            for folder in folders.counting:
                try:
                    state = await self.read(session, folder, since, deep=number == 0)
                except CommandRefused as error:
                    fault = fault or (Reason.of(error.facts.get("reason")), error.detail)
                    continue
                stood[folder.name] = (state.uidvalidity, state.uidnext)
                found[folder.name] = ScannedFolder(folder.name, folder.role, state.uidvalidity, state.exists)
            if number and stood == before:
                settled = True
                break
        if not settled:
            fault = fault or (Reason.UNSETTLED, f"new messages in each of {PASSES} passes")
        skipped = await self._others(session, folders.others, since, found)
        return ScanReport(
            *began,
            finished_wall=self._clock.wall(),
            complete=fault is None,
            folders=tuple(found.values()),
            fault=fault[0] if fault else None,
            detail=fault[1] if fault else "",
            skipped=skipped,
        )

    async def _others(
        self,
        session: ImapSession,
        names: Sequence[str],
        since: float | None,
        found: dict[str, ScannedFolder],
    ) -> tuple[str, ...]:
        """So that "in a folder nobody configured" is told as such and not as missing."""
        skipped: list[str] = []
        for name in names if since is not None else ():
            try:
                state = await self.read(session, Folder(name, Role.OTHER), since, deep=True)
                found[name] = ScannedFolder(name, Role.OTHER, state.uidvalidity, state.exists)
            except CommandRefused:
                skipped.append(name)
        return tuple(skipped)


def failed(clock: Clock, began: tuple[float, float], error: MailboxUnavailable) -> ScanReport:
    """The report of a scan whose session was lost."""
    reason = Reason.of(error.facts.get("reason"))
    return ScanReport(*began, clock.wall(), False, (), reason, error.detail)


def _header(data: bytes) -> bytes:
    """The header of a message, or what there is of it."""
    crlf = data.find(b"\n\r\n", 0, HEADER_CAP)
    bare = data.find(b"\n\n", 0, crlf + 2 if crlf >= 0 else HEADER_CAP)
    if bare >= 0:
        return data[: bare + 2]
    return data[: crlf + 3] if crlf >= 0 else data[:HEADER_CAP]


def _batches(uids: list[int], step: int) -> list[list[int]]:
    return [uids[start : start + step] for start in range(0, len(uids), step)]
