"""`mailcanary alerts`: list, show, silence, acknowledge, history, test."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.models import Config
    from agent.store.database import Database

NAME = "alerts"
HELP = "alerts: list, show, silence, acknowledge, history, test a receiver"
DESCRIPTION = """\
Alerts and who hears of them.

examples:
  mailcanary alerts list
  mailcanary alerts show KEY --runbook
  mailcanary alerts ack KEY
  mailcanary alerts silence --sender app --for 2h --comment "moving the relay"
  mailcanary alerts history
  mailcanary alerts test oncall        sends a marked test
"""

MATCHERS = ("key", "kind", "route", "sender", "seed", "provider", "zone")


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own sub-commands."""
    from agent.commands.common import add_json

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="open alerts")
    listed.add_argument("--all", action="store_true", help="resolved ones too")
    add_json(listed)
    show = actions.add_parser("show", help="one alert, whole")
    show.add_argument("key", metavar="KEY")
    show.add_argument("--runbook", action="store_true", help="and the runbook's page")
    add_json(show)
    ack = actions.add_parser("ack", help="take an alert on: no reminders, no escalation")
    ack.add_argument("key", metavar="KEY")
    ack.add_argument("--by", default="", metavar="NAME", help="who (default: your login)")
    silence = actions.add_parser("silence", help="tell nobody for a while; measuring goes on")
    for name in MATCHERS:
        silence.add_argument(f"--{name}", action="append", default=[], metavar=name.upper())
    silence.add_argument("--for", dest="duration", default="1h", metavar="DURATION", help="how long (1h)")
    silence.add_argument("--comment", default="", help="why")
    silence.add_argument("--by", default="", metavar="NAME", help="who (default: your login)")
    unsilence = actions.add_parser("unsilence", help="end a silence early")
    unsilence.add_argument("id", type=int, metavar="ID")
    add_json(actions.add_parser("silences", help="silences in force"))
    history = actions.add_parser("history", help="every transition, newest first")
    history.add_argument("key", metavar="KEY", nargs="?")
    add_json(history)
    test = actions.add_parser("test", help="send a marked test to a receiver")
    test.add_argument("receiver", metavar="RECEIVER")


def run(args: argparse.Namespace) -> int:
    """Does it. Exit code 2 where what is named is not there."""
    from agent.commands.common import load_config

    config = load_config(args)
    if args.action == "test":
        return _test(config, args.receiver)
    if args.action == "ack":
        return _ack(config, args)
    return _in_store(config, args)


def _who(given: str) -> str:
    import getpass

    return given or getpass.getuser()


def _ack(config: Config, args: argparse.Namespace) -> int:
    from agent.commands.client import call

    call(config, "POST", "/api/v1/alerts/ack", {"key": args.key, "by": _who(args.by)})
    print(f"acknowledged by {_who(args.by)}")
    return 0


def _in_store(config: Config, args: argparse.Namespace) -> int:
    from agent.commands.common import open_existing

    database = open_existing(config)
    try:
        return {
            "list": _list,
            "show": _show,
            "history": _history,
            "silence": _silence,
            "unsilence": _unsilence,
            "silences": _silences,
        }[args.action](config, database, args)
    finally:
        database.close()


def _list(_config: Config, database: Database, args: argparse.Namespace) -> int:
    from agent.commands.common import print_json
    from agent.reports.alerts import alert_json
    from agent.store import incidents
    from probes.clock import rfc3339

    found = database.read_now(lambda conn: incidents.alert_rows(conn, open_only=not args.all))
    for row in found:
        if args.format == "json":
            print_json(alert_json(row))
        else:
            print(f"{row['status']:9} {row['severity']:8} {rfc3339(row['since'])}  {row['title']}")
            print(f"          key {row['key']}{_state(row['body'])}")
    if not found and args.format == "text":
        print("nothing fires")
    return 0


def _state(body: Mapping[str, Any]) -> str:
    """Who has it, and why nobody is told."""
    from agent.forms.cells import clean
    from agent.reports.alerts import mute_text

    by = body.get("acked_by")
    words = [f"acknowledged by {by}" if by else "", mute_text(body.get("muted", ""))]
    return clean("".join(f", {word}" for word in words if word))


