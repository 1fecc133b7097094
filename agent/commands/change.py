"""`mailcanary change`: before and after, with an audit trail."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from agent.config.models import Config
    from agent.store.rounds import ChangeRow

T = TypeVar("T")

NAME = "change"
HELP = "before and after a change: did it break mail?"
DESCRIPTION = """\
Records the state before a change (records, listings, a burst of canaries and
their headers), opens a window in which drift of records is recorded and not
alerted, then probes again and says what is different.

examples:
  mailcanary change start "rotate DKIM s1 to s2"
  ... make the change ...
  mailcanary change finish
  mailcanary change watch --for 48h          keeps comparing; reports at the end
  mailcanary change list
  mailcanary change show ID --format html --output change.html

A command that was killed is run again as it was: it goes on with its rounds.
Of several open changes, `finish` and `watch` take the newest, or the ID given.

exit code: 0 nothing got worse, 1 something did, 2 usage or config, 3 could not tell
"""

WINDOW = "4h"
EVERY = "30m"


def configure(parser: argparse.ArgumentParser) -> None:
    """start, finish, watch, list, show."""
    from agent.commands.common import add_json
    from agent.commands.probe import add_routes
    from agent.forms import FORMS

    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    start = actions.add_parser("start", help="record the state before, open the window")
    start.add_argument("title", help="what is going to be changed")
    add_routes(start)
    start.add_argument("--count", type=int, default=1, metavar="N", help="canaries a route, at most")
    start.add_argument("--window", default=WINDOW, help=f"how long drift is announced (default {WINDOW})")
    finish = actions.add_parser("finish", help="probe again and compare; closes the window")
    watch = actions.add_parser("watch", help="keep comparing for a while; reports at the end")
    watch.add_argument("--for", dest="length", default="48h", help="how long (default 48h)")
    watch.add_argument("--every", default=EVERY, help=f"one round in this time (default {EVERY})")
    listing = actions.add_parser("list", help="the audit trail, newest first")
    show = actions.add_parser("show", help="one change with its verdict")
    for action in (finish, watch, show):
        action.add_argument("id", nargs="?", default="", metavar="ID", help="left out: the newest")
    for action in (start, finish, watch, show):
        action.add_argument("--output", metavar="FILE", help="write the report there")
        add_json(action, FORMS)
    add_json(listing)


def run(args: argparse.Namespace) -> int:
    """Does what is asked; the exit code is the outcome."""
    from agent.commands.common import load_config
    from agent.commands.probe import check_output
    from agent.logs import configure as configure_logs

    check_output(getattr(args, "output", None))
    config = load_config(args, require_secrets=args.action not in ("list", "show"))
    configure_logs(config.agent.log_format, "warning")
    actions: dict[str, Callable[[Config, argparse.Namespace], int]] = {
        "start": _start,
        "finish": _finish,
        "watch": _watch,
        "list": _list,
        "show": _show,
    }
    return actions[args.action](config, args)


def _start(config: Config, args: argparse.Namespace) -> int:
    """A change of that title that was begun and not yet opened is gone on with."""
    import sys
    import time

    from agent.asking import who_asks
    from agent.commands.probe import tell
    from agent.store import rounds
    from alerts.settings import AlertKind
    from probes.outcome import Outcome

    window, now = _seconds(args.window, "--window"), time.time()
    params = {name: getattr(args, name) for name in ("sender", "seed", "provider", "deadline", "count")}

    def begin(conn: Any) -> ChangeRow:
        for known in rounds.list_changes(conn):
            if known.state == "starting" and known.title == args.title and known.params == params:
                return known
        new = rounds.ChangeRow(_new_id(now), args.title, who_asks(), now, now + window, params)
        rounds.insert_change(conn, new)
        return new

    change = _write(config, begin)
    report = _round(config, change, "before", args.format, "", f"{change.id}/before")

    def opened(conn: Any) -> None:
        silence = _announce(conn, change, time.time(), window, (AlertKind.RECORD_DRIFT.value,))
        rounds.update_change(
            conn, change.id, state="open", before_round=report["id"], silence=silence, ends_at=now + window
        )

    _write(config, opened)
    tell(report, args.format, args.output)
    sys.stderr.write(
        f"change {change.id} is open: record drift is recorded and not alerted for {args.window}; "
        "make the change, then run `mailcanary change finish`\n"
    )
    return Outcome(report["outcome"] or "unknown").exit_code


def _announce(conn: Any, change: ChangeRow, now: float, window: float, kinds: tuple[str, ...]) -> int:
    """Opens the window in which drift is muted; returns the silence's id."""
    from agent.store import incidents
    from alerts.settings import Match

    comment = f"announced change {change.id}: {change.title}"
    incidents.add_silence(conn, Match(kinds=kinds), now, now + window, change.who[:64], comment)
    mine = [s for s in incidents.active_silences(conn, now) if s.comment == comment]
    return int(mine[-1].id)


