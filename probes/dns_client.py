"""The resolver that asks: dnspython underneath, tri-state answers, failover, TCP, a cache.

A question goes to one nameserver and, when that one is silent, to the next while the first may still answer;
what arrives first and speaks of the name wins. SERVFAIL, REFUSED and silence are kept apart from NXDOMAIN
and NODATA: the first three never say anything about a name.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_address

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.resolver

from probes.clock import Clock, SystemClock
from probes.dns import DnsAnswer, DnsStatus
from probes.errors import ConfigError

DEFAULT_PORT = 53
MAX_TTL = 3600.0  # seconds; a longer one would hide a change from the people who wait for it
MAX_NEGATIVE_TTL = 300.0
PAYLOAD = 1232  # bytes, EDNS: what passes everywhere without fragments (DNS flag day 2020)
SHORT = frozenset({"A", "AAAA", "PTR", "CNAME"})  # answers fit without EDNS

_RCODES = {
    dns.rcode.SERVFAIL: DnsStatus.SERVFAIL,
    dns.rcode.REFUSED: DnsStatus.REFUSED,
    dns.rcode.NXDOMAIN: DnsStatus.NXDOMAIN,
    dns.rcode.NOERROR: DnsStatus.OK,
}


@dataclass(frozen=True, slots=True)
class Nameserver:
    """An address and a port to send questions to."""

    host: str
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_nameserver(text: str) -> Nameserver:
    """Reads "192.0.2.1", "192.0.2.1:5353", "2001:db8::1" or "[2001:db8::1]:5353". Raises ConfigError."""
    host, port = text.strip(), str(DEFAULT_PORT)
    if host.startswith("["):
        host, bracket, rest = host[1:].partition("]")
        port = (rest.removeprefix(":") or port) if bracket else ""
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    try:
        address, number = ip_address(host), int(port)
    except ValueError:
        raise ConfigError(f"{text!r} is no nameserver: write IP or IP:PORT") from None
    if not 0 < number < 65536:
        raise ConfigError(f"{text!r} is no nameserver: the port must be 1 to 65535")
    return Nameserver(str(address), number)


def system_nameservers() -> list[Nameserver]:
    """What the machine itself uses (/etc/resolv.conf). Raises ConfigError when it names none."""
    with suppress(dns.resolver.NoResolverConfiguration, OSError):
        found = dns.resolver.Resolver(configure=True)
        servers = [Nameserver(str(n), found.port) for n in found.nameservers if isinstance(n, str)]
        if servers:
            return servers
    raise ConfigError("this machine names no DNS nameserver: set resolver.nameservers or --resolver IP:PORT")


def presentation(rdata: dns.rdata.Rdata) -> str:
    """One record as DnsAnswer has it: TXT strings joined, as latin-1; all else as in a zone file."""
    strings = getattr(rdata, "strings", None)
    if strings is not None:
        return b"".join(strings).decode("latin-1")
    return rdata.to_text()


@dataclass(frozen=True, slots=True)
class _Cached:
    answer: DnsAnswer
    until: float  # monotonic seconds


class DnsResolver:
    """Asks real nameservers. Implements `probes.dns.Resolver`.

    nameservers: "ip" or "ip:port" each, the machine's own when None. timeout: seconds for a whole question,
    over all tries and servers. retry: seconds of silence after which the next try starts, by default
    a share of the timeout and at most 1. cache: entries, 0 for none.
    """

    def __init__(
        self,
        nameservers: Sequence[str] | None = None,
        *,
        timeout: float = 5.0,
        retry: float | None = None,
        tries: int = 3,
        cache: int = 10_000,
        max_ttl: float = MAX_TTL,
        max_negative_ttl: float = MAX_NEGATIVE_TTL,
        in_flight: int = 400,
        clock: Clock | None = None,
    ) -> None:
        if nameservers is not None and not nameservers:
            raise ConfigError("an empty list of nameservers")
        self._servers = [parse_nameserver(n) for n in nameservers] if nameservers else system_nameservers()
        self._timeout = timeout
        self._tries = max(tries, len(self._servers))
        self._retry = min(1.0, timeout / (self._tries + 1)) if retry is None else retry
        self._capacity = cache
        self._max_ttl = max_ttl
        self._max_negative_ttl = max_negative_ttl
        self._clock: Clock = clock or SystemClock()
        self._cache: OrderedDict[tuple[str, str], _Cached] = OrderedDict()
        self._asking: dict[tuple[str, str, float], asyncio.Task[DnsAnswer]] = {}
        self._gate = asyncio.Semaphore(in_flight)

    @property
    def nameservers(self) -> tuple[str, ...]:
        """The servers asked, in order, as "ip:port"."""
        return tuple(str(s) for s in self._servers)

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        """Asks one question, or answers it from the cache; identical questions under way are asked once."""
        key = (name.lower().rstrip("."), rdtype.upper())
        cached = self._look_up(key)
        if cached is not None:
            return replace(cached, name=name)
        limit = self._timeout if timeout is None else timeout
        task = self._asking.get((*key, limit))
        if task is None:
            task = asyncio.create_task(self._ask(name, key, limit))
            self._asking[(*key, limit)] = task
            task.add_done_callback(lambda _: self._asking.pop((*key, limit), None))
        return await asyncio.shield(task)  # one waiter's cancellation must not cost the others their answer

    def forget(self) -> None:
        """Empties the cache."""
        self._cache.clear()

    def _look_up(self, key: tuple[str, str]) -> DnsAnswer | None:
        found = self._cache.get(key)
        if found is None:
            return None
        left = found.until - self._clock.monotonic()
        if left <= 0:
            del self._cache[key]
            return None
        self._cache.move_to_end(key)
        return replace(found.answer, ttl=left, seconds=0.0)

    def _keep(self, key: tuple[str, str], answer: DnsAnswer) -> None:
        cap = self._max_ttl if answer.status is DnsStatus.OK else self._max_negative_ttl
        life = min(answer.ttl, cap)
        if not answer.status.conclusive or life <= 0 or self._capacity <= 0:
            return
        self._cache[key] = _Cached(answer, self._clock.monotonic() + life)
        while len(self._cache) > self._capacity:
            self._cache.popitem(last=False)

    async def _ask(self, name: str, key: tuple[str, str], limit: float) -> DnsAnswer:
        started = self._clock.monotonic()
        try:
            _question(name, key[1])
        except (dns.exception.DNSException, UnicodeError, ValueError) as error:
            return DnsAnswer(name, key[1], DnsStatus.ERROR, detail=f"no question can be made of it: {error}")
        async with self._gate:
            answer = await self._rounds(name, key[1], limit)
        answer = replace(answer, seconds=max(0.0, self._clock.monotonic() - started))
        self._keep(key, answer)
        return answer

    async def _rounds(self, name: str, rdtype: str, limit: float) -> DnsAnswer:
        """A new try after each silence or failure; the first conclusive answer, else the last failure."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit
        failed = DnsAnswer(name, rdtype, DnsStatus.TIMEOUT, detail=f"no answer within {limit:g} s")
        running: set[asyncio.Task[DnsAnswer]] = set()
        started = 0
        try:
            while (left := deadline - loop.time()) > 0:
                if started < self._tries:
                    server = self._servers[started % len(self._servers)]
                    edns = rdtype not in SHORT and started % 2 == 0  # old servers are silent to it
                    running.add(asyncio.create_task(_exchange(server, name, rdtype, left, edns)))
                    started += 1
                elif not running:
                    break
                wait = min(self._retry, left) if started < self._tries else left
                done, running = await asyncio.wait(running, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    answer = task.result()
                    if answer.status.conclusive:
                        return answer
                    if answer.status is not DnsStatus.TIMEOUT:
                        failed = answer
            return failed
        finally:
            await _stop(running)


async def _stop(tasks: set[asyncio.Task[DnsAnswer]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.gather(*tasks, return_exceptions=True)


def _question(name: str, rdtype: str, edns: bool = False) -> dns.message.Message:
    target = dns.name.from_text(name) if not name.isascii() else dns.name.from_text(name, idna_codec=None)
    flags = dns.flags.RD | dns.flags.AD  # AD asks to be told of validation (RFC 6840 section 5.7)
    return dns.message.make_query(
        target, rdtype, flags=int(flags), use_edns=0 if edns else False, payload=PAYLOAD if edns else None
    )


async def _exchange(server: Nameserver, name: str, rdtype: str, limit: float, edns: bool) -> DnsAnswer:
    """One try with one server, on a socket and with an id of its own. Never raises but for cancellation."""
    question = _question(name, rdtype, edns)
    try:
        async with asyncio.timeout(limit):
            response = await _udp_then_tcp(server, question, limit)
            if response.rcode() == dns.rcode.FORMERR:  # a server without EDNS
                question.use_edns(False)
                response = await _udp_then_tcp(server, question, limit)
        return read_response(response, name, rdtype, str(server))
    except (TimeoutError, dns.exception.Timeout):
        return DnsAnswer(name, rdtype, DnsStatus.TIMEOUT, nameserver=str(server), detail="no answer in time")
    except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
        detail = f"{type(error).__name__}: {error}"
        return DnsAnswer(name, rdtype, DnsStatus.ERROR, nameserver=str(server), detail=detail)


async def _udp_then_tcp(
    server: Nameserver, question: dns.message.Message, limit: float
) -> dns.message.Message:
    response, _ = await dns.asyncquery.udp_with_fallback(
        question,
        server.host,
        timeout=limit,
        port=server.port,
        ignore_unexpected=True,  # from elsewhere, or not our id and question: keep waiting for the real one
        ignore_errors=True,
    )
    return response


def read_response(response: dns.message.Message, name: str, rdtype: str, server: str) -> DnsAnswer:
    """What a response says of the name it was asked for."""
    rcode = response.rcode()
    status = _RCODES.get(rcode, DnsStatus.ERROR)
    if status not in (DnsStatus.OK, DnsStatus.NXDOMAIN):
        text = f"the server answered {dns.rcode.to_text(rcode)}"
        return DnsAnswer(name, rdtype, status, nameserver=server, detail=text)
    if not isinstance(response, dns.message.QueryMessage):
        return DnsAnswer(name, rdtype, DnsStatus.ERROR, nameserver=server, detail="not a query's answer")
    try:
        chain = response.resolve_chaining()
    except dns.exception.DNSException as error:
        detail = f"{type(error).__name__}: {error}"
        return DnsAnswer(name, rdtype, DnsStatus.ERROR, nameserver=server, detail=detail)
    records = tuple(presentation(rdata) for rdata in chain.answer) if chain.answer is not None else ()
    if response.answer and not records and not chain.cnames:
        detail = "the answer is of another name or type"
        return DnsAnswer(name, rdtype, DnsStatus.ERROR, nameserver=server, detail=detail)
    if status is DnsStatus.OK and not records:
        if _is_referral(response):
            return DnsAnswer(name, rdtype, DnsStatus.ERROR, nameserver=server, detail="only a referral")
        status = DnsStatus.NODATA
    return DnsAnswer(
        name,
        rdtype,
        status,
        records,
        float(chain.minimum_ttl),
        authenticated=bool(response.flags & dns.flags.AD),
        nameserver=server,
        alias=chain.canonical_name.to_text(omit_final_dot=True) if chain.cnames else "",
    )


def _is_referral(response: dns.message.Message) -> bool:
    """Names of other servers instead of an answer: it does not recurse, and said nothing of the name."""
    kinds = {rrset.rdtype for rrset in response.authority}
    return dns.rdatatype.NS in kinds and dns.rdatatype.SOA not in kinds
