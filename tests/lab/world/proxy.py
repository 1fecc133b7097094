"""A TCP proxy that breaks connections on demand: the network's own faults, and the lost final 250."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Self

READ = 65536
FINAL_DOT = b"\r\n.\r\n"


class FaultProxy:
    """Listens on loopback and passes on to `target`; its fault switches act on open and on new connections
    alike.

    Use within a running event loop: `async with FaultProxy(ip, 25) as proxy: connect to proxy.host,
    proxy.port`.

    - `latency`: seconds that each piece waits, in both directions;
    - `freeze_to_client`, `freeze_to_server`: that direction stands still while the connection stays open;
    - `eat_final_reply`: after the final dot of a DATA the server's replies are swallowed and the
    connection ends: the
      message was taken and the client cannot know (plaintext SMTP only); `eaten` counts them;
    - `refuse`: new connections are reset at once.
    """

    def __init__(self, host: str, port: int, *, listen: str = "127.0.0.1", listen_port: int = 0) -> None:
        self._target = (host, port)
        self._listen = (listen, listen_port)
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._thawed = {"client": asyncio.Event(), "server": asyncio.Event()}
        for event in self._thawed.values():
            event.set()
        self.latency = 0.0
        self.eat_final_reply = False
        self.eaten = 0
        self.refuse = False
        self.connections = 0
        self.arrivals: list[float] = []
        """When each connection came, by the loop's clock."""
        self.host = listen
        self.port = listen_port
        self.source: str | None = None
        """Source address of the connection to the target; the client's own is not kept."""
        self.cut_after: int | None = None
        """Reset a connection after so many bytes from the server."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, *self._listen)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        await asyncio.wait_for(self._server.wait_closed(), 5)

    def freeze_to_client(self, frozen: bool = True) -> None:
        """Stops (or lets go) what the server says."""
        self._switch("client", frozen)

    def freeze_to_server(self, frozen: bool = True) -> None:
        """Stops (or lets go) what the client says."""
        self._switch("server", frozen)

    def _switch(self, direction: str, frozen: bool) -> None:
        event = self._thawed[direction]
        if frozen:
            event.clear()
        else:
            event.set()

    def reset(self) -> None:
        """Ends every open connection with RST."""
        for link in list(self._links):
            link.abort()

    def finish(self) -> None:
        """Ends every open connection with FIN."""
        for link in list(self._links):
            link.close()

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._links)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.arrivals.append(asyncio.get_running_loop().time())
        if self.refuse:
            _abort(writer)
            return
        source = (self.source, 0) if self.source else None
        try:
            there = await asyncio.wait_for(asyncio.open_connection(*self._target, local_addr=source), 10)
        except OSError:
            _abort(writer)
            return
        link = _Link(self, (reader, writer), there)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def wait_thawed(self, direction: str) -> None:
        """Returns when a direction may move."""
        await self._thawed[direction].wait()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One proxied connection."""

    def __init__(self, proxy: FaultProxy, client: Stream, server: Stream) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._tail = b""
        self._swallow = False
        self._in_data = False
        self._said = 0

    async def run(self) -> None:
        """Passes bytes on until one side ends."""
        jobs = [
            asyncio.ensure_future(self._pass("server", self._client[0], self._server[1], self._from_client)),
            asyncio.ensure_future(self._pass("client", self._server[0], self._client[1], self._from_server)),
        ]
        try:
            await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            self.close()

    async def _pass(
        self,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[bytes], bytes | None],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(READ):
                if self._proxy.latency:
                    await asyncio.sleep(self._proxy.latency)
                await self._proxy.wait_thawed(direction)
                if (kept := look(data)) is None:
                    return
                writer.write(kept)
                await writer.drain()

    def _from_client(self, data: bytes) -> bytes:
        """Watches for the final dot, which only counts once the server has answered DATA with 354."""
        if self._in_data:
            seen = self._tail + data
            self._swallow = self._swallow or (FINAL_DOT in seen and self._proxy.eat_final_reply)
            self._tail = seen[-len(FINAL_DOT) + 1 :]
        return data

    def _from_server(self, data: bytes) -> bytes | None:
        """None: the connection ends here and the client never hears this."""
        self._said += len(data)
        if self._swallow:
            self._proxy.eaten += 1
            return None
        if self._proxy.cut_after is not None and self._said > self._proxy.cut_after:
            self.abort()
            return None
        self._in_data = data.startswith(b"354")
        self._tail = b"\r\n" if self._in_data else b""
        return data

    def close(self) -> None:
        """FIN to both sides."""
        for _, writer in (self._client, self._server):
            writer.close()

    def abort(self) -> None:
        """RST to both sides."""
        for _, writer in (self._client, self._server):
            _abort(writer)


def _abort(writer: asyncio.StreamWriter) -> None:
    """RST: a close with zero linger."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
