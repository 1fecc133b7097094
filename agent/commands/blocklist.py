"""`mailcanary blocklist`: is this address or domain on a DNS blocklist, and can the answer be trusted."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.blocklist_text import Progress
    from agent.config.models import Config
    from probes.blocklists.catalogue import Zone
    from probes.blocklists.check import Listing

NAME = "blocklist"
HELP = "look addresses and domains up in DNS blocklists"
DESCRIPTION = """\
Looks IP addresses and domains up in DNS blocklists.

Each zone is asked its controls first and last (RFC 5782 section 5): the entry every list must have, and one
no list may have. Only between two good rounds of controls does "not listed" count; all else is "unknown" with
its reason. A list that refuses questions through public resolvers is never mistaken for a clean bill.

SUBJECT is an address, a network (192.0.2.0/28), a domain, host:NAME (its addresses) or spf:DOMAIN (the
addresses its SPF record lets send). Without --zone, the zones the catalogue has switched on are asked; any
zone may be named, in the catalogue or not.

Examples:
  mailcanary blocklist 192.0.2.1 example.com
  mailcanary blocklist 192.0.2.0/28 --zone zen.spamhaus.org --resolver 127.0.0.1:53 --json
  mailcanary blocklist spf:example.com
  mailcanary --config mail.yaml blocklist --sender app
  mailcanary blocklist --zones

With --json there is a line for each subject and zone, also where a zone does not take that kind of subject
("not-applicable"); such a pair counts only where nothing else was asked of the subject or of the zone.

