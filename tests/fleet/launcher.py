"""`python -m tests.fleet.launcher`: agents of a fleet as forks of one process that has imported everything.

Standard input takes one JSON object a line: {"config", "log", "listen", "lease", "region"}. Each becomes a
process of `mailcanary run`; one line of JSON tells its pid, another its exit code when it has ended.

The product has no hook for this: how long a membership lasts is set here, from outside, and what its checks
refuse is counted here, in the agent's log.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Any

REFUSED = '"event": "stale write refused"'
"""In an agent's log: one for each write that was refused."""
MODULES = ("agent.cli", "agent.app", "agent.commands.run", "uvloop", "psycopg", "procrastinate")


def die_with_parent() -> None:
    """The kernel kills this process when the one that began it ends."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _told(check: Callable[..., None]) -> Callable[..., None]:
    from probes.errors import StaleWrite

    @functools.wraps(check)
    def checks(*args: Any, **kwargs: Any) -> None:
        try:
            check(*args, **kwargs)
        except StaleWrite:
            os.write(2, f"{{{REFUSED}}}\n".encode())
            raise

    return checks


def _shape(lease: float) -> None:
    from agent.fleet import membership
    from agent.store import leases, members
    from alerts import outbox, pace
    from probes.canary import track

    if lease:
        membership.LEASE, membership.BEAT = lease, lease / 5
    members.check, leases.check = _told(members.check), _told(leases.check)
    track.RETRY_DELAYS = (1.0,)
    outbox.FIRST_RETRY, pace.FIRST_PAUSE = 0.3, 1.0


def life(order: dict[str, Any]) -> int:
    """One agent, from its start to its end."""
    from agent.cli import main as mailcanary

    die_with_parent()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), 2)
    os.dup2(2, 1)
    os.environ["PGAPPNAME"] = f"mailcanary:{os.getpid()}"
    _shape(order["lease"])
    region = ["--region", order["region"]] if order.get("region") else []
    return mailcanary(["--config", order["config"], "run", "--listen", order["listen"], *region])


def _say(**words: int) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(pid=pid, code=os.waitstatus_to_exitcode(status))


def serve() -> None:
    """Begins lives as standard input asks for them, and tells their ends."""
    die_with_parent()
    for module in MODULES:
        importlib.import_module(module)
    left = b""
    while True:
        if select.select([0], [], [], 0.02)[0]:
            came = os.read(0, 65536)
            if not came:
                return
            *lines, left = (left + came).split(b"\n")
            for line in lines:
                pid = os.fork()
                if pid == 0:
                    os._exit(life(json.loads(line)))
                _say(pid=pid)
        _reap()


if __name__ == "__main__":
    sys.exit(serve())
