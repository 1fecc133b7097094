"""What the config wants watched: mail domains, whose they are, their DKIM selectors and sending hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from probes.authentication.domains import is_below, normal_domain
from probes.records.senders import SendingHost

if TYPE_CHECKING:
    from agent.config.mail import Sender
    from agent.config.models import Config


def sender_domains(sender: Sender) -> tuple[str, ...]:
    """The domains that a sender's mail is judged by: From, return path, DKIM."""
    found = [sender.domain, sender.envelope_from.rpartition("@")[2]]
    if sender.dkim:
        found.append(sender.dkim.domain)
    return tuple(dict.fromkeys(map(normal_domain, found)))


def owners(config: Config) -> Mapping[str, tuple[str, ...]]:
    """Domain to the names of the senders that depend on it."""
    found: dict[str, list[str]] = {}
    for name, sender in config.senders.items():
        for domain in sender_domains(sender):
            found.setdefault(domain, []).append(name)
    return {domain: tuple(names) for domain, names in found.items()}


def affected(config: Config, domain: str) -> tuple[str, ...]:
    """The senders whose mail is judged by a domain's records: their own, or those of the domain above."""
    return tuple(
        name
        for name, sender in config.senders.items()
        if any(is_below(own, domain) for own in sender_domains(sender))
    )


def domains_of(config: Config) -> tuple[str, ...]:
    """Every domain to watch, in the order of the file."""
    section = config.records
    if section is None:
        return ()
    found = [normal_domain(domain) for domain in section.domains]
    if section.from_senders:
        found += owners(config)
    return tuple(dict.fromkeys(found))


def selectors_of(config: Config | None, domain: str) -> tuple[str, ...]:
    """The DKIM selectors of a domain that the config names."""
    if config is None:
        return ()
    named = config.records.selectors if config.records else {}
    found = [selector for name, ours in named.items() if normal_domain(name) == domain for selector in ours]
    found += [
        sender.dkim.selector
        for sender in config.senders.values()
        if sender.dkim and normal_domain(sender.dkim.domain) == domain
    ]
    return tuple(dict.fromkeys(found))


def hosts_of(config: Config | None, domain: str) -> tuple[SendingHost, ...]:
    """The hosts that deliver a domain's mail themselves."""
    if config is None:
        return ()
    return tuple(dict.fromkeys(_hosts(config, domain)))


def _hosts(config: Config, domain: str) -> Iterator[SendingHost]:
    for sender in config.senders.values():
        way = sender.direct
        if way is None or not way.source_ip or domain not in sender_domains(sender):
            continue
        path = normal_domain(sender.envelope_from.rpartition("@")[2])
        yield SendingHost(str(way.source_ip), way.helo.lower(), path)
