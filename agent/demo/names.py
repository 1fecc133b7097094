"""The DNS of the demo: records that can be changed while it runs, served over UDP and TCP on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

TTL = 2
"""Seconds: short, so that a repair is seen at once."""

SOA = "ns.demo.example. hostmaster.demo.example. 1 60 60 60 1"
_STRING = 250
_PORT_TRIES = 20


class Names:
    """All records of the world, by name and type. A name between two others exists, without records."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], tuple[str, ...]] = {}
        self._names: dict[str, int] = {}

    def publish(self, name: str, rdtype: str, *records: str) -> None:
        """Sets the records of a name and type, in presentation form; TXT as plain text."""
        key = (name.lower(), rdtype)
        if key not in self._records:
            self._count(key[0], 1)
        self._records[key] = records

    def withdraw(self, name: str, rdtype: str) -> None:
        """Takes the records of a name and type out."""
        if self._records.pop((name.lower(), rdtype), None) is not None:
            self._count(name.lower(), -1)

    def host(self, name: str, address: str) -> None:
        """A host name with its address, and the address with its name."""
        self.publish(name, "A", address)
        self.publish(ip_address(address).reverse_pointer, "PTR", f"{name}.")

    def _count(self, name: str, step: int) -> None:
        while name:
            self._names[name] = self._names.get(name, 0) + step
            name = name.partition(".")[2]

    def find(self, name: str, rdtype: str) -> tuple[str, ...] | None:
        """The records; an empty tuple where the name has none of that type, None for no such name."""
        found = self._records.get((name.lower(), rdtype))
        if found is not None:
            return found
        return () if self._names.get(name.lower()) else None


def respond(names: Names, query: dns.message.Message) -> dns.message.Message:
    """The answer of the world's only nameserver."""
    response = dns.message.make_response(query, recursion_available=True)
    if len(query.question) != 1:
        response.set_rcode(dns.rcode.FORMERR)
        return response
    question = query.question[0]
    rdtype = dns.rdatatype.to_text(question.rdtype)
    found = names.find(question.name.to_text(omit_final_dot=True), rdtype)
    if found:
        texts = [_quoted(text) if rdtype == "TXT" else text for text in found]
        response.answer.append(dns.rrset.from_text(question.name, TTL, "IN", rdtype, *texts))
        return response
    if found is None:
        response.set_rcode(dns.rcode.NXDOMAIN)
    response.authority.append(dns.rrset.from_text("example.", TTL, "IN", "SOA", SOA))
    return response


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return " ".join(f'"{escaped[at : at + _STRING]}"' for at in range(0, len(escaped), _STRING)) or '""'


class NameServer:
    """Serves Names on one loopback address. `address` is "ip:port" once it runs."""

    def __init__(self, names: Names, ip: str) -> None:
        self._names = names
        self._ip = ip
        self.address = ""

    async def start(self) -> None:
        """Opens one port for UDP and TCP. Raises OSError where none is free."""
        loop = asyncio.get_running_loop()
        for left in reversed(range(_PORT_TRIES)):
            self._tcp = await asyncio.start_server(self._serve, self._ip, 0)
            port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._answer), local_addr=(self._ip, port)
                )
            except OSError:
                self._tcp.close()
                if not left:
                    raise
                continue
            self.address = f"{self._ip}:{port}"
            return

    async def stop(self) -> None:
        """Closes both."""
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def _answer(self, wire: bytes) -> bytes | None:
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        return respond(self._names, query).to_wire()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5.0):
                size = int.from_bytes(await reader.readexactly(2), "big")
                answer = self._answer(await reader.readexactly(size))
                if answer is not None:
                    writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        found = self._answer(data)
        if found is not None:
            self._transport.sendto(found, addr)
