"""What surrounds a sender's mail now: records, DKIM keys, addresses, listings; asked without a cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from agent.blocklist_plan import sender_subjects, zones_of
from agent.config.mail import Sender
from agent.config.settings import Records
from agent.runner.means import Means
from probes.authentication.keys import KeyState, find_key
from probes.blocklists.catalogue import Zone
from probes.blocklists.check import check
from probes.blocklists.query import parse_subject
from probes.change.around import Around, Trouble
from probes.change.compare import key_names
from probes.change.facts import Facts
from probes.dns import Resolver
from probes.dns_client import DnsResolver
from probes.errors import MailcanaryError
from probes.http import Fetcher
from probes.outcome import Severity
from probes.records.senders import SendingHost
from probes.records.survey import Survey, SurveyMeans, survey

LONGEST = 20.0
"""Seconds that all looks around one sender may take together."""


def points(seen: Iterable[Facts]) -> frozenset[tuple[str, ...]]:
    """What the canaries of a sender tell to look at: addresses with their HELO, and DKIM keys."""
    found: set[tuple[str, ...]] = set()
    for facts in seen:
        found |= {(facts.ip, facts.helo)} if facts.ip else set()
        found |= {(name,) for name in key_names(facts)}
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Part:
    """What one look adds."""

    listings: Mapping[str, Trouble]
    faults: Mapping[str, Trouble]
    keys: Mapping[str, str]
    texts: Mapping[str, str]
    unknown: tuple[str, ...]


def _part(
    *,
    listings: Mapping[str, Trouble] | None = None,
    faults: Mapping[str, Trouble] | None = None,
    keys: Mapping[str, str] | None = None,
    texts: Mapping[str, str] | None = None,
    unknown: Iterable[str] = (),
) -> _Part:
    return _Part(listings or {}, faults or {}, keys or {}, texts or {}, tuple(unknown))


async def look_around(means: Means, seen: Mapping[str, Sequence[Facts]]) -> dict[str, Around]:
    """Looks around each sender; seen: by sender, the canaries that tell its addresses and signatures.

    Never raises: what could not be looked up is told as unknown.
    """
    config = means.config
    servers = list(config.resolver.nameservers) or None
    # A cache could still hold what was true before the change.
    resolver = DnsResolver(servers, timeout=config.resolver.timeout, clock=means.clock, cache=0)
    try:
        zones = await asyncio.to_thread(zones_of, config)
    except MailcanaryError:
        zones = []
    owners = sender_subjects(config)
    names = [name for name in seen if name in config.senders]
    found = await asyncio.gather(
        *(
            _one(
                config.senders[name],
                seen[name],
                resolver,
                zones,
                [subject for subject, mine in owners.items() if name in mine],
                means,
            )
            for name in names
        )
    )
    return dict(zip(names, found, strict=True))


async def _one(
    sender: Sender,
    seen: Sequence[Facts],
    resolver: Resolver,
    zones: Sequence[Zone],
    subjects: Sequence[str],
    means: Means,
) -> Around:
    addresses = _addresses(sender, seen)
    domains = list(dict.fromkeys([sender.domain, sender.envelope_from.rpartition("@")[2].lower()]))
    names = dict.fromkeys(name for facts in seen for name in key_names(facts))
    if sender.dkim:
        names[f"{sender.dkim.selector}._domainkey.{sender.dkim.domain}"] = None
    looks: list[Awaitable[_Part]] = [
        _bounded(f"records of {domain}", _records(domain, list(names), addresses, resolver, means))
        for domain in domains
    ]
    looks += [_bounded(f"key {name}", _key(name, resolver)) for name in list(names)[:8]]
    looks += [_bounded(f"TXT {name}", _text(name, tag, resolver)) for name, tag in _texts(domains)]
    pairs = dict.fromkeys((facts.ip, facts.helo) for facts in seen if facts.ip and facts.helo)
    looks += [_bounded(f"HELO {helo}", _helo(ip, helo, resolver)) for ip, helo in list(pairs)[:8]]
    if zones:
        looks.append(_bounded("blocklists", _listed([*subjects, *addresses], zones, resolver)))
    parts = await asyncio.gather(*looks)
    return Around(
        {name: t for part in parts for name, t in part.listings.items()},
        {name: t for part in parts for name, t in part.faults.items()},
        {name: state for part in parts for name, state in part.keys.items()},
        {name: text for part in parts for name, text in part.texts.items()},
        tuple(dict.fromkeys(line for part in parts for line in part.unknown)),
    )


def _addresses(sender: Sender, seen: Sequence[Facts]) -> list[str]:
    """The addresses that its mail leaves from, as the providers saw them."""
    found = dict.fromkeys(facts.ip for facts in seen if facts.ip)
    if sender.direct and sender.direct.source_ip:
        found[sender.direct.source_ip] = None
    return list(found)[:8]


def _texts(domains: Iterable[str]) -> Iterable[tuple[str, str]]:
    for domain in domains:
        yield domain, "v=spf1"
        yield f"_dmarc.{domain}", "v=dmarc1"


async def _bounded(what: str, work: Awaitable[_Part]) -> _Part:
    try:
        async with asyncio.timeout(LONGEST):
            return await work
    except TimeoutError:
        return _part(unknown=[f"{what}: no answer within {LONGEST:g} s"])
    except MailcanaryError as error:
        return _part(unknown=[f"{what}: {error}"])


def _fetcher(resolver: Resolver, means: Means) -> Fetcher | None:
    """As the config has policies fetched; None where it wants no web server contacted."""
    section = means.config.records or Records()
    if not section.contact:
        return None
    ca_file = str(section.ca_file) if section.ca_file else None
    return Fetcher(resolver, means.clock, section.allow_loopback, means.tls(ca_file))


async def _records(
    domain: str, names: Sequence[str], addresses: Sequence[str], resolver: Resolver, means: Means
) -> _Part:
    tail = f"._domainkey.{domain}"
    selectors = [name.removesuffix(tail) for name in names if name.endswith(tail)]
    what = Survey(domain, selectors, [SendingHost(address) for address in addresses])
    fetcher = await asyncio.to_thread(_fetcher, resolver, means)
    rows: Any = (await survey(what, SurveyMeans(resolver, fetcher, means.clock))).data["findings"]
    faults, unknown = {}, []
    for row in rows:
        if row["outcome"] == "unknown":
            unknown.append(f"{row['name']}: {row['what']}")
        elif (severity := Severity(row["severity"])).rank >= Severity.WARNING.rank:
            name = f"{row['code']} {row['name']}"
            faults[name] = Trouble(severity, str(row["what"]), str(row["fix"]), str(row["kind"]))
    return _part(faults=faults, unknown=unknown)


async def _key(name: str, resolver: Resolver) -> _Part:
    found = await find_key(name, resolver)
    if found.state is KeyState.UNREACHABLE:
        return _part(unknown=[f"{name}: {found.detail}"])
    if found.state is not KeyState.FOUND:
        return _part(keys={name: found.state.value})
    answer = await resolver.query(name, "TXT")
    digest = hashlib.sha256("".join("".join(answer.records).split()).encode()).hexdigest()
    return _part(keys={name: f"found {digest[:8]}"})


async def _text(name: str, tag: str, resolver: Resolver) -> _Part:
    answer = await resolver.query(name, "TXT")
    if not answer.status.conclusive:
        return _part(unknown=[f"TXT {name}: {answer.status.value}"])
    mine = sorted(text for text in answer.records if text.lower().startswith(tag))
    return _part(texts={f"TXT {name}": " | ".join(mine)[:1000]})


async def _helo(ip: str, helo: str, resolver: Resolver) -> _Part:
    """Whether the name that the sending host gives itself has an address (RFC 5321 section 4.1.4)."""
    try:
        ip_address(helo)
    except ValueError:
        pass
    else:
        return _part()
    rdtype = "AAAA" if ":" in ip else "A"
    answer = await resolver.query(helo, rdtype)
    if not answer.status.conclusive:
        return _part(unknown=[f"{helo} {rdtype}: {answer.status.value}"])
    fix = f"say a HELO name of {ip} that leads back to it"
    if not answer.records:
        what = f"{ip} says HELO {helo}, which has no address"
        return _part(faults={f"helo-unresolved {helo}": Trouble(Severity.ERROR, what, fix, "helo")})
    if ip not in answer.records:
        what = f"{ip} says HELO {helo}, which is {', '.join(answer.records[:3])}"
        return _part(faults={f"helo-elsewhere {helo}": Trouble(Severity.WARNING, what, fix, "helo")})
    return _part()


async def _listed(texts: Iterable[str], zones: Sequence[Zone], resolver: Resolver) -> _Part:
    found = await check([parse_subject(text) for text in dict.fromkeys(texts)], zones, resolver)
    listings, unknown = {}, []
    for item in found:
        name = f"{item.subject} in {item.zone}"
        if item.listed:
            what = item.txt or item.meaning
            listings[name] = Trouble(item.severity, what[:300], item.delist_url, "listing")
        elif item.listed is None and item.reason.value != "not-applicable":
            unknown.append(name)
    return _part(listings=listings, unknown=unknown)
