"""`mailcanary alerts`: list, show, silence, acknowledge, history, test."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.config.models import Config

NAME = "alerts"
HELP = "alerts: list, show, silence, acknowledge, history, test a receiver"
DESCRIPTION = """\
Alerts and who hears of them.

examples:
  mailcanary alerts list
  mailcanary alerts show KEY
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
    actions.add_parser("silences", help="silences in force")
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
        }[args.action](database, args)
    finally:
        database.close()


def _list(database: Any, args: argparse.Namespace) -> int:
    from agent.commands.common import print_json
    from agent.store import incidents
    from probes.clock import rfc3339

    found = database.read_now(lambda conn: incidents.alert_rows(conn, open_only=not args.all))
    for row in found:
        if args.format == "json":
            print_json({"schema": "mailcanary.alert/1", **row, "since": rfc3339(row["since"])})
        else:
            print(f"{row['status']:9} {row['severity']:8} {rfc3339(row['since'])}  {row['title']}")
            print(f"          key {row['key']}")
    if not found and args.format == "text":
        print("nothing fires")
    return 0


def _show(database: Any, args: argparse.Namespace) -> int:
    from agent.commands.common import print_json
    from agent.store import incidents
    from alerts import codec
    from alerts.lifecycle import Alert
    from alerts.texts import Pages, sections
    from probes.clock import rfc3339
    from probes.errors import ConfigError

    rows = database.read_now(lambda conn: incidents.alert_rows(conn, open_only=False))
    row = next((row for row in rows if row["key"] == args.key), None)
    if row is None:
        raise ConfigError(f"there is no alert {args.key!r}; see `mailcanary alerts list --all`")
    if args.format == "json":
        print_json({"schema": "mailcanary.alert/1", **row, "since": rfc3339(row["since"])})
        return 0
    print(f"{row['title']}\n{row['status']}, {row['severity']}, since {rfc3339(row['since'])}")
    for name, text in sections(codec.from_json(Alert, row["body"]), Pages(), row["updated_at"]):
        print(f"\n{name}\n  {text}")
    return 0


def _history(database: Any, args: argparse.Namespace) -> int:
    from agent.commands.common import print_json
    from agent.store import incidents
    from probes.clock import rfc3339

    for row in database.read_now(lambda conn: incidents.history(conn, args.key)):
        if args.format == "json":
            print_json({"schema": "mailcanary.transition/1", **row, "at": rfc3339(row["at"])})
        else:
            print(f"{rfc3339(row['at'])}  {row['kind']:12} {row['severity']:8} {row['title']}")
    return 0


def _silence(database: Any, args: argparse.Namespace) -> int:
    import time

    from pydantic_core import PydanticCustomError

    from agent.config.fields import read_duration
    from agent.store import incidents
    from alerts.settings import Match
    from probes.clock import rfc3339
    from probes.errors import ConfigError

    try:
        seconds = read_duration(args.duration)
    except PydanticCustomError as error:
        raise ConfigError(f"--for {args.duration}: {error.message()}") from None
    match = Match(
        keys=tuple(args.key),
        kinds=tuple(args.kind),
        routes=tuple(args.route),
        senders=tuple(args.sender),
        seeds=tuple(args.seed),
        providers=tuple(args.provider),
        zones=tuple(args.zone),
    )
    if match == Match():
        names = ", ".join(f"--{name}" for name in MATCHERS)
        raise ConfigError(f"a silence needs at least one of {names}; to silence all, use --key '*'")
    now = time.time()
    database.write_now(
        lambda tx: incidents.add_silence(tx.conn, match, now, now + seconds, _who(args.by), args.comment)
    )
    print(f"silenced until {rfc3339(now + seconds)}; measuring goes on")
    return 0


def _unsilence(database: Any, args: argparse.Namespace) -> int:
    import time

    from agent.store import incidents
    from probes.errors import ConfigError

    now = time.time()
    if not database.write_now(lambda tx: incidents.expire_silence(tx.conn, args.id, now)):
        raise ConfigError(f"there is no silence {args.id} in force")
    print("the silence is over")
    return 0


def _silences(database: Any, _args: argparse.Namespace) -> int:
    import time

    from agent.store import incidents
    from probes.clock import rfc3339

    now = time.time()
    for silence in database.read_now(lambda conn: incidents.active_silences(conn, now)):
        print(f"{silence.id:4} until {rfc3339(silence.ends)}  by {silence.author}  {silence.comment}")
        print(f"     {silence.match}")
    return 0


def _test(config: Config, receiver: str) -> int:
    import asyncio
    import time

    from agent.config.alert_settings import alert_settings
    from alerts.http import AiohttpPoster
    from alerts.notification import sample
    from alerts.notifiers.factory import make_notifier
    from probes.errors import ConfigError

    settings = alert_settings(config).receivers.get(receiver)
    if settings is None:
        known = ", ".join(config.alerts.receivers) or "none"
        raise ConfigError(f"there is no receiver {receiver!r}; there are: {known}")

    async def send() -> int:
        async with AiohttpPoster() as poster:
            now = time.time()
            delivery = await make_notifier(receiver, settings, poster).send(
                sample(receiver, now, config.agent.name), now
            )
        print(f"{receiver}: {delivery.reason} {delivery.detail}".rstrip())
        return 0 if delivery.ok else 1

    return asyncio.run(send())
