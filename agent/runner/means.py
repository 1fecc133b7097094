"""The outside world as the config describes it, handed in: clocks, chance, DNS, TLS, HTTP."""

from __future__ import annotations

import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address

from agent.config.models import Config
from agent.tls import client_context
from alerts.http import AiohttpPoster
from probes.canary.state import Moment
from probes.clock import Clock, SystemClock
from probes.dns import Resolver
from probes.dns_client import DnsResolver, parse_nameserver, system_nameservers


@dataclass
class Means:
    """What anything that looks outside may use. `config` and `resolver` are replaced by a reload."""

    config: Config
    clock: Clock
    random: random.Random
    resolver: Resolver
    tls: Callable[[str | None], ssl.SSLContext]
    poster: AiohttpPoster

    def now(self) -> Moment:
        """This instant on both clocks."""
        return Moment.of(self.clock)


def servers_of(config: Config) -> list[str]:
    """The nameservers the config names, or the system's, as "ip:port"."""
    named = config.resolver.nameservers
    return [str(parse_nameserver(server)) for server in named] or list(map(str, system_nameservers()))


def resolver_name(server: str, machine: str) -> str:
    """What agents of a fleet call a resolver: one on their own machine is not another machine's."""
    address = ip_address(parse_nameserver(server).host)
    local = address.is_loopback or address.is_link_local
    return f"{server} of {machine}" if local and machine else server


def resolver_of(config: Config, clock: Clock) -> DnsResolver:
    """The resolver the config names, or the system's."""
    servers = list(config.resolver.nameservers) or None
    return DnsResolver(servers, timeout=config.resolver.timeout, clock=clock)


@asynccontextmanager
async def open_means(config: Config) -> AsyncIterator[Means]:
    """The means of a command that looks once and ends."""
    clock, poster = SystemClock(), AiohttpPoster()
    try:
        resolver = resolver_of(config, clock)
        yield Means(config, clock, random.SystemRandom(), resolver, client_context, poster)
    finally:
        await poster.close()
