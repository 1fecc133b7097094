"""The load world's SMTP peer: one protocol object a connection, no task, no stream."""

from __future__ import annotations

import asyncio
import re
from typing import cast

from tests.fleet.post import Post

TOKEN = re.compile(rb"^X-Mailcanary-Token: *([A-Za-z0-9-]+)", re.MULTILINE | re.IGNORECASE)
EHLO = b"250-load.example.net\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
OK = b"250 2.1.0 ok\r\n"
REPLIES = {250: b"250 2.0.0 Ok: queued\r\n", 451: b"451 4.7.1 greylisted, come back\r\n"}


class SmtpPeer(asyncio.Protocol):
    """Speaks as much of RFC 5321 as a submission needs."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._buffer = bytearray()
        self._data = False
        self._asked = False
        self._to = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 load.example.net ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()

    def _go_on(self) -> None:
        while not self._asked and (self._letter() if self._data else self._line()):
            pass

    def _line(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        verb = line[:4].upper()
        if verb == b"DATA":
            self._data = True
            self._transport.write(b"354 go ahead\r\n")
        elif verb == b"QUIT":
            self._transport.write(b"221 2.0.0 bye\r\n")
            self._transport.close()
            return False
        else:
            if verb == b"RCPT":
                self._to = line.partition(b"<")[2].partition(b">")[0].decode()
            self._transport.write(EHLO if verb == b"EHLO" else OK)
        return True

    def _letter(self) -> bool:
        end = self._buffer.find(b"\r\n.\r\n")
        if end < 0:
            return False
        letter = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        self._data = False
        header = letter.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        found = TOKEN.search(header)
        token = found.group(1).decode() if found else ""
        code = self._post.take(token, self._to, header, len(letter))
        self._asked = True
        if self._post.delay:
            asyncio.get_running_loop().call_later(self._post.delay, self._answer, code)
        else:
            self._answer(code)
        return True

    def _answer(self, code: int) -> None:
        if code:
            self._transport.write(REPLIES[code])
            self._asked = False
            self._go_on()
        else:
            self._transport.abort()
