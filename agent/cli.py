"""The command line. Each command is a module of agent/commands; what it needs is imported when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from agent import __version__
from agent.forms.cells import clean
from probes.errors import ConfigError, MailcanaryError

COMMANDS = (
    "run",
    "check_config",
    "schema",
    "status",
    "why",
    "probe",
    "change",
    "blocklist",
    "records",
    "inspect",
    "alerts",
    "pause",
    "resume",
    "seeds",
    "agents",
    "login",
    "rules",
    "db",
    "demo",
    "version",
)

DESCRIPTION = """\
Mailcanary proves, all day long, that your mail reaches the inbox.

It sends canaries (small tokenised messages) from every sender to seed mailboxes,
reads them back over IMAP, and says of each route: pass, fail or unknown.
"I could not look" is never told as "lost".
"""

EPILOG = """\
first steps:
  mailcanary demo                       a small mail world on this machine, in two minutes
  mailcanary check-config mail.yaml     is the file right, and how many canaries a day is that?
  mailcanary --config mail.yaml probe   one round now: did we break mail?
  mailcanary --config mail.yaml run     the agent; metrics and pages on http://127.0.0.1:9465

exit codes: 0 pass, 1 fail, 2 usage or config, 3 could not tell
The config file is --config (before the command or after it), else $MAILCANARY_CONFIG, else ./mailcanary.yaml.
"""


def parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    top = argparse.ArgumentParser(
        prog="mailcanary",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--config",
        "-c",
        metavar="FILE",
        default=os.environ.get("MAILCANARY_CONFIG"),
        help="the config file",
    )
    top.add_argument("--version", action="version", version=f"mailcanary {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in COMMANDS:
        _add(commands, importlib.import_module(f"agent.commands.{name}"))
    return top


def _add(commands: argparse._SubParsersAction[argparse.ArgumentParser], module: ModuleType) -> None:
    sub = commands.add_parser(
        module.NAME,
        help=module.HELP,
        description=module.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(sub)
    _config_too(sub)
    sub.set_defaults(run=module.run)


def _config_too(parser: argparse.ArgumentParser) -> None:
    """--config is understood after the command and its action as well, where people write it."""
    parser.add_argument("--config", "-c", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _config_too(sub)


def _say_no_more() -> None:
    """Sends what is still kept for standard output nowhere, so that it does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> int:
    """The entry point. Returns the exit code."""
    top = parser()
    args = top.parse_args(argv)
    if args.command is None:
        top.print_help()
        return 2
    try:
        code = int(args.run(args))
        sys.stdout.flush()  # what cannot be written is told here, not at the interpreter's end
        return code
    except ConfigError as error:
        print(clean(f"mailcanary: {error}"), file=sys.stderr)  # it may hold a server's words
        return 2
    except MailcanaryError as error:
        print(clean(f"mailcanary: {error}"), file=sys.stderr)  # it may hold a server's words
        return 3
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` does; what was not heard is no pass.
        _say_no_more()
        return 3
    except OSError as error:
        _say_no_more()
        print(clean(f"mailcanary: {error}"), file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
