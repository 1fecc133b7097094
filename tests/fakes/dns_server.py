"""A scripted DNS server on loopback (UDP and TCP): every fault a resolver or a zone can have, on demand.

    async with DnsServer(zone_data({"2.0.0.127.bl.example A": ["127.0.0.2"]})) as server:
        resolver = DnsResolver([server.address])

A script is called for each question and says what to answer; `faults` wraps one in a resolver's misbehaviour.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset


@dataclass(frozen=True)
class Reply:
    """What to answer. records: presentation form; None for rcode means by the records."""

    records: tuple[str, ...] = ()
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    ttl: int = 60
    drop: bool = False
    truncate: bool = False  # over UDP; TCP answers in full
    delay: float = 0.0
    wrong_id: bool = False
    wrong_question: bool = False
    garbage: bytes | None = None
    referral: bool = False
    cname: str = ""
    authenticated: bool = False
    edit: Callable[[dns.message.Message], None] | None = None  # the last word on the response


NXDOMAIN = Reply(rcode=dns.rcode.NXDOMAIN)
SERVFAIL = Reply(rcode=dns.rcode.SERVFAIL)
REFUSED = Reply(rcode=dns.rcode.REFUSED)
DROP = Reply(drop=True)

Script = Callable[[str, str], Reply]


def zone_data(records: Mapping[str, Iterable[str]]) -> Script:
    """A script over a map of "name TYPE" -> records. A known name lacking the type is NODATA."""
    table = {tuple(key.lower().rsplit(" ", 1)): tuple(values) for key, values in records.items()}
    names = {name for name, _ in table}

    def script(name: str, rdtype: str) -> Reply:
        found = table.get((name, rdtype.lower()))
        if found is not None:
            return Reply(found)
        return Reply() if name in names else NXDOMAIN

    return script


def always(reply: Reply) -> Script:
    """A script that answers everything alike."""
    return lambda name, rdtype: reply


def sometimes(script: Script, reply: Reply, chance: float, rng: random.Random) -> Script:
    """The script, but now and then `reply` instead."""
    return lambda name, rdtype: reply if rng.random() < chance else script(name, rdtype)


@dataclass
class DnsServer:
    """Serves a script on loopback. `asked` collects (name, type) in order; `address` is "ip:port"."""

    script: Script
    host: str = "127.0.0.1"
    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)

    async def __aenter__(self) -> DnsServer:
        loop = asyncio.get_running_loop()
        for _ in range(20):  # the port must be free for both
            self._tcp = await asyncio.start_server(self._serve_tcp, self.host, self.port)
            port = self._tcp.sockets[0].getsockname()[1]
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self), local_addr=(self.host, port)
                )
                break
            except OSError:
                self._tcp.close()
        self.address = f"{self.host}:{port}"
        return self

    async def __aexit__(self, *_: Any) -> None:
        self._udp.close()
        self._tcp.close()
        await self._tcp.wait_closed()

    def answer(self, wire: bytes, tcp: bool) -> tuple[bytes, float] | None:
        """The bytes to send back and the delay before; None for silence."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        rdtype = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, rdtype))
        self.ids.add(query.id)
        reply = self.script(name, rdtype)
        if reply.drop:
            return None
        if reply.garbage is not None:
            return reply.garbage, reply.delay
        response = _respond(query, reply if not tcp else replace(reply, truncate=False))
        if reply.edit is not None:
            reply.edit(response)
        return response.to_wire(), reply.delay

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            size = int.from_bytes(await reader.readexactly(2), "big")
            answer = self.answer(await reader.readexactly(size), tcp=True)
            if answer is not None:
                await asyncio.sleep(answer[1])
                writer.write(len(answer[0]).to_bytes(2, "big") + answer[0])
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _respond(query: dns.message.Message, reply: Reply) -> dns.message.Message:
    response = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    response.set_rcode(reply.rcode)
    owner = question.name
    if reply.authenticated:
        response.flags |= dns.flags.AD
    if reply.wrong_id:
        response.id = (query.id + 1) % 65536
    if reply.wrong_question:
        response.question[0] = dns.rrset.RRset(
            dns.name.from_text("other.example"), question.rdclass, question.rdtype
        )
    if reply.truncate:
        response.flags |= dns.flags.TC
        return response
    if reply.cname:
        target = dns.name.from_text(reply.cname)
        response.answer.append(dns.rrset.from_text(owner, reply.ttl, "IN", "CNAME", target.to_text()))
        owner = target
    if reply.records:
        rdtype = dns.rdatatype.to_text(question.rdtype)
        texts = [_quoted(r) if rdtype == "TXT" else r for r in reply.records]
        response.answer.append(dns.rrset.from_text(owner, reply.ttl, "IN", rdtype, *texts))
    elif reply.referral:
        response.authority.append(dns.rrset.from_text("example.", 60, "IN", "NS", "ns.example."))
    elif reply.rcode in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        soa = f"ns.example. hostmaster.example. 1 60 60 60 {reply.ttl}"
        parent = owner.parent() if len(owner) > 1 else owner
        response.authority.append(dns.rrset.from_text(parent, reply.ttl, "IN", "SOA", soa))
    return response


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return " ".join(f'"{escaped[i : i + 200]}"' for i in range(0, len(escaped), 200)) or '""'


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.ports.add(addr[1])
        answer = self._server.answer(data, tcp=False)
        if answer is None:
            return
        if answer[1]:
            asyncio.get_running_loop().call_later(answer[1], self._transport.sendto, answer[0], addr)
        else:
            self._transport.sendto(answer[0], addr)