Exit codes: 0 nothing listed, 1 something listed, 2 wrong usage, 3 nothing listed but not all could be seen.
"""

EXIT_USAGE = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument(
        "subjects", metavar="SUBJECT", nargs="*", help="address, network, domain, host:, spf:"
    )
    parser.add_argument(
        "--sender",
        metavar="NAME",
        action="append",
        default=[],
        help="what this sender of the config is judged by: its addresses and domains; may be repeated",
    )
    parser.add_argument(
        "--zone", metavar="ZONE", action="append", default=[], help="ask this zone only; may be repeated"
    )
    parser.add_argument(
        "--resolver",
        metavar="IP:PORT",
        action="append",
        default=[],
        help="ask this nameserver; may be repeated: each next one is asked what the last could not tell, and "
        "whether it sees the same listings",
    )
    parser.add_argument(
        "--key",
        metavar="ZONE=FILE",
        action="append",
        default=[],
        help="file with the key of a zone that needs one",
    )
    parser.add_argument("--timeout", metavar="SECONDS", type=float, help="for one question (5)")
    parser.add_argument("--zones", action="store_true", help="show every zone's health, and ask no subject")
    parser.add_argument("--json", action="store_true", help="one JSON line for each subject and zone")


@dataclass(frozen=True, slots=True)
class Job:
    """What was asked for, read and checked."""

    subjects: tuple[str, ...]
    zones: tuple[Zone, ...]
    nameservers: tuple[str, ...]
    timeout: float
    named: bool


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from probes.errors import ConfigError, Unavailable
    from probes.outcome import Outcome

    try:
        job = _job(args)
        if args.zones:
            return asyncio.run(_show_zones(job, args.json))
        return asyncio.run(_look_up(job, args.json))
    except ConfigError as error:
        print(f"mailcanary blocklist: {error.detail}", file=sys.stderr)
        return EXIT_USAGE
    except Unavailable as error:
        print(f"mailcanary blocklist: {error}", file=sys.stderr)
        return Outcome.UNKNOWN.exit_code


def _job(args: argparse.Namespace) -> Job:
    from agent.blocklist_plan import subjects_of, zones_of
    from probes.dns_client import system_nameservers
    from probes.errors import ConfigError

    config = _config(args)
    planned = config if config and config.blocklists else None
    zones = zones_of(planned, names=args.zone, keys=_keys(args.key), switched_off=args.zones)
    subjects = (*args.subjects, *_of_senders(args.sender, config))
    subjects = subjects or (subjects_of(config) if config else ())
    if not subjects and not args.zones:
        raise ConfigError("name an address or a domain to look up, or use --zones")
    nameservers = tuple(args.resolver) or (tuple(config.resolver.nameservers) if config else ())
    if not nameservers:
        nameservers = tuple(str(server) for server in system_nameservers())
    timeout = args.timeout or (config.resolver.timeout if config else 5.0)
    if not 0 < timeout <= 600:
        raise ConfigError("--timeout is more than 0 and at most 600 seconds")
    return Job(subjects, tuple(zones), nameservers, timeout, named=bool(args.zone))


def _of_senders(names: Sequence[str], config: Config | None) -> tuple[str, ...]:
    from agent.blocklist_plan import sender_subjects
    from probes.errors import ConfigError

    if not names:
        return ()
    known = config.senders if config else {}
    for name in names:
        if name not in known:
            raise ConfigError(f"--sender {name}: no such sender in the config; give --config FILE")
    owned = sender_subjects(config) if config else {}
    return tuple(subject for subject, owners in owned.items() if set(owners) & set(names))


def _config(args: argparse.Namespace) -> Config | None:
    """The config where one is named, or needed and there."""
    from agent.commands.common import DEFAULT_CONFIG, load_config

    if args.config or (args.sender and Path(DEFAULT_CONFIG).exists()):
        return load_config(args)
    return None


def _keys(options: Iterable[str]) -> dict[str, str]:
    from probes.errors import ConfigError

    found = {}
    for option in options:
        zone, equals, path = option.partition("=")
        if not equals:
            raise ConfigError("--key is ZONE=FILE")
        try:
            found[zone.strip().lower()] = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"the key of {zone} cannot be read") from None
    return found


async def _look_up(job: Job, as_json: bool) -> int:
    from agent.blocklist_text import Progress, listing_json, listing_table
    from probes.blocklists.check import telling
    from probes.blocklists.judge import Reason
    from probes.blocklists.subjects import expand
    from probes.dns_client import DnsResolver
    from probes.outcome import combine

    resolver = DnsResolver(job.nameservers, timeout=job.timeout)
    subjects = await expand(job.subjects, resolver)
    progress = Progress(sys.stderr.isatty())
    answers, said = await _through(job, [s.text for s in subjects], progress)
    progress.close()
    found = list(answers.values())
    if not job.named:  # of the zones nobody named, only those that take the subject are of interest
        found = [listing for listing in found if listing.reason is not Reason.NOT_APPLICABLE]
    counted = telling(found)
    lines = (listing_json(one, said) for one in found) if as_json else listing_table(counted, said)
    for line in lines:
        print(line)
    return combine(listing.outcome for listing in counted).exit_code


async def _through(
    job: Job, subjects: Sequence[str], progress: Progress
) -> tuple[dict[tuple[str, str], Listing], dict[tuple[str, str], dict[str, Listing]]]:
    """Asks the first nameserver; what its own failure left open is asked of the next, controls and all, and
    what it saw listed as well. Returns the answers by (subject, zone), and each nameserver's own."""
    from probes.blocklists.check import check
    from probes.blocklists.judge import ASK_ELSEWHERE
    from probes.blocklists.query import parse_subject
    from probes.dns_client import DnsResolver

    zones = {zone.name: zone for zone in job.zones}
    answers: dict[tuple[str, str], Listing] = {}
    said: dict[tuple[str, str], dict[str, Listing]] = {}
    wanted = list(subjects)
    for nameserver in job.nameservers:
        resolver = DnsResolver([nameserver], timeout=job.timeout, tries=5, cache=0)
        found = await check(
            [parse_subject(s) for s in wanted], list(zones.values()), resolver, progress=progress
        )
        for listing in found:
            key = (listing.subject, listing.zone)
            held = answers.get(key)
            if held is None or held.reason in ASK_ELSEWHERE or (listing.listed and not held.listed):
                answers[key] = listing
            said.setdefault(key, {})[nameserver] = listing
        again = [key for key, one in answers.items() if one.listed or one.reason in ASK_ELSEWHERE]
        if not again:
            break
        wanted = list(dict.fromkeys(subject for subject, _ in again))
        zones = {name: zones[name] for _, name in again if name in zones}
    return answers, said


async def _show_zones(job: Job, as_json: bool) -> int:
    """Every zone's health through the first nameserver. Exits 3 where a zone that is used cannot be."""
    from agent.blocklist_text import zone_json, zone_table
    from probes.blocklists.check import Pair, health_of
    from probes.blocklists.query import Subject
    from probes.dns_client import DnsResolver
    from probes.outcome import Outcome

    resolver = DnsResolver(job.nameservers[:1], timeout=job.timeout, tries=5, cache=0)
    pairs = [Pair(Subject("", kind), zone) for zone in job.zones for kind in sorted(zone.kinds)]
    healths = await health_of(pairs, resolver)
    by_zone = {zone.name: [healths[zone.name, kind] for kind in sorted(zone.kinds)] for zone in job.zones}
    lines = zone_json(job.zones, by_zone) if as_json else zone_table(job.zones, by_zone)
    for line in lines:
        print(line)
    used = [zone for zone in job.zones if zone.enabled or job.named]
    usable = all(any(h.healthy for h in by_zone[zone.name]) for zone in used)
    return (Outcome.PASS if usable else Outcome.UNKNOWN).exit_code
