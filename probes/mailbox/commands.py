"""A command in flight, its answer, and its refusal."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from probes.errors import MailboxUnavailable
from probes.mailbox.parse import Code
from probes.mailbox.wire import ServerResponse
from probes.waiter import Waiter


class CommandRefused(MailboxUnavailable):
    """The server refused an IMAP command."""

    def __init__(self, command: str, status: str, code: Code) -> None:
        self.command = command
        self.status = status
        self.code = code
        told = f" [{code.name}]" if code.name else ""
        super().__init__(f"{command}: {status}{told} {code.text}".strip(), reason=refusal_reason(code.name))


def refusal_reason(code: str) -> str:
    """The closed word for a response code of RFC 5530."""
    return {
        "LIMIT": "limited",
        "OVERQUOTA": "limited",
        "INUSE": "limited",
        "UNAVAILABLE": "unavailable",
        "SERVERBUG": "unavailable",
        "NONEXISTENT": "folder-gone",
    }.get(code, "refused")


@lru_cache(maxsize=64)
def capability_set(text: bytes) -> frozenset[str]:
    """The words of a CAPABILITY response, in upper case; one object for all sessions with the same server."""
    return frozenset(word.decode("latin-1").upper() for word in text.split())


@dataclass(frozen=True, slots=True)
class Answer:
    """The tagged end of a command and the untagged responses that came before it."""

    status: str
    code: Code
    responses: tuple[ServerResponse, ...]


@dataclass(slots=True)
class Pending:
    """The command in flight. answers: what continuations still get, in order; challenges: what they said."""

    command: Any
    done: Waiter[Answer]
    answers: list[bytes] = field(default_factory=list)
    challenges: list[bytes] = field(default_factory=list)
    responses: list[ServerResponse] = field(default_factory=list)
    size: int = 0
    accepted: Waiter[None] | None = None  # IDLE: its continuation has come
    renew: asyncio.TimerHandle | None = None  # IDLE: to begin anew once it has ended, by this deadline
    following: str = ""  # IDLE: the tag of the next one, which was sent along with DONE
