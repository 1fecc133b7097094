"""`mailcanary run`: the daemon."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config.models import Config

NAME = "run"
HELP = "the agent: send, read back, judge, alert, all day long"
DESCRIPTION = """\
Runs the agent in the foreground until SIGTERM or SIGINT.

SIGHUP (or POST /-/reload) reads the config file again; a bad file keeps the old
config and says why in the log and in mailcanary_config_last_reload_successful.

Agents of a fleet share one file. What differs between them can be said here:
the address, the region, the resolver.

examples:
  mailcanary --config /etc/mailcanary/mail.yaml run
  mailcanary --config /etc/mailcanary/mail.yaml run --listen 10.0.0.7:9465 --region eu
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """What differs between the agents of a fleet; everything else is in the config file."""
    parser.add_argument("--listen", metavar="HOST:PORT", help="instead of agent.listen")
    parser.add_argument("--region", metavar="NAME", help="instead of agent.region")
    parser.add_argument(
        "--resolver",
        metavar="IP[:PORT]",
        action="append",
        help="instead of resolver.nameservers; may be repeated",
    )


def run(args: argparse.Namespace) -> int:
    """Runs until told to stop."""
    from agent.commands.common import config_path, load_config
    from agent.logs import configure as configure_logs
    from agent.process import run as run_in_loop

    own = {name: value for name in ("listen", "region") if (value := getattr(args, name))}
    own |= {"resolver": ",".join(args.resolver)} if args.resolver else {}
    config = load_config(args, require_secrets=True, own=own)
    configure_logs(config.agent.log_format, config.agent.log_level)
    return run_in_loop(_run(config, config_path(args), own))


async def _run(config: Config, path: str, own: Mapping[str, str]) -> int:
    import asyncio
    import signal
    from contextlib import suppress

    import structlog

    from agent.app import open_app
    from agent.process import started
    from probes.errors import MailcanaryError

    log = structlog.get_logger("agent")
    app = await open_app(config, reload_from=path, own=own)
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        with suppress(MailcanaryError):  # told in the log and in the metric; the old config stays
            await app.reload()

    def on_hangup() -> None:
        task = loop.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, app.stop)
    loop.add_signal_handler(signal.SIGHUP, on_hangup)
    try:
        await app.start()
        await app.serve()
        started()
        log.info("mailcanary runs", routes=len(config.routes_resolved), listen=config.agent.listen)
        await app.wait()
    finally:
        await app.close()
    log.info("mailcanary stopped")
    return 0
