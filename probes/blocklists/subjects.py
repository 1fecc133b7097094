"""What to look up: addresses, networks, domains, host names to resolve, SPF records to expand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network

from probes.blocklists.query import Subject, domain_name, parse_subject
from probes.dns import DnsStatus, Resolver
from probes.errors import ConfigError, DnsUnavailable

MAX_NETWORK = 65_536  # addresses of one network
MAX_SPF_TERMS = 10  # DNS look-ups of one SPF record, RFC 7208 section 4.6.4
MAX_SPF_MX = 10  # hosts of one `mx` term, ibid.


async def expand(texts: Iterable[str], resolver: Resolver) -> list[Subject]:
    """Subjects from what people write, each once and in order.

    "192.0.2.1", "192.0.2.0/28", "2001:db8::1", "example.com" (the domain itself), "host:mail.example.com"
    (its addresses), "spf:example.com" (the addresses its SPF record lets send). Raises ConfigError for text
    that is none of these, DnsUnavailable where a name could not be looked up.
    """
    found: dict[Subject, None] = {}
    for text in texts:
        word, colon, rest = text.strip().partition(":")
        if colon and word == "host":
            addresses = await resolve_host(domain_name(rest), resolver)
            if not addresses:
                raise ConfigError(f"{text!r}: the name has no address")
            subjects = [parse_subject(a) for a in addresses]
        elif colon and word == "spf":
            subjects = await expand_spf(domain_name(rest), resolver)
        elif "/" in text:
            subjects = expand_network(text)
        else:
            subjects = [parse_subject(text)]
        found.update(dict.fromkeys(subjects))
    return list(found)


def expand_network(text: str) -> list[Subject]:
    """Every address of a CIDR range. Raises ConfigError for a range that is too large or none."""
    try:
        network = ip_network(text.strip(), strict=False)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no network: {error}") from None
    if network.num_addresses > MAX_NETWORK:
        raise ConfigError(f"{text!r} holds {network.num_addresses} addresses; {MAX_NETWORK} is the most")
    return [parse_subject(str(address)) for address in network]


async def resolve_host(name: str, resolver: Resolver) -> list[str]:
    """The A and AAAA records of a name. Raises DnsUnavailable where one of the two could not be asked."""
    found: list[str] = []
    for rdtype in ("A", "AAAA"):
        answer = await resolver.query(name, rdtype)
        if not answer.status.conclusive:
            raise DnsUnavailable(f"{name} {rdtype}: {answer.status}")
        found.extend(answer.records)
    return found


@dataclass(slots=True)
class _Expansion:
    resolver: Resolver
    subjects: dict[Subject, None] = field(default_factory=dict)
    looked_up: int = 0

    def count(self, domain: str) -> None:
        self.looked_up += 1
        if self.looked_up > MAX_SPF_TERMS:
            raise ConfigError(f"the SPF record of {domain} needs more than {MAX_SPF_TERMS} look-ups")

    def add(self, text: str) -> None:
        self.subjects.update(dict.fromkeys(expand_network(text) if "/" in text else [parse_subject(text)]))


async def expand_spf(domain: str, resolver: Resolver) -> list[Subject]:
    """The addresses a domain's SPF record names by ip4, ip6, a, mx, include and redirect.

    Terms with macros, `ptr` and `exists` name no fixed address and are passed over; networks larger than
    MAX_NETWORK raise. Raises ConfigError where there is no usable record, DnsUnavailable on DNS failure.
    """
    state = _Expansion(resolver)
    await _expand_record(domain, state)
    return list(state.subjects)


async def _record(domain: str, resolver: Resolver) -> str:
    answer = await resolver.query(domain, "TXT")
    if not answer.status.conclusive:
        raise DnsUnavailable(f"{domain} TXT: {answer.status}")
    spf = [r for r in answer.records if r.lower() == "v=spf1" or r.lower().startswith("v=spf1 ")]
    if answer.status is not DnsStatus.OK or len(spf) != 1:
        raise ConfigError(f"{domain} has {'no' if not spf else 'more than one'} SPF record")
    return spf[0]


async def _expand_record(domain: str, state: _Expansion) -> None:
    redirect = ""
    for term in (await _record(domain, state.resolver)).split()[1:]:
        if term.lower().startswith("redirect="):
            redirect = term.partition("=")[2]
        elif term[0] not in "-~?" and "%" not in term and "=" not in term.partition(":")[0]:
            await _expand_term(term.removeprefix("+"), domain, state)
    if redirect and "%" not in redirect:
        state.count(domain)
        await _expand_record(domain_name(redirect), state)


async def _expand_term(term: str, domain: str, state: _Expansion) -> None:
    name, _, value = term.partition(":")
    bare, slash, length = name.partition("/")
    word = bare.lower()
    if word in ("ip4", "ip6"):
        state.add(value)
    elif word == "include":
        state.count(domain)
        await _expand_record(domain_name(value), state)
    elif word in ("a", "mx"):
        state.count(domain)
        host, slash2, length2 = value.partition("/")
        target = domain_name(host) if host else domain
        await _expand_hosts(word, target, (slash or slash2) + (length or length2), state)


async def _expand_hosts(word: str, target: str, suffix: str, state: _Expansion) -> None:
    """Adds the addresses of a name or of its mail exchangers, each with the term's prefix lengths."""
    hosts = [target]
    if word == "mx":
        answer = await state.resolver.query(target, "MX")
        if not answer.status.conclusive:
            raise DnsUnavailable(f"{target} MX: {answer.status}")
        hosts = [record.split()[-1].rstrip(".") for record in answer.records[:MAX_SPF_MX]]
    four, _, six = suffix.removeprefix("/").partition("//") if "//" in suffix else (suffix[1:], "", "")
    for host in filter(None, hosts):
        for address in await resolve_host(host, state.resolver):
            length = six if ":" in address else four
            state.add(f"{address}/{length}" if length else address)
