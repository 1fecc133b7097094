"""What the reader of a mailbox tells, and what it asks of its owner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Role(StrEnum):
    """What a folder means for placement."""

    INBOX = "inbox"
    JUNK = "junk"
    TAB = "tab"
    OTHER = "other"


class Reason(StrEnum):
    """Why a mailbox can or cannot be read: closed, fit for a metric label."""

    OK = "ok"
    STARTING = "starting"
    CONNECT_FAILED = "connect-failed"
    TLS_FAILED = "tls-failed"
    LOGIN_REFUSED = "login-refused"
    GRANT_REFUSED = "grant-refused"
    LIMITED = "limited"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection-lost"
    PROTOCOL_ERROR = "protocol-error"
    REFUSED = "refused"
    FOLDER_GONE = "folder-gone"
    JUNK_GONE = "junk-gone"
    NO_JUNK = "no-junk"
    UNSETTLED = "unsettled"
    OWNER_FAILED = "owner-failed"
    INTERNAL = "internal"
    STOPPED = "stopped"

    @classmethod
    def of(cls, word: object) -> Reason:
        """The reason of that name, INTERNAL for any other word."""
        try:
            return cls(str(word))
        except ValueError:
            return cls.INTERNAL


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the owner waits for in this mailbox, asked often: answering has to be cheap.

    open: canaries that may still arrive. oldest_sent_at: epoch seconds of the oldest, None without any: a
    scan from scratch goes back to the day before. burst: (from, until) on the monotonic clock, in which a
    canary is likely to arrive and NOOPs come fast. scan_after: epoch seconds at which a full scan falls
    due (a deadline): a scan is wanted that BEGINS later; None when none is. It stays until on_scan has
    told of one that began after it.
    """

    open: int = 0
    oldest_sent_at: float | None = None
    burst: tuple[float, float] | None = None
    scan_after: float | None = None


@dataclass(frozen=True, slots=True)
class SeenMessage:
    """One message that looks like a canary, or any message in a mailbox of bounces.

    folder: the server's name of it. category: Gmail's tab (promotions, social, ...; "unknown" where it
    could not be asked), None for the primary one and for other providers. internaldate: epoch seconds by
    the server's clock, None where it is unreadable. size: bytes. seen_wall, seen_monotonic: when the bytes
    were here. header: as received, at most 64 KiB. whole: the message up to a cap, in a mailbox of bounces
    only, else b"".
    """

    folder: str
    role: Role
    category: str | None
    uid: int
    uidvalidity: int
    internaldate: float | None
    size: int
    seen_wall: float
    seen_monotonic: float
    header: bytes
    whole: bytes = b""


@dataclass(frozen=True, slots=True)
class ScannedFolder:
    """One folder of a scan. messages: how many it holds."""

    name: str
    role: Role
    uidvalidity: int
    messages: int


@dataclass(frozen=True, slots=True)
class ScanReport:
    """A full scan. complete: every folder that counts was examined, read to its UIDNEXT on its current
    UIDVALIDITY without an error, stood still while that was confirmed, and no known junk folder is gone.
    Only such a scan can say that a canary is not there.

    fault: why it is not complete (a Reason), else None; detail: the same for people. skipped: other
    folders (those nobody configured) that could not be looked at; they do not make a scan incomplete.
    """

    started_wall: float
    started_monotonic: float
    finished_wall: float
    complete: bool
    folders: tuple[ScannedFolder, ...]
    fault: Reason | None = None
    detail: str = ""
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReaderState:
    """Whether the mailbox can be read now, and since when (epoch seconds). detail: for people, without
    secrets."""

    readable: bool
    reason: Reason
    detail: str
    since: float


class ReaderOwner(Protocol):
    """Whoever wants to know; agent/ implements it. An exception from on_message or on_scan ends the
    session: what was not taken is told again by the next one."""

    def expecting(self) -> Expectation:
        """What is waited for now."""

    async def on_message(self, message: SeenMessage) -> None:
        """A message, told at least once: again after a restart, a new UIDVALIDITY or a move to another
        folder."""

    async def on_scan(self, report: ScanReport) -> None:
        """A full scan ended, complete or not. All messages it found were told before."""

    async def on_state(self, state: ReaderState) -> None:
        """Readable or not has changed, or the reason why not."""
