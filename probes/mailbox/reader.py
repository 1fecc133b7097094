"""The reader of one mailbox: one session for many canaries, for ever.

It connects, finds the folders, scans, and then waits: with IDLE where there is one, in any case proving every
PROVE seconds that the connection is alive, so that a dead one is found within a minute (G5). What it
cannot see it says so: `on_state` and incomplete scans; nothing is ever concluded from silence.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Final

from probes.clock import Clock
from probes.errors import LoginRefused, MailboxUnavailable, MailcanaryError
from probes.mailbox.access import MailboxAccess, Password
from probes.mailbox.agenda import COMMAND_TIMEOUT, INBOX, PROOF_TIMEOUT, Agenda, Do
from probes.mailbox.alarms import alarms_of
from probes.mailbox.burst import SHORTEST, Burst
from probes.mailbox.commands import CommandRefused
from probes.mailbox.folders import FolderMap, find_folders
from probes.mailbox.imap import Dialer, ImapSession, dial
from probes.mailbox.model import Expectation, ReaderOwner, ReaderState, Reason, Role, ScanReport, SeenMessage
from probes.mailbox.mutf7 import decode
from probes.mailbox.patience import Patience
from probes.mailbox.presets import Preset
from probes.mailbox.removal import Removals, remove
from probes.mailbox.scan import FEW, Scanner, failed, has_token_field

FIRST_BIDE: Final = 1.0
LONGEST_BIDE: Final = 15.0
"""Seconds until what the owner did not take is read again: at first, and at most."""
WHOLE_CAP: Final = 256 * 1024
"""Bytes read of each message in a mailbox of bounces."""

_log = logging.getLogger("mailcanary.mailbox")


class OwnerFailed(MailcanaryError):
    """The owner could not take what was read."""


class MailboxReader:
    """Reads one mailbox until told to stop.

    preset: the provider's habits. looks_like: whether a header may be a canary's. folders: roles by folder
    name from the config. known_junk: junk folders seen by an earlier run (from ScanReport.folders): one
    that is gone makes scans incomplete. bounces: every message is told, whole. rnd: uniform over [0, 1),
    for the back-off. door: is passed through at each login, so that not all do so at once.
    """

    def __init__(
        self,
        access: MailboxAccess,
        owner: ReaderOwner,
        clock: Clock,
        *,
        preset: Preset,
        looks_like: Callable[[bytes], bool] = has_token_field,
        folders: Mapping[str, Role] | None = None,
        known_junk: Sequence[str] = (),
        bounces: bool = False,
        rnd: Callable[[], float] = random.random,
        dialer: Dialer = dial,
        door: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self._access = replace(access, timeout=min(access.timeout, COMMAND_TIMEOUT))
        self._owner = owner
        self._clock = clock
        self._preset = preset
        self._configured = dict(folders or {})
        self._known_junk = set(known_junk)
        self._bounces = bounces
        self._looks_like = looks_like
        self._dialer = dialer
        self._door = door or nullcontext()
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._patience = Patience(rnd)
        self._burst = Burst(preset.limits.noops_per_window, preset.limits.noops_per_hour)
        self._scanner = Scanner(
            clock,
            self._tell,
            looks_like,
            WHOLE_CAP if bounces else None,
            tabs=preset.tabs and not bounces,
            on_failure=self._wake.set,
        )
        self._map = FolderMap((), (), (), None)
        self._removals = Removals()
        self._state: ReaderState | None = None
        self._agenda = Agenda(preset, self._burst, proved=0.0, looked=0.0)
        self._bided = 0  # times in a row that the owner failed
        self._held = 0  # messages in the inbox when it was last read
        self._retry = False
        self._resting = False
        self._rests_until = 0.0  # monotonic

    # what the owner may call

    def kick(self) -> None:
        """What is expected has changed: look again, where that is not about to happen anyway."""
        if self._rests_until - self._clock.monotonic() > SHORTEST or not self._resting:
            self._wake.set()

    def scan_now(self) -> None:
        """A full scan as soon as possible."""
        self._agenda.scan_now = True
        self._wake.set()

    def retry(self) -> None:
        """Try again at once, whatever was refused before; a junk folder that is gone is given up."""
        self._retry = True
        if not isinstance(self._access.credential, Password):
            self._access.credential.reset()
        self._known_junk.clear()
        self._agenda.scan_now = True
        self._wake.set()

    @property
    def state(self) -> ReaderState | None:
        """The last state told, None before the first."""
        return self._state

    async def delete(self, messages: Sequence[tuple[str, int, int]], timeout: float = 60.0) -> int:
        """Removes own canaries, given as (folder, uidvalidity, uid); says how many were.

        Only messages that still look like canaries are touched. Raises MailboxUnavailable where the
        session ends first, or none is there within `timeout` seconds.
        """
        removal = self._removals.add(messages)
        self._wake.set()
        try:
            async with asyncio.timeout(timeout):
                return await removal.done
        except TimeoutError:
            raise MailboxUnavailable("no session in time to delete", reason="timeout") from None
        finally:
            self._removals.drop(removal)

    # the life of it

    async def run(self, stop: asyncio.Event) -> None:
        """Reads until `stop` is set. Never raises for what the mailbox or the owner does; cancelling it is
        safe."""
        self._stop = stop
        waker = asyncio.create_task(self._wake_at_stop())
        try:
            await self._say(False, Reason.STARTING, "")
            while not stop.is_set():
                began = self._clock.monotonic()
                reason, detail = await self._session()
                if stop.is_set():
                    break
                self._patience.lived(self._clock.monotonic() - began)
                pause = self._patience.after(reason)
                await self._say(False, reason, detail)
                await self._hold(pause)
        finally:
            waker.cancel()
            self._removals.fail("the reader stopped")
        with suppress(OwnerFailed):
            await self._scanner.told()
        await self._say(False, Reason.STOPPED, "")

    async def _wake_at_stop(self) -> None:
        await self._stop.wait()
        self._wake.set()

    async def _session(self) -> tuple[Reason, str]:
        """One session from the connection to its end; says why it ended."""
        session = ImapSession(self._access, self._wake.set, self._dialer)
        try:
            async with self._door:
                if self._stop.is_set():
                    return Reason.STOPPED, ""
                await session.open()
            await self._watch(session)
            await session.logout()
            return Reason.STOPPED, ""
        except OwnerFailed as error:
            return Reason.OWNER_FAILED, error.detail
        except MailcanaryError as error:
            usual = "login-refused" if isinstance(error, LoginRefused) else "unavailable"
            return Reason.of(error.facts.get("reason", usual)), error.detail
        except Exception as error:  # a fault of ours must not blind the mailbox for ever
            _log.exception("reader failed", extra={"host": self._access.host})
            return Reason.INTERNAL, type(error).__name__
        finally:
            session.abort("the session ended", "stopped")
            self._removals.fail("the session ended")

    async def _hold(self, pause: float | None) -> None:
        """Waits before the next login: `pause` seconds, or until retry()."""
        end = float("inf") if pause is None else self._clock.monotonic() + pause
        while not self._stop.is_set() and not self._retry:
            left = end - self._clock.monotonic()
            if left <= 0:
                return
            await self._rest(min(left, 3_600.0))
        if self._retry:
            self._retry = False
            self._patience.forget()

    # one session

    async def _watch(self, session: ImapSession) -> None:
        """The life of an open session: a full scan, then whatever falls due, until it is lost or we stop."""
        now = self._clock.monotonic()
        self._retry = False
        self._agenda = Agenda(self._preset, self._burst, proved=now, looked=now)
        self._held = 0
        while not self._stop.is_set():
            if session.fault is not None:
                raise session.fault
            try:
                self._scanner.refused()
                await self._step(session, self._owner.expecting())
            except OwnerFailed as error:
                await self._bide(error)
            else:
                self._bided = 0

    async def _bide(self, error: OwnerFailed) -> None:
        """The owner could not take what was read (its store may be away): the mailbox is not to blame, so the
        session stays, and everything is read again in a while."""
        self._bided += 1
        await self._say(False, Reason.OWNER_FAILED, error.detail)
        await self._rest(min(LONGEST_BIDE, FIRST_BIDE * self._bided))
        self._agenda.scan_now = True

    async def _step(self, session: ImapSession, expected: Expectation) -> None:
        agenda, now = self._agenda, self._clock.monotonic()
        unread = session.news or session.selected != INBOX
        what, wait = agenda.next(expected, now, self._clock.wall(), unread, bool(self._removals))
        if what is Do.WAIT:
            if session.can("IDLE") and not session.idling and agenda.may_idle(expected, now):
                await session.idle()  # its start may have brought news
            else:
                await self._rest(wait)
            return
        if session.idling and what is Do.PROVE:
            session.renew_idle(min(self._access.timeout, PROOF_TIMEOUT), self._preset.pipelining)
            agenda.proved = now
            return
        if session.idling:
            await session.done()
        elif what is Do.PROVE:
            await session.noop()
        await self._do(what, session, expected)
        agenda.proved = self._clock.monotonic()

    async def _do(self, what: Do, session: ImapSession, expected: Expectation) -> None:
        if what is Do.SCAN:
            await self._full_scan(session, expected)
        elif what is Do.REMOVE:
            await self._remove(session)
        elif what is Do.READ:
            await self._read_inbox(session, expected)
        elif what is Do.ASK:
            await self._ask(session, expected)
        elif what is Do.POLL:
            await self._poll(session, expected)

    async def _read_inbox(self, session: ImapSession, expected: Expectation) -> None:
        inbox = self._map.counting[0]
        session.take_news()  # first: what comes while reading is news again
        if session.selected != inbox.name or session.exists - self._held > FEW:
            await self._scanner.read(session, inbox, expected.oldest_sent_at)
        elif session.exists:
            await self._scanner.read_on(session, inbox)
        self._held = session.exists

    async def _ask(self, session: ImapSession, expected: Expectation) -> None:
        """One NOOP of a burst; now and then a look at junk instead."""
        self._agenda.asked = self._clock.monotonic()
        self._burst.spent()
        began = expected.burst[0] if expected.burst else float("-inf")
        if len(self._map.counting) > 1 and self._agenda.peek(self._agenda.asked, began):
            await self._look_elsewhere(session, expected)
        else:
            await session.noop()

    async def _poll(self, session: ImapSession, expected: Expectation) -> None:
        self._agenda.looked = self._clock.monotonic()
        await session.noop()
        await self._look_elsewhere(session, expected)

    async def _look_elsewhere(self, session: ImapSession, expected: Expectation) -> None:
        """STATUS of the folders that IDLE does not watch, and reading where something came."""
        for folder in self._map.counting[1:]:
            try:
                uidvalidity, uidnext = await session.status(folder.name)
                if self._scanner.moved(folder.name, uidvalidity, uidnext):
                    await self._scanner.read(session, folder, expected.oldest_sent_at)
            except CommandRefused as error:
                self._agenda.scan_now = self._agenda.complete  # a full scan tells what is wrong with it
                _log.info("folder refused", extra={"reason": str(error.facts.get("reason"))})

    async def _remove(self, session: ImapSession) -> None:
        removal = self._removals.take()
        trash = self._map.trash if session.can("X-GM-EXT-1") else None
        removed = await remove(session, removal, self._looks_like, trash)
        self._removals.drop(removal)
        if not removal.done.done():
            removal.done.set_result(removed)

    # the full scan

    async def _full_scan(self, session: ImapSession, expected: Expectation) -> None:
        agenda = self._agenda
        agenda.scan_now, agenda.scanned = False, self._clock.monotonic()
        await self._scanner.told()  # the owner is to know of every message before it hears what is missing
        began = self._clock.wall(), self._clock.monotonic()
        try:
            self._map = find_folders(
                await session.list_folders(), self._configured, self._preset.junk, inbox_only=self._bounces
            )
            fault = self._folder_fault()
            report = await self._scanner.scan(session, self._map, expected.oldest_sent_at, fault)
        except MailboxUnavailable as error:
            agenda.complete = False
            await self._tell_scan(failed(self._clock, began, error))
            raise
        agenda.complete = report.complete
        if report.complete:
            agenda.scanned_from = began[0]
            self._known_junk.update(folder.name for folder in self._map.junk)
            self._patience.clean()
        await self._tell_scan(replace(report, started_wall=began[0], started_monotonic=began[1]))
        if report.fault is Reason.LIMITED:
            raise MailboxUnavailable(report.detail, reason="limited")
        if report.fault is None:
            await self._say(True, Reason.OK, "")
        elif report.fault is not Reason.UNSETTLED:
            await self._say(False, report.fault, report.detail)

    def _folder_fault(self) -> tuple[Reason, str] | None:
        """What the list of folders shows to be wrong. A flag vouches for a junk folder under a new name; a
        name does not."""
        if self._map.missing:
            return Reason.FOLDER_GONE, f"configured but not there: {', '.join(self._map.missing)}"
        present = {folder.name for folder in self._map.junk}
        gone = self._known_junk - present
        if gone and not any(folder.flagged for folder in self._map.junk):
            return Reason.JUNK_GONE, f"was there before: {', '.join(map(decode, sorted(gone)))}"
        if not present and self._preset.junk_required and not self._bounces:
            return Reason.NO_JUNK, "no junk folder is shown; is it hidden from IMAP?"
        return None

    # telling

    async def _tell(self, message: SeenMessage) -> None:
        try:
            await self._owner.on_message(message)
        except Exception as error:
            raise OwnerFailed(type(error).__name__) from error

    async def _tell_scan(self, report: ScanReport) -> None:
        try:
            await self._owner.on_scan(report)
        except Exception as error:
            raise OwnerFailed(type(error).__name__) from error

    async def _say(self, readable: bool, reason: Reason, detail: str) -> None:
        """Tells the state where it has changed."""
        last = self._state
        if last is not None and (last.readable, last.reason) == (readable, reason):
            return
        self._state = ReaderState(readable, reason, detail, self._clock.wall())
        try:
            await self._owner.on_state(self._state)
        except Exception as error:  # the store may be what fails: the next state is told again
            _log.warning("state not taken", extra={"error": type(error).__name__})

    async def _rest(self, seconds: float) -> None:
        """Waits until woken, at most so long."""
        alarm = alarms_of(self._clock).set(seconds, self._wake.set)
        self._rests_until, self._resting = self._clock.monotonic() + seconds, True
        try:
            await self._wake.wait()
        finally:
            self._resting = False
            alarm.cancel()
            self._wake.clear()
