"""A resolver with a fault: what a sweep meets when the resolver, not the zone, is wrong (GUARANTEES G7)."""

import asyncio
from typing import Literal, Self, get_args

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ResolverFault = Literal[
    "timeout", "servfail", "refused", "nxdomain", "hijack", "wrong-id", "truncate", "empty"
]
FAULTS: tuple[ResolverFault, ...] = get_args(ResolverFault)
HIJACK = "198.51.100.53"


class FaultyResolver:
    """Passes UDP questions on to a resolver, or breaks them; TCP is never answered.

    `fault` is None (all well) or one of FAULTS: silence, SERVFAIL, REFUSED or NXDOMAIN to everything,
    every name
    answered with an address of the operator's own, answers with another id, answers cut short, empty answers.
    """

    def __init__(self, upstream_ip: str, upstream_port: int = 53, *, listen: str = "127.0.0.1") -> None:
        self._upstream = (upstream_ip, upstream_port)
        self.host = listen
        self.port = 0
        self.fault: ResolverFault | None = None
        self.delay = 0.0
        self.questions = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        made = await loop.create_datagram_endpoint(lambda: _Front(self), local_addr=(self.host, 0))
        self._transport = made[0]
        self.port = made[0].get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        self._transport.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, data: bytes, client: tuple[str, int]) -> None:
        """One question."""
        self.questions += 1
        task = asyncio.ensure_future(self._answer(data, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, client: tuple[str, int]) -> None:
        await asyncio.sleep(self.delay)
        if self.fault == "timeout" or self._transport is None:
            return
        answer = await self._ask(data) if self.fault is None else broken(data, self.fault)
        if answer and not self._transport.is_closing():
            self._transport.sendto(answer, client)

    async def _ask(self, data: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        heard: asyncio.Future[bytes] = loop.create_future()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Back(heard), remote_addr=self._upstream)
        try:
            transport.sendto(data)
            return await asyncio.wait_for(heard, 5)
        except (TimeoutError, OSError):
            return b""
        finally:
            transport.close()


class _Front(asyncio.DatagramProtocol):
    def __init__(self, resolver: FaultyResolver) -> None:
        self._resolver = resolver

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._resolver.take(data, addr)


class _Back(asyncio.DatagramProtocol):
    def __init__(self, heard: asyncio.Future[bytes]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._heard.done():
            self._heard.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._heard.done():
            self._heard.set_exception(exc)


def broken(data: bytes, fault: ResolverFault) -> bytes:
    """The answer that a broken resolver gives to a question."""
    question = dns.message.from_wire(data)
    answer = dns.message.make_response(question, recursion_available=True)
    match fault:
        case "servfail" | "refused" | "nxdomain":
            answer.set_rcode(dns.rcode.from_text(fault))
        case "hijack":
            name = question.question[0].name
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "A", HIJACK))
        case "wrong-id":
            answer.id = (question.id + 1) & 0xFFFF
            answer.set_rcode(dns.rcode.NXDOMAIN)
        case "truncate":
            answer.flags |= dns.flags.TC
        case _:
            pass
    return answer.to_wire()
