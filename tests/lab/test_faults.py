"""The network's faults: the TCP proxy and the broken resolver do what their switches say."""

import asyncio
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import pytest

from tests.lab.world.dnsproxy import HIJACK, FaultyResolver, ResolverFault
from tests.lab.world.proxy import FaultProxy


class MiniSmtp:
    """Just enough of a server to see what reaches it."""

    def __init__(self) -> None:
        self.accepted = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says 220, 250, 354 and a final 250."""
        writer.write(b"220 ready\r\n")
        in_data = False
        while line := await reader.readline():
            if in_data:
                if line == b".\r\n":
                    in_data = False
                    self.accepted += 1
                    writer.write(b"250 queued\r\n")
            elif line == b"DATA\r\n":
                in_data = True
                writer.write(b"354 go on\r\n")
            else:
                writer.write(b"250 ok\r\n")
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[MiniSmtp]:
    mini = MiniSmtp()
    async with await asyncio.start_server(mini.serve, "127.0.0.1", 0) as listener:
        mini.port = listener.sockets[0].getsockname()[1]
        yield mini


async def talk(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, said: bytes, timeout: float = 2
) -> bytes:
    """One command, one reply line."""
    writer.write(said)
    return await asyncio.wait_for(reader.readline(), timeout)


async def test_the_proxy_passes_on_and_eats_the_final_reply(server: MiniSmtp) -> None:
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        for eat, expected in ((False, b"250 queued\r\n"), (True, b"")):
            proxy.eat_final_reply = eat
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
            assert await reader.readline() == b"220 ready\r\n"
            assert await talk(reader, writer, b"NOOP .\r\n") == b"250 ok\r\n"
            assert await talk(reader, writer, b"DATA\r\n") == b"354 go on\r\n"
            writer.write(b"Subject: x\r\n\r\nbody\r\n.")
            assert await talk(reader, writer, b"\r\n") == expected
            writer.close()
        assert (proxy.eaten, server.accepted) == (1, 2)


async def test_the_proxy_freezes_one_direction_and_lets_go(server: MiniSmtp) -> None:
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        await reader.readline()
        proxy.freeze_to_client()
        with pytest.raises(TimeoutError):
            await talk(reader, writer, b"NOOP\r\n", 0.2)
        proxy.freeze_to_client(False)
        assert await asyncio.wait_for(reader.readline(), 2) == b"250 ok\r\n"
        writer.close()


async def test_the_proxy_resets_finishes_and_refuses(server: MiniSmtp) -> None:
    async with FaultProxy("127.0.0.1", server.port) as proxy:
        reader, _ = await asyncio.open_connection(proxy.host, proxy.port)
        await reader.readline()
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readline(), 2)
        reader, _ = await asyncio.open_connection(proxy.host, proxy.port)
        await reader.readline()
        proxy.finish()
        assert await asyncio.wait_for(reader.readline(), 2) == b""
        proxy.refuse = True
        reader, _ = await asyncio.open_connection(proxy.host, proxy.port)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readline(), 2)


@pytest.mark.parametrize(
    ("fault", "rcode", "answers"),
    [
        ("servfail", "SERVFAIL", []),
        ("refused", "REFUSED", []),
        ("nxdomain", "NXDOMAIN", []),
        ("hijack", "NOERROR", [HIJACK]),
        ("empty", "NOERROR", []),
    ],
)
async def test_a_broken_resolver_answers_wrongly(
    fault: ResolverFault, rcode: str, answers: list[str]
) -> None:
    async with FaultyResolver("127.0.0.1", 9) as resolver:
        resolver.fault = fault
        query = dns.message.make_query("2.0.0.127.healthy.dnsbl.test", "A")
        answer = await dns.asyncquery.udp(query, resolver.host, port=resolver.port, timeout=2)
        assert dns.rcode.to_text(answer.rcode()) == rcode
        assert [r.to_text() for rrset in answer.answer for r in rrset] == answers


@pytest.mark.parametrize("fault", ["timeout", "wrong-id"])
async def test_a_silent_or_forging_resolver_is_not_heard(fault: ResolverFault) -> None:
    async with FaultyResolver("127.0.0.1", 9) as resolver:
        resolver.fault = fault
        query = dns.message.make_query("sender.test", "A")
        with pytest.raises((dns.exception.Timeout, dns.query.BadResponse)):
            await dns.asyncquery.udp(query, resolver.host, port=resolver.port, timeout=0.3)
