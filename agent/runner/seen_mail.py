"""What canaries that were read back tell of how a sender's mail leaves: the address that connected to the
seed's provider, as the provider wrote it down, and the DKIM selectors in use.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from agent.config.models import Config
from agent.runner.mailboxes import preset_of
from agent.store.tables import canaries, sightings
from probes.authentication.domains import is_below, normal_domain
from probes.authentication.tags import TagError, parse_tags
from probes.headers.report import HeaderReport, read_headers
from probes.http import is_outside
from probes.records.senders import SendingHost

MESSAGES = 8
"""Messages of a sender that are looked at, newest first."""


@dataclass(frozen=True, slots=True)
class SeenMail:
    """hosts: that delivered the sender's mail; selectors: (domain, selector) of the signatures on it."""

    hosts: frozenset[SendingHost] = frozenset()
    selectors: frozenset[tuple[str, str]] = field(default_factory=frozenset)


def seen_mail(conn: Connection, config: Config, senders: Iterable[str]) -> Mapping[str, SeenMail]:
    """What the newest messages of each sender tell."""
    return {name: _of_sender(conn, config, name) for name in senders if name in config.senders}


def _of_sender(conn: Connection, config: Config, name: str) -> SeenMail:
    query = (
        sa.select(sightings.c.seed, sightings.c.header)
        .join(canaries, canaries.c.id == sightings.c.canary)
        .where(canaries.c.sender == name, sightings.c.header.is_not(None))
        .order_by(sightings.c.seen_at.desc())
        .limit(MESSAGES)
    )
    path = normal_domain(config.senders[name].envelope_from.rpartition("@")[2])
    hosts: set[SendingHost] = set()
    selectors: set[tuple[str, str]] = set()
    for seed, header in conn.execute(query):
        if seed not in config.seeds:
            continue
        report = read_headers(header, preset_of(config.seeds[seed]).trust)
        hosts |= set(_hosts(report, path))
        selectors |= set(_selectors(report))
    return SeenMail(frozenset(hosts), frozenset(selectors))


def _hosts(report: HeaderReport, path: str) -> Iterable[SendingHost]:
    border = report.border
    if border is None or border.ip is None:
        return
    address = ip_address(border.ip)
    if is_outside(address) or address.is_loopback:  # a private one is a hop within the provider or ourselves
        yield SendingHost(str(address), (border.helo or "").lower(), path)


def _selectors(report: HeaderReport) -> Iterable[tuple[str, str]]:
    for one in report.fields:
        if one.name != "dkim-signature":
            continue
        try:
            tags = parse_tags(one.raw)
            domain = normal_domain(tags[b"d"].decode("ascii"))
            yield domain, tags[b"s"].decode("ascii").lower()
        except (TagError, KeyError, UnicodeDecodeError):
            continue


def of_domain(found: Mapping[str, SeenMail], domain: str) -> tuple[set[SendingHost], set[str]]:
    """The hosts and selectors that matter for a domain. A signature counts where it is the domain's own."""
    hosts = {host for mail in found.values() for host in mail.hosts if is_below(host.return_path, domain)}
    selectors = {s for mail in found.values() for owner, s in mail.selectors if owner == domain}
    return hosts, selectors
