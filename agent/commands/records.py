"""`mailcanary records`: the DNS records that a domain's mail depends on, and what is wrong with them."""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.config.models import Config
    from agent.store.records import RecordState
    from probes.outcome import Result
    from probes.records.senders import SendingHost
    from probes.records.survey import SurveyMeans

NAME = "records"
HELP = "look at the DNS records that a domain's mail depends on"
DESCRIPTION = """\
Looks at all that a domain's mail depends on: MX and the servers behind it (STARTTLS, certificate, DANE),
SPF with its whole tree, DKIM keys, DMARC, MTA-STS, TLS-RPT, BIMI, the name servers and DNSSEC, and the names
of its sending hosts. Each fault comes with its reason and the record to publish. What could not be looked
up is "unknown", never a fault.

With a config, its senders, selectors and resolver are used; without DOMAIN, every domain it names is looked
at. SENDER is a sender of the config, or an address that mail leaves from.

examples:
  mailcanary records example.com
  mailcanary records example.com --selector s1 --sender 192.0.2.1 --json
  mailcanary records --sender app
  mailcanary --config mail.yaml records example.com --diff

exit codes: 0 no fault, 1 a fault, 2 wrong usage, 3 no fault seen but not all could be seen
"""

AT_ONCE = 4
"""Domains that are looked at together."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    from agent.commands.common import add_json

    parser.add_argument("domains", metavar="DOMAIN", nargs="*", help="domain to look at")
    for option, metavar, text in (
        ("--domain", "DOMAIN", "the same"),
        ("--selector", "NAME", "DKIM selector in use"),
        ("--sender", "SENDER", "its domains and hosts"),
        ("--resolver", "IP:PORT", "nameserver to ask"),
    ):
        help_ = f"{text}; may be repeated"
        parser.add_argument(option, metavar=metavar, help=help_, action="append", default=[])
    parser.add_argument("--dns-only", action="store_true", help="connect to no mail server and no web server")
    parser.add_argument(
        "--diff", action="store_true", help="also show what changed since the running agent last looked"
    )
    parser.add_argument("--ca-file", metavar="FILE", help="PEM file of a private CA, besides the system's")
    parser.add_argument(
        "--allow-loopback", action="store_true", help="fetch policies and logos from this machine too"
    )
    add_json(parser)


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, read and checked."""

    domains: tuple[str, ...]
    hosts: tuple[SendingHost, ...]
    selectors: tuple[str, ...]
    config: Config | None


def run(args: argparse.Namespace) -> int:
    """Prints a report for each domain; returns the exit code."""
    return asyncio.run(_survey_all(args))


def _job(args: argparse.Namespace) -> Job:
    from agent.records_plan import domains_of, sender_domains
    from probes.blocklists.query import domain_name
    from probes.errors import ConfigError

    config = _config(args)
    domains = [domain_name(name) for name in (*args.domains, *args.domain)]
    hosts = []
    for text in args.sender:
        host = _address(text)
        if host is not None:
            hosts.append(host)
        elif config is not None and text in config.senders:
            domains += sender_domains(config.senders[text])
        else:
            raise ConfigError(f"--sender {text}: neither an IP address nor a sender of the config")
    if not domains and config is not None:
        domains += domains_of(config)
    if not domains:
        raise ConfigError("name a domain to look at")
    return Job(tuple(dict.fromkeys(domains)), tuple(hosts), tuple(args.selector), config)


def _config(args: argparse.Namespace) -> Config | None:
    """The config where one is named, or needed and there."""
    from pathlib import Path

    from agent.commands.common import DEFAULT_CONFIG, load_config

    named = any(_address(text) is None for text in args.sender)
    needed = named or args.diff or not (args.domains or args.domain)
    if args.config or (needed and Path(DEFAULT_CONFIG).exists()):
        return load_config(args)
    return None


def _address(text: str) -> SendingHost | None:
    from ipaddress import ip_address

    from probes.records.senders import SendingHost

    try:
        return SendingHost(str(ip_address(text)))
    except ValueError:
        return None


def _means(args: argparse.Namespace, config: Config | None) -> SurveyMeans:
    from agent.records_means import survey_means
    from probes.dns_client import DnsResolver

    servers = args.resolver or (list(config.resolver.nameservers) if config else [])
    resolver = DnsResolver(servers or None, timeout=config.resolver.timeout if config else 5.0)
    return survey_means(
        resolver, ca_file=args.ca_file, allow_loopback=args.allow_loopback, dns_only=args.dns_only
    )


async def _survey_all(args: argparse.Namespace) -> int:
    from agent.records_text import records_json, records_text
    from probes.outcome import combine

    job = _job(args)
    stored = _stored(job) if args.diff else {}
    means = _means(args, job.config)
    gate = asyncio.Semaphore(AT_ONCE)
    looks = [asyncio.create_task(_survey(domain, job, means, gate)) for domain in job.domains]
    outcomes = []
    for index, look in enumerate(looks):
        found = await look
        if args.diff:
            found = await _with_changes(found, stored.get(found.target), means)
        outcomes.append(found.outcome)
        if args.format == "json":
            print(records_json(found), flush=True)
        else:
            print(("\n" if index else "") + "\n".join(records_text(found)), flush=True)
    return combine(outcomes).exit_code


def _stored(job: Job) -> Mapping[str, RecordState | None]:
    """What the store knows of each domain, read before anything is asked. Raises ConfigError, StoreError."""
    from agent.commands.common import open_existing
    from agent.store import records
    from probes.errors import ConfigError

    if job.config is None:
        raise ConfigError("--diff compares with the agent's store: give --config FILE")
    database = open_existing(job.config)
    try:
        return database.read_now(lambda conn: {name: records.get_state(conn, name) for name in job.domains})
    finally:
        database.close()


async def _with_changes(found: Result, state: RecordState | None, means: SurveyMeans) -> Result:
    """The result with what changed since the look that the store knows."""
    from dataclasses import replace

    from agent.records_text import changes_json
    from probes.records.snapshot import Snapshots

    if state is None:
        return replace(found, data={**found.data, "changes": None, "compared_with": None})
    seen = await Snapshots(means.resolver, means.authorities).see(state.records)
    changes = changes_json(state.records, seen)
    return replace(found, data={**found.data, "changes": changes, "compared_with": state.at})


async def _survey(domain: str, job: Job, means: SurveyMeans, gate: asyncio.Semaphore) -> Result:
    from agent.records_plan import hosts_of, selectors_of
    from probes.records.survey import Survey, survey

    hosts: Sequence[SendingHost] = (*job.hosts, *hosts_of(job.config, domain))
    selectors = (*job.selectors, *selectors_of(job.config, domain))
    async with gate:
        return await survey(Survey(domain, selectors, hosts), means)
