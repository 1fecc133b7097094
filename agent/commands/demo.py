"""`mailcanary demo`: the first five minutes."""

from __future__ import annotations

import argparse

NAME = "demo"
HELP = "a small mail world on this machine, in two minutes"
DESCRIPTION = """\
Starts a small mail world in this process (three providers that evaluate SPF, DKIM
and DMARC, their IMAP servers, two relays, a DNS server with two blocklists), runs
the unmodified agent in it, and plays a story: all green; one sender's DKIM key
breaks and its address is listed; its mail goes to spam; ONE alert fires; repaired;
it resolves. Everything stays on loopback; no root, no network, no account needed.

exit code: 0 what the agent concluded is what was done to it, 1 it is not
"""

_PACKAGES = ("aiosmtpd", "pymap")


def configure(parser: argparse.ArgumentParser) -> None:
    """--once and --keep."""
    parser.add_argument("--once", action="store_true", help="end after the story (for pipelines)")
    parser.add_argument("--keep", action="store_true", help="keep config, store and log of the demo")


def run(args: argparse.Namespace) -> int:
    """Plays."""
    import asyncio
    import sys
    from importlib.util import find_spec

    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        print(
            f"mailcanary: the demo also needs {' and '.join(missing)}: pip install 'mailcanary[demo]', "
            "or `make demo` in a checkout, which brings them",
            file=sys.stderr,
        )
        return 2
    from rich.console import Console

    out = Console(highlight=False)
    out.print("A small mail world on this machine, and the unmodified agent in it.", style="bold")
    from agent.demo.play import play

    return asyncio.run(play(out, once=args.once, keep=args.keep))