def _show(config: Config, database: Database, args: argparse.Namespace) -> int:
    import time

    from agent.commands.common import print_json
    from agent.reports.alerts import alert_whole, pages_of
    from agent.store import incidents
    from alerts import runbooks
    from probes.clock import rfc3339
    from probes.errors import ConfigError

    row = database.read_now(lambda conn: incidents.alert_row(conn, args.key))
    if row is None:
        raise ConfigError(f"there is no alert {args.key!r}; see `mailcanary alerts list --all`")
    whole = alert_whole(row, pages_of(config), time.time())
    if args.format == "json":
        print_json(whole)
        return 0
    since = rfc3339(row["since"])
    print(f"{row['title']}\n{row['status']}, {row['severity']}, since {since}{_state(row['body'])}")
    for part in whole["sections"]:
        print(f"\n{part['name']}\n  " + part["text"].replace("\n", "\n  "))
    if args.runbook:
        print(f"\n{'-' * 78}\n{runbooks.page(whole['kind'])}", end="")
    return 0


def _history(_config: Config, database: Database, args: argparse.Namespace) -> int:
    from agent.commands.common import print_json
    from agent.reports.alerts import transition_json
    from agent.store import incidents
    from probes.clock import rfc3339

    found = list(database.read_now(lambda conn: incidents.history(conn, args.key)))
    for row in found:
        if args.format == "json":
            print_json(transition_json(row))
        else:
            note = f" ({row['body']['note']})" if row["body"].get("note") else ""
            print(f"{rfc3339(row['at'])}  {row['kind']:12} {row['severity']:8} {row['title']}{note}")
    if not found and args.format == "text":
        print("nothing has fired")
    return 0


def _silence(config: Config, database: Database, args: argparse.Namespace) -> int:
    import time

    from pydantic_core import PydanticCustomError

    from agent.config.fields import read_duration
    from agent.reports.alerts import read_match
    from agent.store import incidents
    from probes.clock import rfc3339
    from probes.errors import ConfigError, DataError

    try:
        if not any(getattr(args, name) for name in MATCHERS):
            raise ConfigError(f"name what to silence: --{', --'.join(MATCHERS)}; --key '*' is all")
        seconds = read_duration(args.duration)
        match = read_match({f"{name}s": getattr(args, name) for name in MATCHERS}, config)
    except PydanticCustomError as error:
        raise ConfigError(f"--for {args.duration}: {error.message()}") from None
    except DataError as error:
        raise ConfigError(error.detail) from None
    now, by = time.time(), _who(args.by)
    number = database.write_now(
        lambda tx: incidents.add_silence(tx.conn, match, now, now + seconds, by, args.comment)
    )
    print(f"silence {number}, until {rfc3339(now + seconds)}; measuring goes on")
    return 0


def _unsilence(_config: Config, database: Database, args: argparse.Namespace) -> int:
    import time

    from agent.store import incidents
    from probes.errors import ConfigError

    now = time.time()
    if not database.write_now(lambda tx: incidents.expire_silence(tx.conn, args.id, now)):
        raise ConfigError(f"there is no silence {args.id} in force")
    print("the silence is over")
    return 0


def _silences(_config: Config, database: Database, args: argparse.Namespace) -> int:
    import time

    from agent.commands.common import print_json
    from agent.forms.cells import clean
    from agent.reports.alerts import match_json, silence_json
    from agent.store import incidents
    from probes.clock import rfc3339

    now = time.time()
    found = list(database.read_now(lambda conn: incidents.active_silences(conn, now)))
    for silence in found:
        if args.format == "json":
            print_json(silence_json(silence))
            continue
        covers = "; ".join(f"{name} {', '.join(words)}" for name, words in match_json(silence.match).items())
        print(clean(f"{silence.id:>4} until {rfc3339(silence.ends)}  {covers}"))
        print(clean(f"     by {silence.author}: {silence.comment or 'no comment'}"))
    if not found and args.format == "text":
        print("no silence is in force")
    return 0


def _test(config: Config, receiver: str) -> int:
    import asyncio
    import time

    from agent.config.alert_settings import alert_settings
    from alerts.http import AiohttpPoster
    from alerts.notification import sample
    from alerts.notifiers.factory import make_notifier
    from probes.errors import ConfigError

    if receiver not in config.alerts.receivers:
        known = ", ".join(config.alerts.receivers) or "none"
        raise ConfigError(f"there is no receiver {receiver!r}; there are: {known}")
    settings = alert_settings(config).receivers[receiver]

    async def send() -> int:
        async with AiohttpPoster() as poster:
            now = time.time()
            delivery = await make_notifier(receiver, settings, poster).send(
                sample(receiver, now, config.agent.name), now
            )
        print(f"{receiver}: {delivery.reason} {delivery.detail}".rstrip())
        return 0 if delivery.ok else 1

    return asyncio.run(send())
