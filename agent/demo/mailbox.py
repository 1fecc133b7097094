"""A provider's IMAP server: pymap, in memory, in this very loop."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from argparse import Namespace
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from proxyprotocol.sock import SocketInfo
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxSet
from pymap.imap import IMAPServer
from pymap.listtree import ListEntry, ListTree
from pymap.parsing.message import AppendMessage
from pymap.user import Passwords, UserMetadata

# What pymap would read from its command line.
_ARGUMENTS = Namespace(passlib_cfg=None, proxy_protocol=None)


class _JunkEntry(ListEntry):
    """A folder that LIST marks as the junk folder (RFC 6154), which pymap itself cannot."""

    @property
    def attributes(self) -> Sequence[bytes]:
        return [*super().attributes, b"Junk"]


class _Tree(ListTree):
    """The folders of a mailbox, one of them marked as junk."""

    def __init__(self, delimiter: str, junk: str) -> None:
        super().__init__(delimiter)
        self.junk = junk

    def list(self) -> Iterable[ListEntry]:
        for entry in super().list():
            yield _JunkEntry(**dataclasses.asdict(entry)) if entry.name == self.junk else entry


class _Folders(MailboxSet):
    """A mailbox whose junk folder has the special-use flag."""

    def __init__(self, junk: str) -> None:
        super().__init__()
        self.junk = junk

    async def list_mailboxes(self) -> ListTree:
        return _Tree(self.delimiter, self.junk).update("INBOX", self.junk)


class ImapServer:
    """One provider's mailboxes, behind implicit TLS. `port` is known once it runs."""

    def __init__(self, ip: str, junk: str, context: ssl.SSLContext) -> None:
        self._ip = ip
        self._junk = junk
        self._context = context
        self._config = Config(
            _ARGUMENTS,
            host=ip,
            port=0,
            demo_data=False,
            demo_user="",
            demo_password="",
            tls_enabled=False,  # its STARTTLS: here TLS begins with the first byte
            ssl_context=context,
        )
        self._login = Login(self._config)
        self._sessions: set[asyncio.Task[None]] = set()
        self.port = 0

    async def add_user(self, name: str, password: str) -> None:
        """An empty mailbox: INBOX and the junk folder."""
        digest = await Passwords(self._config).hash_password(password)
        self._login.users_dict[name] = UserMetadata(self._config, name, password=digest)
        folders = _Folders(self._junk)
        await folders.add_mailbox(self._junk)
        self._config.set_cache[name] = (folders, FilterSet())

    def has(self, name: str) -> bool:
        """Whether there is such a mailbox."""
        return name in self._login.users_dict

    async def deliver(self, name: str, message: bytes, folder: str) -> None:
        """Puts a message into INBOX or the junk folder."""
        mailbox = await self._config.set_cache[name][0].get_mailbox(folder)
        await mailbox.append(AppendMessage(message, datetime.now(UTC)), recent=True)

    async def start(self) -> None:
        """Opens a free port."""
        self._server = await asyncio.start_server(self._serve, self._ip, 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all sessions."""
        self._server.close()
        for task in self._sessions:
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        try:
            await IMAPServer(self._login, self._config)(reader, writer, SocketInfo.get(writer, None))
        except (ConnectionError, EOFError, ssl.SSLError):
            pass  # A client that hung up.
        finally:
            self._sessions.discard(task)
