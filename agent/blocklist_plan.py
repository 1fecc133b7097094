"""What is looked up in blocklists, by agent and command: subjects, whose they are, zones with keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from probes.errors import ConfigError

if TYPE_CHECKING:
    from agent.config.mail import Sender
    from agent.config.models import Config
    from probes.blocklists.catalogue import Catalogue, Zone

MAX_TEMPLATE = 1_000_000
"""Characters of a template that are searched for links."""

_LINK = re.compile(r"https?://([a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?)(?!\.?[\w{-])", re.IGNORECASE)
_VOCABULARY = frozenset({"www.w3.org", "schema.org", "schemas.microsoft.com"})
"""Hosts that HTML names without linking to them."""


def catalogue_of(config: Config | None) -> Catalogue:
    """The shipped zones, with the user's own on top. Raises ConfigError."""
    from probes.blocklists.catalogue import parse_catalogue, shipped

    own = config.blocklists.catalogue if config and config.blocklists else None
    if own is None:
        return shipped()
    path = Path(own) if Path(own).is_absolute() or config is None else config.base / own
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the zone catalogue cannot be read: {error}") from None
    return shipped().over(parse_catalogue(text, str(own)))


def zones_of(
    config: Config | None,
    *,
    names: Iterable[str] = (),
    keys: Mapping[str, str] | None = None,
    switched_off: bool = False,
) -> list[Zone]:
    """The zones to ask, with their keys: those named, else the config's, else those the catalogue has on.
    None of a config that wants nothing looked up.

    A key is an order to use its zone. names: only these; keys: more of them by zone; switched_off: also what
    nobody has switched on. Raises ConfigError.
    """
    section = config.blocklists if config else None
    if config is not None and section is None:
        return []
    catalogue = catalogue_of(config)
    known = {str(zone): secret.reveal() for zone, secret in section.keys.items()} if section else {}
    known |= keys or {}
    wanted = [*names] or [*map(str, (section.zones if section else None) or ())]
    if wanted:
        zones = [catalogue.find(name) for name in wanted]
    else:
        skipped = set(map(str, section.skip_zones)) if section else set()
        zones = [z for z in (catalogue if switched_off else catalogue.enabled()) if z.name not in skipped]
        if not switched_off:
            zones += [zone for name in known if (zone := catalogue.find(name)) not in zones]
    return [zone.keyed(known[zone.name]) if zone.name in known else zone for zone in zones]


def sender_subjects(config: Config) -> dict[str, tuple[str, ...]]:
    """What belongs to senders, in its canonical spelling: subject to the names of the senders that use it."""
    from probes.blocklists.query import parse_subject

    owners: dict[str, list[str]] = {}
    for name, sender in config.senders.items():
        for subject in dict.fromkeys(parse_subject(text).text for text in _of(sender)):
            owners.setdefault(subject, []).append(name)
    return {subject: tuple(names) for subject, names in owners.items()}


def owners_of(config: Config) -> dict[str, tuple[str, ...]]:
    """The same with the registrable domains over them, which some lists hold in their stead."""
    from probes.blocklists.query import registrable

    owners = sender_subjects(config)
    found = dict(owners)
    for subject, names in owners.items():
        parent = registrable(subject)
        if parent and parent != subject:
            found[parent] = tuple(dict.fromkeys((*found.get(parent, ()), *names)))
    return found


def _of(sender: Sender) -> Iterator[str]:
    yield sender.domain
    yield sender.envelope_from.rpartition("@")[2]
    if sender.dkim:
        yield sender.dkim.domain
    if sender.direct:
        if sender.direct.source_ip:
            yield sender.direct.source_ip
        if not sender.direct.helo.startswith("["):
            yield sender.direct.helo
    yield from link_domains(sender)


def link_domains(sender: Sender) -> list[str]:
    """The hosts that a sender's template and its unsubscribe link point to, where they are written out."""
    from probes.blocklists.query import domain_name

    text = ""
    if sender.template is not None:
        try:
            text = Path(sender.template).read_text(encoding="utf-8", errors="replace")[:MAX_TEMPLATE]
        except OSError:  # who needs the template says so
            text = ""
    hosts = _LINK.findall(re.sub(r"=\r?\n", "", text))  # soft line breaks, RFC 2045 section 6.7
    if sender.list_unsubscribe and sender.list_unsubscribe.url:
        hosts.append(urlsplit(sender.list_unsubscribe.url).hostname or "")
    found = []
    for host in dict.fromkeys(map(str.lower, hosts)):
        try:
            found.append(domain_name(host))
        except ConfigError:  # an address, or no name at all: lists of domains have nothing to say of it
            continue
    return [name for name in dict.fromkeys(found) if "." in name and name not in _VOCABULARY]


def subjects_of(config: Config) -> tuple[str, ...]:
    """Everything the config wants looked up, in the words `expand` reads."""
    section = config.blocklists
    if section is None:
        return ()
    named = section.subjects
    found = [*map(str, named.ips), *map(str, named.domains)]
    found += [f"host:{name}" for name in named.hosts] + [f"spf:{name}" for name in named.spf]
    if named.from_senders:
        found += sender_subjects(config)
    return tuple(dict.fromkeys(found))
