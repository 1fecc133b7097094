"""What the config wants looked up in blocklists: subjects, whose they are, and the zones with their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from probes.errors import ConfigError

if TYPE_CHECKING:
    from agent.config.mail import Sender
    from agent.config.models import Config
    from probes.blocklists.catalogue import Catalogue, Zone


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


def keyed(zones: Iterable[Zone], keys: dict[str, str]) -> list[Zone]:
    """The zones with their keys; a key is an order to use its zone."""
    return [zone.keyed(keys[zone.name]) if zone.name in keys else zone for zone in zones]


def zones_of(config: Config) -> list[Zone]:
    """The zones a sweep asks: those named, else those the catalogue has switched on and those with a key."""
    section = config.blocklists
    if section is None:
        return []
    catalogue = catalogue_of(config)
    keys = {str(zone): secret.reveal() for zone, secret in section.keys.items()}
    if section.zones:
        return keyed([catalogue.find(str(name)) for name in section.zones], keys)
    skipped = set(map(str, section.skip_zones))
    zones = [zone for zone in catalogue.enabled() if zone.name not in skipped]
    zones += [zone for name in keys if (zone := catalogue.find(name)) not in zones]
    return keyed(zones, keys)


def sender_subjects(config: Config) -> dict[str, tuple[str, ...]]:
    """What belongs to senders: subject to the names of the senders that use it."""
    owners: dict[str, list[str]] = {}
    for name, sender in config.senders.items():
        for subject in dict.fromkeys(_of(sender)):
            owners.setdefault(subject, []).append(name)
    return {subject: tuple(names) for subject, names in owners.items()}


def _of(sender: Sender) -> Iterator[str]:
    yield sender.domain
    yield sender.envelope_from.rpartition("@")[2].lower()
    if sender.dkim:
        yield sender.dkim.domain
    if sender.direct:
        if sender.direct.source_ip:
            yield sender.direct.source_ip
        if not sender.direct.helo.startswith("["):
            yield sender.direct.helo.lower()


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