def _finish(config: Config, args: argparse.Namespace) -> int:
    import time

    from agent.commands.probe import tell
    from agent.store import incidents, rounds
    from probes.outcome import Outcome

    change = _find(config, args.id, "open")
    assert change.before_round is not None
    report = _round(config, change, "after", args.format, change.before_round, f"{change.id}/after")
    now = time.time()

    def end(conn: Any) -> None:
        rounds.update_change(
            conn,
            change.id,
            state="finished",
            finished_at=now,
            after_round=report["id"],
            outcome=report["outcome"],
            verdict={name: report[name] for name in ("outcome", "causes", "verdicts")},
        )
        if change.silence is not None:
            incidents.expire_silence(conn, change.silence, now)

    _write(config, end)
    tell(report, args.format, args.output)
    return Outcome(report["outcome"] or "unknown").exit_code


def _watch(config: Config, args: argparse.Namespace) -> int:
    """Rounds at intervals, each kept in the change; the report is about all of them together."""
    import time

    from agent.commands.probe import tell
    from agent.store import rounds
    from probes.clock import rfc3339
    from probes.outcome import Outcome

    change = _find(config, args.id, "open", "finished")
    length, every = _seconds(args.length, "--for"), _seconds(args.every, "--every")
    assert change.before_round is not None
    # Run again after a kill, it ends when it was to end.
    begun = next((seen["begun"] for seen in change.watch if seen.get("length") == length), time.time())
    seen = [one for one in change.watch if one["begun"] == begun]
    while True:
        key = f"{change.id}/watch/{begun:.3f}/{len(seen)}"
        report = _round(config, change, "watch", args.format, change.before_round, key)
        entry = {"begun": begun, "length": length, "round": report["id"], "outcome": report["outcome"]}
        seen.append(entry | {"at": report["started_at"], "causes": report["causes"]})
        kept = [one for one in change.watch if one["begun"] != begun] + seen
        _write(config, lambda conn: rounds.update_change(conn, change.id, watch=kept))  # noqa: B023
        following = begun + len(seen) * every
        if following > begun + length:
            break
        time.sleep(max(0.0, following - time.time()))
    whole = _together(config, change, report, [one["round"] for one in seen])
    verdict = {name: whole[name] for name in ("outcome", "causes", "verdicts")}
    _write(
        config,
        lambda conn: rounds.update_change(conn, change.id, outcome=whole["outcome"], verdict=verdict),
    )
    tell(whole | {"watched_until": rfc3339(time.time())}, args.format, args.output)
    return Outcome(whole["outcome"] or "unknown").exit_code


