"""What the watched records of a domain are now: from its own name servers where they can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from probes.authentication.domains import is_below, registrable
from probes.dns import DnsAnswer, Resolver
from probes.records.drift import Key, Seen, fold
from probes.records.senders import SendingHost
from probes.records.servers import Authorities, Zone

HOSTS_MAXIMUM = 5


def watched(domain: str, selectors: Iterable[str] = ()) -> list[Key]:
    """The records of a domain that mail depends on, without those of its hosts."""
    return [
        (domain, "MX"),
        (domain, "TXT"),
        (f"_dmarc.{domain}", "TXT"),
        *((f"{selector}._domainkey.{domain}", "TXT") for selector in dict.fromkeys(selectors)),
        (f"_mta-sts.{domain}", "TXT"),
        (f"_smtp._tls.{domain}", "TXT"),
        (f"default._bimi.{domain}", "TXT"),
    ]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Takes snapshots. authorities None: only the resolver is asked."""

    resolver: Resolver
    authorities: Authorities | None = None

    async def take(
        self, domain: str, selectors: Iterable[str] = (), senders: Iterable[SendingHost] = ()
    ) -> Mapping[Key, Seen | None]:
        """Every watched record; None where it could not be seen."""
        keys = [*watched(domain, selectors), *await self._of_hosts(domain)]
        keys += [(_reverse(sender.address), "PTR") for sender in senders]
        zone = await self._zone_of(domain)
        if zone is not None:
            keys += [(zone.apex, "NS"), (zone.apex, "DS")]
        return await self._all(keys, zone)

    async def see(self, keys: Iterable[Key]) -> Mapping[Key, Seen | None]:
        """These records as they are now; POLICY is none of DNS and left out."""
        wanted = [key for key in keys if key[1] != "POLICY"]
        zones = {name: await self._zone_of(name) for name, _ in wanted}
        found = await asyncio.gather(*(self._see(key, zones[key[0]]) for key in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _zone_of(self, name: str) -> Zone | None:
        return await self.authorities.zone_of(name) if self.authorities else None

    async def _all(self, keys: Iterable[Key], zone: Zone | None) -> Mapping[Key, Seen | None]:
        wanted = list(dict.fromkeys(keys))
        found = await asyncio.gather(*(self._see(key, zone) for key in wanted))
        return dict(zip(wanted, found, strict=True))

    async def _of_hosts(self, domain: str) -> list[Key]:
        """Addresses and TLSA of the domain's own mail exchangers."""
        answer = await self.resolver.query(domain, "MX")
        owner = (
            registrable(domain) or domain
        )  # what others' hosts are called is their affair, and changes often
        hosts = sorted({record.rpartition(" ")[2].rstrip(".").lower() for record in answer.records})
        names = [host for host in hosts if is_below(host, owner)][:HOSTS_MAXIMUM]
        return [key for host in names for key in ((host, "A"), (host, "AAAA"), (f"_25._tcp.{host}", "TLSA"))]

    async def _see(self, key: Key, zone: Zone | None) -> Seen | None:
        """The servers' own word counts; the resolver's only for what they do not hold themselves."""
        name, rdtype = key
        if self.authorities is None or zone is None or not is_below(name, zone.apex) or rdtype == "DS":
            return fold([await self.resolver.query(name, rdtype)], direct=False)
        answers = await self.authorities.ask(zone, name, rdtype)
        seen = fold(answers, direct=True)
        if seen is None or (not seen.records and not seen.others):
            return await self._elsewhere(key, seen)
        return seen

    async def _elsewhere(self, key: Key, seen: Seen | None) -> Seen | None:
        """Nothing at the zone's servers: an alias or a delegation leads away, or there is nothing."""
        answer = await self.resolver.query(*key)
        if seen is None or (answer.records and await self._leads_away(key)):
            return fold([answer], direct=False)
        return seen

    async def _leads_away(self, key: Key) -> bool:
        alias: DnsAnswer = await self.resolver.query(key[0], "CNAME")
        return bool(alias.records)


def with_policy(
    domain: str, seen: Mapping[Key, Seen | None], report: Mapping[str, object]
) -> Mapping[Key, Seen | None]:
    """The snapshot with the MTA-STS policy as one more record, of the type POLICY."""
    key = (f"mta-sts.{domain}", "POLICY")
    text = report["mta_sts_text"]
    if text is None:
        return {**seen, key: None}
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    return {**seen, key: Seen(tuple(sorted(lines)))}


def _reverse(address: str) -> str:
    return ip_address(address).reverse_pointer
