"""One guarded fetch for everything that leaves over HTTPS: MTA-STS, BIMI, OAuth2.

What is fetched is named by strangers (a DNS record), so a request must not be led to the inside: names are
resolved once through our own resolver, every address is checked, and the connection goes to that address.
No redirects unless asked for, each checked anew; no proxies, no cookies, no compressed bodies; size, type and
total time are capped; the certificate is verified against the name.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from probes.clock import Clock, SystemClock
from probes.dns import Resolver
from probes.errors import HttpUnavailable

Address = IPv4Address | IPv6Address

_EMBEDDING = {  # networks whose addresses carry an IPv4 address: (network, bits below it)
    IPv6Network("64:ff9b::/96"): 0,  # NAT64, RFC 6052
    IPv6Network("2002::/16"): 80,  # 6to4, RFC 3056
    IPv6Network("::/96"): 0,  # IPv4-compatible, RFC 4291
    IPv6Network("::ffff:0:0/96"): 0,  # IPv4-mapped, RFC 4291
    IPv6Network("::ffff:0:0:0/96"): 0,  # IPv4-translated, RFC 2765
}
_NEVER6 = tuple(IPv6Network(n) for n in ("64:ff9b:1::/48", "2001::/32", "fec0::/10", "3fff::/20"))
_NEVER4 = tuple(IPv4Network(n) for n in ("192.0.0.0/24", "192.88.99.0/24"))
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Limits:
    """What a fetch may cost. seconds: for all of it; max_bytes: of the body; content_types: empty for any."""

    seconds: float = 15.0
    max_bytes: int = 64 * 1024
    content_types: tuple[str, ...] = ()
    redirects: int = 0
    ports: frozenset[int] = frozenset({443})


@dataclass(frozen=True, slots=True)
class Fetched:
    """An answer as it came. address: who was connected; content_type: lower case, without parameters."""

    url: str
    status: int
    content_type: str
    body: bytes
    address: str
    seconds: float
    headers: Mapping[str, str] = field(default_factory=dict)


def is_outside(address: Address) -> bool:
    """True for an address of the public internet: not private, local, shared, documented, or in disguise."""
    if isinstance(address, IPv6Address):
        if any(address in network for network in _NEVER6):
            return False
        for network, shift in _EMBEDDING.items():
            if address in network:
                return is_outside(IPv4Address((int(address) >> shift) & 0xFFFFFFFF))
    elif any(address in network for network in _NEVER4):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _permitted(address: Address, allow_loopback: bool) -> bool:
    return is_outside(address) or (allow_loopback and address.is_loopback)


class _Pinned(AbstractResolver):
    """Gives aiohttp the addresses that were checked, and no others."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches over HTTPS for the probes.

    allow_loopback: for tests and for services on this machine that the operator named. context: TLS settings,
    the system's certificate authorities when None; one context serves all, since each costs milliseconds.
    """

    resolver: Resolver
    clock: Clock = field(default_factory=SystemClock)
    allow_loopback: bool = False
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    async def fetch(
        self,
        url: str,
        limits: Limits | None = None,
        *,
        method: str = "GET",
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Fetches one URL. Raises HttpUnavailable with facts `reason` (a closed word) and `url` (no query).

        reason: bad-url, inside, dns, timeout, tls, connection, redirect, too-large, content-type. A status
        other than 200 is no error here: the caller knows what it means.
        """
        allowed = limits or Limits()
        started = self.clock.monotonic()
        try:
            async with asyncio.timeout(allowed.seconds):
                return await self._follow(url, allowed, started, method, data, headers or {})
        except TimeoutError:
            raise _failure("timeout", url, f"no answer within {allowed.seconds:g} s") from None

    async def _follow(
        self,
        url: str,
        limits: Limits,
        started: float,
        method: str,
        data: Mapping[str, str] | None,
        headers: Mapping[str, str],
    ) -> Fetched:
        for _ in range(limits.redirects + 1):
            found = await self._once(url, limits, started, method, data, headers)
            if found.status not in REDIRECTS or not limits.redirects:
                break
            url = _target(url, found.headers.get("location", ""))
            headers = {}  # credentials are for the first host only
            if data is not None:
                raise _failure("redirect", url, "a request with a body is not sent elsewhere")
        else:
            raise _failure("redirect", url, f"more than {limits.redirects} redirects")
        return found

    async def _once(
        self,
        url: str,
        limits: Limits,
        started: float,
        method: str,
        data: Mapping[str, str] | None,
        headers: Mapping[str, str],
    ) -> Fetched:
        host = _host(url, limits, self.allow_loopback)
        addresses = await self._addresses(host, url)
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses), use_dns_cache=False, ssl=self.context, force_close=True, limit=1
        )
        plain = {"Accept-Encoding": "identity", "User-Agent": "mailcanary", **headers}
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    trust_env=False,
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                ) as session,
                session.request(
                    method, url, data=data, headers=plain, allow_redirects=False, max_line_size=8190
                ) as response,
            ):
                return await self._read(response, url, limits, started, str(addresses[0]))
        except (ssl.SSLError, aiohttp.ClientSSLError) as error:
            raise _failure("tls", url, _one_line(error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failure("connection", url, _one_line(error)) from None

    async def _read(
        self, response: aiohttp.ClientResponse, url: str, limits: Limits, started: float, address: str
    ) -> Fetched:
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if response.status == 200 and limits.content_types and kind not in limits.content_types:
            raise _failure("content-type", url, f"{kind or 'none'} instead of {limits.content_types[0]}")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _failure("content-type", url, "a compressed body that nobody asked for")
        body = bytearray()
        async for chunk in response.content.iter_chunked(16 * 1024):
            body += chunk
            if len(body) > limits.max_bytes:
                raise _failure("too-large", url, f"more than {limits.max_bytes} bytes")
        return Fetched(
            url=url,
            status=response.status,
            content_type=kind,
            body=bytes(body),
            address=address,
            seconds=max(0.0, self.clock.monotonic() - started),
            headers={name.lower(): value for name, value in response.headers.items()},
        )

    async def _addresses(self, host: str, url: str) -> list[Address]:
        """The addresses of a host. One on the inside condemns the name: it may be the next one answered."""
        try:
            found: list[Address] = [ip_address(host)]
        except ValueError:
            found = await self._look_up(host, url)
        if not all(_permitted(address, self.allow_loopback) for address in found):
            raise _failure("inside", url, "the address is not one of the public internet")
        return found

    async def _look_up(self, host: str, url: str) -> list[Address]:
        answers = await asyncio.gather(*(self.resolver.query(host, rdtype) for rdtype in ("A", "AAAA")))
        texts = [text for answer in answers for text in answer.records]
        if not texts:
            statuses = ", ".join(f"{a.rdtype} {a.status}" for a in answers)
            raise _failure("dns", url, f"no address: {statuses}")
        try:
            return [ip_address(text) for text in texts]
        except ValueError:
            raise _failure("dns", url, "an address record that is no address") from None


def _target(url: str, location: str) -> str:
    """Where a redirect leads. Raises HttpUnavailable where that is no URL."""
    try:
        return urljoin(url, location)
    except ValueError:
        raise _failure("bad-url", url, "it redirects to what is no URL") from None


def _host(url: str, limits: Limits, allow_loopback: bool) -> str:
    """The host of a URL that may be fetched. Raises HttpUnavailable."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        raise _failure("bad-url", "", "not a URL") from None
    if parts.scheme != "https" or not host or parts.username is not None or parts.password is not None:
        raise _failure("bad-url", url, "an https URL with a plain host name is wanted")
    if port not in limits.ports and not allow_loopback:
        raise _failure("bad-url", url, f"port {port} is not allowed")
    if not host.isascii() or not url.isprintable() or " " in url or "\\" in url or "%" in parts.netloc:
        raise _failure("bad-url", url, "characters that have no place in a URL")
    if _disguised(host):
        raise _failure("inside", url, "an address in disguise")
    return host


def _disguised(host: str) -> bool:
    """True for what some libraries take for an IPv4 address: 2130706433, 0x7f.1, 0177.0.0.1, 127.1."""
    last = host.rstrip(".").rpartition(".")[2]
    if not (last.isdigit() or last.lower().startswith("0x")):
        return False
    try:
        ip_address(host)
    except ValueError:
        return True
    return False


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _failure(reason: str, url: str, detail: str) -> HttpUnavailable:
    """The error, with the URL but neither its query nor what stands before the host."""
    try:
        parts = urlsplit(url)
        shown = f"{parts.scheme}://{parts.hostname}{parts.path}" if parts.hostname else ""
    except ValueError:
        shown = ""
    return HttpUnavailable(f"{shown}: {detail}" if shown else detail, reason=reason, url=shown)
