"""Where to connect: MX records in order of preference with all of RFC 5321 section 5, and addresses of
hosts."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from probes.canary.replies import Reply, local_reply
from probes.canary.ways import literal_address
from probes.dns import DnsAnswer, DnsStatus, Resolver

HOSTS_MAXIMUM = 5


@dataclass(frozen=True, slots=True)
class Target:
    """One address to connect to. host: the name a certificate must be for."""

    host: str
    ip: str


class NoMail(Exception):
    """DNS says for certain that the domain takes no mail."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class LookupFailed(Exception):
    """DNS gave no certain answer."""


def _exchanges(answer: DnsAnswer, rng: random.Random) -> list[str]:
    """Host names by preference; equal ones in random order (RFC 5321 section 5.1)."""
    parsed: list[tuple[int, float, str]] = []
    for record in answer.records:
        preference, _, host = record.partition(" ")
        if preference.isdecimal():
            parsed.append((int(preference), rng.random(), host.strip().rstrip(".").lower()))
    return [host for _, _, host in sorted(parsed)]


async def mail_hosts(domain: str, resolver: Resolver, timeout: float, rng: random.Random) -> list[str]:
    """The names of the domain's mail hosts, best first; the domain itself where it has no MX.

    Raises NoMail (no such domain, null MX of RFC 7505) and LookupFailed.
    """
    answer = await resolver.query(domain, "MX", timeout=timeout)
    if answer.status is DnsStatus.NXDOMAIN:
        text = f"the domain {domain} does not exist"
        raise NoMail(local_reply("dns", 550, "5.1.2", "no_such_domain", text))
    if answer.status is DnsStatus.NODATA:
        return [domain]
    if answer.status is not DnsStatus.OK:
        raise LookupFailed(f"MX of {domain}: {answer.status} {answer.detail}".strip())
    hosts = _exchanges(answer, rng)
    named = [host for host in hosts if host]
    if hosts and not named:
        text = f"the domain {domain} has a null MX: it takes no mail"
        raise NoMail(local_reply("dns", 556, "5.1.10", "null_mx", text))
    if not named:
        raise LookupFailed(f"MX of {domain}: no usable record")
    return named[:HOSTS_MAXIMUM]


@lru_cache(maxsize=4)
def _hosts_file(path: str, stamp: int) -> dict[str, tuple[str, ...]]:
    """Names of the system's hosts file; `stamp` is its modification time, so that a change is seen."""
    names: dict[str, tuple[str, ...]] = {}
    for line in Path(path).read_text("utf-8", "replace").splitlines():
        address, *aliases = line.partition("#")[0].split() or [""]
        literal = literal_address(address)
        if literal is None:
            continue
        for alias in aliases:
            names[alias.lower()] = (*names.get(alias.lower(), ()), literal)
    return names


def hosts_file(host: str, path: str = "/etc/hosts") -> tuple[str, ...]:
    """What the system's own hosts file says of a name; containers name their neighbours there."""
    try:
        stamp = Path(path).stat().st_mtime_ns
        found = _hosts_file(path, stamp).get(host.lower().rstrip("."), ())
    except OSError:
        found = ()
    return found or (("127.0.0.1", "::1") if host.lower() == "localhost" else ())


def _of_family(addresses: list[str], source_ip: str) -> list[str]:
    """Only those of the source address's family; IPv4 first otherwise, as the path is a choice, not a
    race."""
    if source_ip:
        return [ip for ip in addresses if (":" in ip) == (":" in source_ip)]
    return sorted(addresses, key=lambda ip: ":" in ip)


async def host_addresses(host: str, resolver: Resolver, timeout: float, *, source_ip: str = "") -> list[str]:
    """The addresses of one host from DNS (A and AAAA at once). Raises LookupFailed; none at all gives an
    empty list."""
    literal = literal_address(host)
    if literal is not None:
        return _of_family([literal], source_ip)
    answers = await asyncio.gather(
        *(resolver.query(host, rdtype, timeout=timeout) for rdtype in ("A", "AAAA"))
    )
    found = [record for answer in answers if answer.status is DnsStatus.OK for record in answer.records]
    usable = _of_family([ip for ip in found if literal_address(ip)], source_ip)
    if not usable:
        for answer in answers:
            if not answer.status.conclusive:
                raise LookupFailed(f"{answer.rdtype} of {host}: {answer.status} {answer.detail}".strip())
    return usable


def known_targets(host: str) -> list[Target]:
    """Where a relay is, where nobody has to be asked: its literal address, or what the hosts file says."""
    literal = literal_address(host)
    addresses = [literal] if literal is not None else _of_family(list(hosts_file(host)), "")
    return [Target(host, ip) for ip in addresses[:HOSTS_MAXIMUM]]


async def relay_targets(host: str, resolver: Resolver, timeout: float) -> list[Target]:
    """Where a relay is by DNS. Raises LookupFailed, also where there is nothing."""
    addresses = await host_addresses(host, resolver, timeout)
    if not addresses:
        raise LookupFailed(f"{host} has no address")
    return [Target(host, ip) for ip in addresses[:HOSTS_MAXIMUM]]


async def direct_targets(
    domain: str, resolver: Resolver, timeout: float, rng: random.Random, *, source_ip: str = ""
) -> list[Target]:
    """Where mail for a domain (or an address literal in brackets) goes, best first. Raises NoMail,
    LookupFailed."""
    literal = literal_address(domain) if domain.startswith("[") else None
    hosts = [literal] if literal else await mail_hosts(domain, resolver, timeout, rng)
    targets: list[Target] = []
    failure = ""
    for host in hosts:
        try:
            addresses = await host_addresses(host, resolver, timeout, source_ip=source_ip)
        except LookupFailed as error:
            failure = str(error)
            continue
        targets += [Target(host, ip) for ip in addresses]
        if len(targets) >= HOSTS_MAXIMUM:
            break
    if not targets:
        raise LookupFailed(failure or f"no mail host of {domain} has a usable address")
    return targets[:HOSTS_MAXIMUM]
