"""The load world's IMAP peer: every mailbox behind one port, one protocol object a session, and a count of
the sessions of each mailbox."""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from tests.fleet.owners import frozen, owner
from tests.fleet.post import Box, Letter, Post

CAPABILITIES = b"IMAP4rev1 IDLE SPECIAL-USE SASL-IR AUTH=PLAIN"
VALIDITY = 1000
_NAMED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_CAP = re.compile(rb"<0\.(\d+)>")


@dataclass
class Watch:
    """Who was where at the same time. met: [mailbox, older pid, newer pid, whether the older was frozen] of
    each login to a mailbox that had a session already."""

    logins: int = 0
    open: int = 0
    commands: int = 0
    met: list[tuple[str, int, int, bool]] = field(default_factory=list)
    stale: int = 0
    """Commands on a session after a newer one of its mailbox had logged in."""


class ImapPeer(asyncio.Protocol):
    """Speaks as much of RFC 3501 and RFC 2177 as the reader needs."""

    def __init__(self, post: Post, watch: Watch) -> None:
        self._post = post
        self._watch = watch
        self._buffer = bytearray()
        self._idle = b""
        self._told = 0
        self._inbox = False
        self.box: Box | None = None
        self.since = 0.0
        self._letters: list[Letter] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"* OK [CAPABILITY " + CAPABILITIES + b"] load\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    @property
    def port(self) -> int:
        """The client's own port."""
        return int(self._transport.get_extra_info("peername")[1])

    def _leave(self) -> None:
        if self.box is not None:
            self.box.sessions.remove(self)
            self._watch.open -= 1
            self.box = None

    def announce(self) -> None:
        if self._idle:
            self._exists()

    def _exists(self) -> None:
        if self._inbox and len(self._letters) != self._told:
            self._told = len(self._letters)
            self._transport.write(b"* %d EXISTS\r\n" % self._told)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n")) >= 0:
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._take(line)

    def _take(self, line: bytes) -> None:
        self._watch.commands += 1
        if self.box is not None and self.box.sessions[-1] is not self:
            self._watch.stale += 1
        if line.upper() == b"DONE":
            tag, self._idle = self._idle, b""
            self._transport.write(tag + b" OK idle over\r\n")
            return
        tag, _, rest = line.partition(b" ")
        verb, _, args = rest.partition(b" ")
        verb = verb.upper()
        if verb == b"UID":
            more, _, args = args.partition(b" ")
            verb += b" " + more.upper()
        act = ACTS.get(verb)
        if act is None:
            self._transport.write(tag + b" BAD unknown\r\n")
        else:
            act(self, tag, args)

    def _ok(self, tag: bytes, untagged: bytes = b"") -> None:
        if untagged:
            self._transport.write(untagged)
        self._exists()
        self._transport.write(tag + b" OK done\r\n")

    def capability(self, tag: bytes, args: bytes) -> None:
        self._ok(tag, b"* CAPABILITY " + CAPABILITIES + b"\r\n")

    def login(self, tag: bytes, args: bytes) -> None:
        self._log_in(tag, args.split(b" ")[0].strip(b'"').decode())

    def authenticate(self, tag: bytes, args: bytes) -> None:
        self._log_in(tag, base64.b64decode(args.split(b" ")[1]).split(b"\0")[1].decode())

    def _log_in(self, tag: bytes, name: str) -> None:
        box, watch = self._post.box(name), self._watch
        if box.sessions:
            older = owner(cast(ImapPeer, box.sessions[-1]).port)
            watch.met.append((name, older, owner(self.port), frozen(older)))
        self.box, self._letters = box, box.letters
        self.since = time.time()
        box.sessions.append(self)
        box.most = max(box.most, len(box.sessions))
        watch.logins += 1
        watch.open += 1
        self._ok(tag)

    def list(self, tag: bytes, args: bytes) -> None:
        self._ok(tag, b'* LIST () "/" "INBOX"\r\n* LIST (\\Junk) "/" "Junk"\r\n')

    def examine(self, tag: bytes, args: bytes) -> None:
        self._inbox = args.upper().startswith(b'"INBOX"')
        self._told = len(self._letters) if self._inbox else 0
        state = b"* %d EXISTS\r\n* OK [UIDVALIDITY %d] ok\r\n* OK [UIDNEXT %d] next\r\n"
        self._ok(tag, state % (self._told, VALIDITY, self._told + 1))

    def status(self, tag: bytes, args: bytes) -> None:
        found = _NAMED.match(args)
        name = found.group(1) if found else b""
        count = len(self._letters) if name.upper() == b"INBOX" else 0
        told = b'* STATUS "%s" (UIDNEXT %d UIDVALIDITY %d)\r\n'
        self._ok(tag, told % (name, count + 1, VALIDITY))

    def _chosen(self, text: bytes) -> list[Letter]:
        """UIDs are counted from 1 without a gap, so that a set is a few slices."""
        last = len(self._letters) if self._inbox else 0
        found: list[Letter] = []
        for part in text.split(b","):
            low, _, high = part.partition(b":")
            ends = [last if end == b"*" else int(end) for end in (low, high or low)]
            found += self._letters[max(0, min(ends) - 1) : min(last, max(ends))]
        return found

    def search(self, tag: bytes, args: bytes) -> None:
        words = args.split(b" ")
        found = self._letters if self._inbox else []
        if words[0] == b"UID":
            found = self._chosen(words[1])
        if words[0] == b"SINCE":
            since = time.mktime(time.strptime(words[1].decode(), "%d-%b-%Y")) - time.timezone
            found = [one for one in found if one.at >= since]
        self._ok(tag, b"* SEARCH" + b"".join(b" %d" % one.uid for one in found) + b"\r\n")

    def fetch(self, tag: bytes, args: bytes) -> None:
        chosen, _, items = args.partition(b" ")
        item = items[items.index(b"BODY.PEEK[") + 10 : items.index(b"]")]
        cap = _CAP.search(items)
        most = int(cap.group(1)) if cap else 2**20
        for one in self._chosen(chosen):
            date = time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(one.at)).encode()
            data = one.header[:most]
            head = b'* %d FETCH (UID %d INTERNALDATE "%s" RFC822.SIZE %d BODY[%s]<0> {%d}\r\n'
            self._transport.write(
                head % (one.uid, one.uid, date, one.size, item, len(data)) + data + b")\r\n"
            )
        self._ok(tag)

    def noop(self, tag: bytes, args: bytes) -> None:
        self._ok(tag)

    def idle(self, tag: bytes, args: bytes) -> None:
        self._idle = tag
        self._transport.write(b"+ idling\r\n")
        self._exists()

    def logout(self, tag: bytes, args: bytes) -> None:
        self._leave()
        self._transport.write(b"* BYE bye\r\n" + tag + b" OK bye\r\n")
        self._transport.close()


ACTS: dict[bytes, Callable[[ImapPeer, bytes, bytes], None]] = {
    b"CAPABILITY": ImapPeer.capability,
    b"LOGIN": ImapPeer.login,
    b"AUTHENTICATE": ImapPeer.authenticate,
    b"LIST": ImapPeer.list,
    b"EXAMINE": ImapPeer.examine,
    b"SELECT": ImapPeer.examine,
    b"STATUS": ImapPeer.status,
    b"UID SEARCH": ImapPeer.search,
    b"UID FETCH": ImapPeer.fetch,
    b"NOOP": ImapPeer.noop,
    b"IDLE": ImapPeer.idle,
    b"LOGOUT": ImapPeer.logout,
}
