"""`mailcanary inspect`: what happened to this message, and whose word on it can be trusted."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from agent.inspection.examine import Settings
    from agent.inspection.sources import Source

NAME = "inspect"
HELP = "take a stored message apart: verdicts, hops, our own evaluation, bounces"
DESCRIPTION = """\
Takes stored messages apart: what the provider said of them and whether that can be trusted, how they
travelled and where time went, what SPF, DKIM, ARC and DMARC say by our own evaluation, why a bounce came
back.

A verdict in the header counts only where the receiving provider wrote it: in its own block on top, down to
the Received by which the message came in, under its own authserv-id. The provider is guessed from that
Received; for your own servers name the authserv-id, and the server that took the message in where several
handed it on.

PATH is a message (.eml), an mbox file, a folder to walk, or - for standard input.

Examples:
  mailcanary inspect message.eml
  mailcanary inspect --json ~/Maildir/cur | jq 'select(.provider.placement == "spam") | .file'
  mailcanary inspect --authserv-id mx.example.com --received-by 192.0.2.25 message.eml
  curl -s https://lists.example.org/raw/17 | mailcanary inspect --offline -

Exit codes: 0 all was read, 1 a message could not be, 2 wrong usage.
"""

EXIT_UNREAD = 1
EXIT_USAGE = 2
AT_ONCE = 16
LAST_TIME = 253_402_300_800.0
"""The first second of the year 10000."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("paths", metavar="PATH", nargs="+", help="message, mbox, folder, or - for stdin")
    parser.add_argument(
        "--json", dest="format", action="store_const", const="json", help="one JSON object a message"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text", help="text (default) or json")
    parser.add_argument(
        "--resolver",
        metavar="IP:PORT",
        action="append",
        default=[],
        help="ask this nameserver; may be repeated",
    )
    parser.add_argument(
        "--authserv-id",
        metavar="ID",
        action="append",
        default=[],
        help="an authserv-id of the receiving server; may be repeated",
    )
    parser.add_argument(
        "--received-by",
        metavar="IP",
        help="the server that took the message in, by address or name: its hop is the border; an address"
        " that wrote no Received is taken for the connecting client's",
    )
    parser.add_argument("--now", metavar="TIME", help="when it was received (default: by its own header)")
    parser.add_argument("--offline", action="store_true", help="ask no DNS: what needs it is temperror")


def run(args: argparse.Namespace) -> int:
    """Prints what was found."""
    import asyncio

    from agent.inspection.sources import sources
    from probes.errors import ConfigError

    try:
        settings = _settings(args)
    except ConfigError as error:
        print(f"mailcanary: {error}", file=sys.stderr)
        return EXIT_USAGE
    return asyncio.run(_print_all(sources(args.paths), settings, args.format))


def _settings(args: argparse.Namespace) -> Settings:
    from agent.inspection.examine import Settings
    from probes.clock import SystemClock
    from probes.dns import DnsStatus, Resolver, StaticResolver
    from probes.dns_client import DnsResolver

    resolver: Resolver
    if args.offline:
        resolver = StaticResolver({}, default=DnsStatus.TIMEOUT)
    else:
        resolver = DnsResolver(args.resolver or None)
    now = _time(args.now) if args.now is not None else None
    return Settings(resolver, SystemClock(), now, args.authserv_id, args.received_by)


def _time(text: str) -> float:
    """Seconds since the epoch, RFC 3339, or a time as mail writes it. Raises ConfigError."""
    from probes.errors import ConfigError
    from probes.headers.dates import parse_time

    try:
        found: float | None = float(text)
    except ValueError:
        found = parse_time(text.replace("T", " ").replace("Z", " +0000"))
    if found is None or not 0 <= found < LAST_TIME:  # a comparison that NaN fails too
        raise ConfigError(f"--now {text!r} is no time: write 2026-11-21T08:15:30Z or seconds since the epoch")
    return found


async def _print_all(found: Iterable[Source], settings: Settings, form: str) -> int:
    import json

    from agent.inspection.text import render

    code, seen = 0, False
    async for source, facts in _examined(found, settings):
        seen = True
        if facts is None:
            print(f"mailcanary: {source.name}: {source.problem}", file=sys.stderr)
            code = EXIT_UNREAD
        elif form == "json":
            print(json.dumps(facts))  # in ASCII: no name of a file and no locale stands in its way
        else:
            _write(render(facts))
    if not seen:
        print("mailcanary: no message there", file=sys.stderr)
        return EXIT_UNREAD
    return code


def _write(text: str) -> None:
    """Prints; what the terminal's encoding does not know comes out as a mark."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding))


async def _examined(
    found: Iterable[Source], settings: Settings
) -> AsyncIterator[tuple[Source, dict[str, Any] | None]]:
    """Examines some messages at once, so that their DNS questions wait side by side; keeps the order."""
    import asyncio
    from itertools import islice

    from agent.inspection.examine import examine

    rest = iter(found)
    while batch := list(islice(rest, AT_ONCE)):
        read = [source for source in batch if not source.problem]
        facts = iter(await asyncio.gather(*(examine(source, settings) for source in read)))
        for source in batch:
            yield source, None if source.problem else next(facts)