def _together(config: Config, change: ChangeRow, last: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    """The last round's report, judged over the canaries of all rounds of the watch."""
    from agent.reports.rounds import by_route, read_state
    from agent.store import rounds
    from probes.change.verdict import State, assess

    def read(conn: Any) -> dict[str, Any]:
        found = [rounds.get_round(conn, one) for one in ids]
        states = [read_state(conn, config, row) for row in found if row is not None]
        before = rounds.get_round(conn, change.before_round or "")
        facts = [f for state in states for several in state.routes.values() for f in several]
        after = State(by_route(facts), states[-1].held, states[-1].around)
        return assess(after, read_state(conn, config, before) if before else None).to_json()

    return last | _read(config, read)


def _round(
    config: Config, change: ChangeRow, kind: str, form: str, baseline: str, key: str
) -> dict[str, Any]:
    from agent.asking import Ask, run_round
    from agent.commands.probe import Progress

    params = change.params
    ask = Ask(
        senders=tuple(params["sender"]),
        seeds=tuple(params["seed"]),
        providers=tuple(params["provider"]),
        deadline=params["deadline"],
        count=params["count"],
        kind=kind,
        baseline=baseline,
        key=key,
    )
    with Progress(form == "text") as progress:
        return run_round(config, ask, progress.show)


def _list(config: Config, args: argparse.Namespace) -> int:
    from agent.commands.common import print_json
    from agent.store import rounds

    changes = _read(config, rounds.list_changes)
    if not changes and args.format == "text":
        print("no change has been recorded yet")
    for change in changes:
        told = change_json(change)
        if args.format == "json":
            print_json(told)
            continue
        causes = ", ".join(told["causes"])
        print(f"{change.id}  {told['started_at']}  {change.state:9} {told['outcome'] or '-':8}", end="")
        print(f"{change.who}  {change.title}" + (f"  ({causes})" if causes else ""))
    return 0


def change_json(change: ChangeRow) -> dict[str, Any]:
    """A change of the audit trail: who, when, what, verdict."""
    from probes.clock import rfc3339

    return {
        "schema": "mailcanary.change/1",
        "id": change.id,
        "title": change.title,
        "by": change.who,
        "state": change.state,
        "started_at": rfc3339(change.started_at),
        "window_ends_at": rfc3339(change.ends_at),
        "finished_at": rfc3339(change.finished_at) if change.finished_at else None,
        "before_round": change.before_round,
        "after_round": change.after_round,
        "outcome": change.outcome,
        "causes": (change.verdict or {}).get("causes", []),
        "verdicts": (change.verdict or {}).get("verdicts", []),
        "watch": list(change.watch),
    }


def _show(config: Config, args: argparse.Namespace) -> int:
    from agent.commands.common import print_json
    from agent.commands.probe import tell
    from agent.reports.rounds import round_json
    from agent.store import rounds

    change = _find(config, args.id, "starting", "open", "finished")
    if args.format == "json":
        print_json(change_json(change))
        return _exit_code(change)
    told = change_json(change)
    latest = change.after_round or (change.watch[-1]["round"] if change.watch else change.before_round)

    def read(conn: Any) -> Mapping[str, Any] | None:
        row = rounds.get_round(conn, latest) if latest else None
        return round_json(conn, config, row) if row else None

    report = _read(config, read)
    if args.format == "text" and not args.output:
        print(f"{change.title}: {change.state}, by {change.who}, begun {told['started_at']}")
        for one in change.watch:
            print(f"  {one['at']}  {one['outcome']}  {', '.join(one['causes'])}")
    if report is not None:
        if change.verdict:
            report = {**report, **{name: told[name] for name in ("outcome", "causes", "verdicts")}}
        tell(report, args.format, args.output)
    return _exit_code(change)


def _exit_code(change: ChangeRow) -> int:
    from probes.outcome import Outcome

    return Outcome(change.outcome).exit_code if change.outcome else Outcome.UNKNOWN.exit_code


def _find(config: Config, change_id: str, *states: str) -> ChangeRow:
    """The change of that id, or the newest in one of the states. Raises ConfigError."""
    from agent.store import rounds
    from probes.errors import ConfigError

    def read(conn: Any) -> ChangeRow | None:
        if change_id:
            return rounds.get_change(conn, change_id)
        return next((c for c in rounds.list_changes(conn) if c.state in states), None)

    found = _read(config, read)
    if found is None:
        what = f"there is no change {change_id!r}" if change_id else "there is no such change"
        raise ConfigError(f'{what}; begin one with `mailcanary change start "what"`')
    if found.state not in states:
        raise ConfigError(f"change {found.id} is {found.state}, not {' or '.join(states)}")
    return found


def _seconds(text: str, option: str) -> float:
    from pydantic_core import PydanticCustomError

    from agent.config.fields import read_duration
    from probes.errors import ConfigError

    try:
        return read_duration(text)
    except PydanticCustomError as error:
        raise ConfigError(f"{option}: {error}") from None


def _new_id(now: float) -> str:
    import secrets

    return f"change-{int(now * 1000):012x}{secrets.token_hex(3)}"


def _write(config: Config, work: Callable[[Any], T]) -> T:
    from agent.store.schema import open_store

    database = open_store(config.store_url, password=config.store_password)
    try:
        return database.write_now(lambda tx: work(tx.conn))
    finally:
        database.close()


def _read(config: Config, work: Callable[[Any], T]) -> T:
    from agent.commands.common import open_existing

    database = open_existing(config)
    try:
        return database.read_now(work)
    finally:
        database.close()
