"""`mailcanary records`: the DNS records that a domain's mail depends on, and what is wrong with them."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from agent.commands.blocklist import EXIT_USAGE

NAME = "records"
HELP = "look at the DNS records that a domain's mail depends on"
DESCRIPTION = """\
Looks at a domain's MX, SPF, DKIM, DMARC, MTA-STS, TLS-RPT, BIMI and its senders' PTR records, and tells each
fault with its reason and the record to publish. What could not be looked up is "unknown", never a fault.

Examples:
  mailcanary records example.com
  mailcanary records example.com --selector s1 --sender 192.0.2.1 --json

Exit codes: 0 no fault, 1 a fault, 2 wrong usage, 3 no fault seen but not all could be seen.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("domains", metavar="DOMAIN", nargs="+", help="domain to look at")
    parser.add_argument(
        "--selector", metavar="NAME", action="append", default=[], help="DKIM selector in use"
    )
    parser.add_argument(
        "--sender", metavar="IP", action="append", default=[], help="address that mail leaves from"
    )
    parser.add_argument(
        "--resolver", metavar="IP:PORT", action="append", default=[], help="nameserver to ask"
    )
    parser.add_argument("--json", action="store_true", help="one JSON line for each domain")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from probes.errors import ConfigError

    try:
        return asyncio.run(_survey_all(args))
    except ConfigError as error:
        print(f"mailcanary records: {error}", file=sys.stderr)
        return EXIT_USAGE


async def _survey_all(args: argparse.Namespace) -> int:
    from probes.blocklists.catalogue import Kind
    from probes.blocklists.query import domain_name, parse_subject
    from probes.clock import rfc3339
    from probes.dns_client import DnsResolver
    from probes.errors import ConfigError
    from probes.http import Fetcher
    from probes.outcome import combine
    from probes.records.survey import Survey, SurveyMeans, survey

    domains = [domain_name(name) for name in args.domains]
    senders = [parse_subject(text) for text in args.sender]
    if any(sender.kind is Kind.DOMAIN for sender in senders):
        raise ConfigError("--sender takes an IP address")
    resolver = DnsResolver(args.resolver or _configured(getattr(args, "config", None)))
    means = SurveyMeans(resolver, Fetcher(resolver))
    outcomes = []
    for domain in domains:
        found = await survey(Survey(domain, args.selector, [s.text for s in senders]), means)
        outcomes.append(found.outcome)
        if args.json:
            head = {"schema": "mailcanary.records/1", "domain": domain, "at": rfc3339(found.at)}
            print(json.dumps({**head, "outcome": found.outcome, "reason": found.reason, **found.data}))
        else:
            print("\n".join(_report(domain, found.summary, found.data)))
    return combine(outcomes).exit_code


def _configured(path: str | None) -> list[str] | None:
    if path is None:
        return None
    from agent.config.load import load

    return list(load(path).resolver.nameservers) or None


def _report(domain: str, summary: str, data: Mapping[str, Any]) -> Iterable[str]:
    yield f"{domain}: {summary}"
    for item in data["findings"]:
        word = "unknown" if item["outcome"] == "unknown" else item["severity"]
        yield f"\n  {word:8} {item['kind']}  {item['name']}"
        yield f"           {item['what']}"
        if item["why"]:
            yield f"           why: {item['why']}"
        if item["fix"]:
            yield f"           fix: {item['fix']}"
    if data["spf"]["tree"]:
        yield f"\n  SPF, {data['spf']['lookups']} look-ups of 10:"
        yield from (f"    {line}" for line in data["spf"]["tree"])
