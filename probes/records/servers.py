"""The authoritative name servers of a zone, each asked by itself: what they agree on and what not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from probes.authentication.domains import parents
from probes.dns import DnsAnswer, DnsStatus, Resolver
from probes.dns_client import DnsResolver, Nameserver
from probes.outcome import Severity
from probes.records.drift import Key, relevant
from probes.records.finding import Finding

SERVERS_MAXIMUM = 8
SECONDS = 4.0
"""For one question to one server."""

_SPLIT_WHY = "which receiver sees which answer is chance: mail passes here and fails there"


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone. servers: (name, address) of its name servers; nameless: those without any address."""

    apex: str
    servers: tuple[tuple[str, str], ...]
    nameless: tuple[str, ...] = ()


def direct_resolver(address: str) -> Resolver:
    """Asks one server, without memory."""
    return DnsResolver([str(Nameserver(address))], timeout=SECONDS, tries=2, cache=0)


@dataclass(frozen=True, slots=True)
class Authorities:
    """Asks name servers themselves. make: a resolver for one server's address."""

    resolver: Resolver
    make: Callable[[str], Resolver] = direct_resolver

    async def zone_of(self, name: str) -> Zone | None:
        """The zone that holds a name; None where its servers could not be found out."""
        for apex in (name, *parents(name)):
            answer = await self.resolver.query(apex, "NS")
            if not answer.status.conclusive:
                return None
            if answer.records:
                return await self._zone(apex, [host.rstrip(".").lower() for host in answer.records])
        return None

    async def _zone(self, apex: str, hosts: Sequence[str]) -> Zone:
        servers: list[tuple[str, str]] = []
        nameless = []
        for host in sorted(set(hosts)):
            answers = [await self.resolver.query(host, rdtype) for rdtype in ("A", "AAAA")]
            addresses = [record for answer in answers for record in answer.records]
            servers += [(host, address) for address in addresses[:1]]
            if not addresses and all(answer.status.conclusive for answer in answers):
                nameless.append(host)
        return Zone(apex, tuple(servers[:SERVERS_MAXIMUM]), tuple(nameless))

    async def ask(self, zone: Zone, name: str, rdtype: str) -> list[DnsAnswer]:
        """What each server says, in the order of `zone.servers`."""
        asking = (self.make(address).query(name, rdtype) for _, address in zone.servers)
        return list(await asyncio.gather(*asking))


async def check_servers(zone: Zone, watched: Iterable[Key], authorities: Authorities) -> list[Finding]:
    """Servers that are silent, know nothing of the zone, or say other things than the rest."""
    findings = [
        Finding(
            "ns-unresolved", Severity.ERROR, host, f"a name server of {zone.apex} has no address",
            "part of all questions goes nowhere", f"{host}. A ..., or take the NS record out",
        )
        for host in zone.nameless
    ]  # fmt: skip
    if not zone.servers:
        return findings
    states = await authorities.ask(zone, zone.apex, "SOA")
    if not any(state.status is DnsStatus.OK for state in states):
        text = f"no name server of {zone.apex} answers us itself: {states[0].status.value}"
        return [*findings, Finding("ns-unknown", Severity.INFO, zone.apex, text, unknown=True)]
    findings += _states(zone, states)
    working = Zone(
        zone.apex,
        tuple(s for s, state in zip(zone.servers, states, strict=True) if state.status is DnsStatus.OK),
    )
    if len(working.servers) > 1:
        for name, rdtype in dict.fromkeys([*watched, (zone.apex, "NS")]):
            answers = await authorities.ask(working, name, rdtype)
            findings += _split(working, name, rdtype, answers)
    return findings


def _states(zone: Zone, states: Sequence[DnsAnswer]) -> list[Finding]:
    findings = []
    for (host, address), state in zip(zone.servers, states, strict=True):
        if state.status is DnsStatus.OK:
            continue
        if state.status is DnsStatus.TIMEOUT:
            text, code = f"{host} [{address}] does not answer, the others do", "ns-silent"
        else:
            text, code = f"{host} [{address}] does not serve {zone.apex}: {state.status.value}", "ns-lame"
        fix = f"let {host} serve the zone, or take it out of the NS records of {zone.apex} and of its parent"
        findings.append(
            Finding(code, Severity.WARNING, host, text, "lookups are slow, or fail by chance", fix)
        )
    serials = {
        state.records[0].split()[2] for state in states if state.records and state.records[0].count(" ") > 2
    }
    if len(serials) > 1:
        text = f"the servers hold different versions of the zone: {', '.join(sorted(serials))}"
        findings.append(Finding("ns-serial", Severity.INFO, zone.apex, text, "a transfer is due or stuck"))
    return findings


def _split(zone: Zone, name: str, rdtype: str, answers: Sequence[DnsAnswer]) -> list[Finding]:
    said: dict[tuple[str, ...], list[str]] = {}
    for (host, _), answer in zip(zone.servers, answers, strict=True):
        if answer.status.conclusive:
            said.setdefault(relevant(name, answer.records, rdtype), []).append(host)
    if len(said) < 2:
        return []
    each = "; ".join(
        f"{', '.join(hosts)}: {' | '.join(records)[:200] or 'nothing'}" for records, hosts in said.items()
    )
    fix = f"reload the zone {zone.apex} on the servers that are behind, and see why its transfer failed"
    return [Finding("ns-split", Severity.ERROR, name, f"{rdtype}: {each}", _SPLIT_WHY, fix)]
