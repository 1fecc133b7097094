"""`python -m tests.guarantees.launcher CONFIG`: for each line `POINT:N` on its standard input a process of
`mailcanary run`, killed (SIGKILL) the N-th time it passes POINT; `-` where nothing of that kind shall happen.

The product has no hook for this: functions are wrapped here, from outside. Each process is a fork of one
that has imported everything already, because twenty starts would take longer than the proof. Writes the
process id, and when it has ended its exit code.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

POINTS = {
    "intent": ("agent.runner.ledger:Ledger.intend_in", "after"),
    "before-commit": ("agent.store.database:Database._transaction", "before"),
    "after-commit": ("agent.store.database:Database._transaction", "after"),
    "before-submit": ("agent.runner.origins:Origins.submit", "before"),
    "after-submit": ("agent.runner.origins:Origins.submit", "after"),
    "apply": ("agent.runner.ledger:Ledger.apply_in", "after"),
    "committed": ("agent.runner.ledger:Ledger.committed", "before"),
    "before-sighting": ("agent.runner.reading:SeedOwner.on_message", "before"),
    "in-sighting": ("agent.runner.reading:SeedOwner._record", "after"),
    "after-sighting": ("agent.runner.reading:SeedOwner.on_message", "after"),
    "in-scan": ("agent.runner.reading:SeedOwner._settle", "after"),
    "before-retry": ("agent.runner.sending:Sending.retry", "before"),
    "in-retry": ("agent.runner.sending:Sending._claim_retry", "after"),
    "take-up": ("agent.app:App._take_up", "after"),
    "evaluate": ("agent.runner.evaluating:Evaluator._commit", "before"),
}


def _die_at(turn: int) -> Callable[[], None]:
    passed = 0

    def pass_() -> None:
        nonlocal passed
        passed += 1
        if passed == turn:
            os.kill(os.getpid(), signal.SIGKILL)

    return pass_


def _wrapped(function: Callable[..., Any], when: str, step: Callable[[], None]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def waits(*args: Any, **kwargs: Any) -> Any:
            if when == "before":
                step()
            result = await function(*args, **kwargs)
            if when == "after":
                step()
            return result

        return waits

    @functools.wraps(function)
    def calls(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            step()
        result = function(*args, **kwargs)
        if when == "after":
            step()
        return result

    return calls


def arm(point: str, turn: int) -> None:
    """Wraps the function of a named point."""
    place, when = POINTS[point]
    module_name, _, path = place.partition(":")
    owner_name, _, name = path.partition(".")
    owner = getattr(importlib.import_module(module_name), owner_name)
    setattr(owner, name, _wrapped(getattr(owner, name), when, _die_at(turn)))


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def life(command: str, config: str) -> int:
    """Arms the point, shortens the retry delays, and runs the agent. SIGUSR1 blocks its loop for good."""
    from agent.cli import main as mailcanary
    from alerts import outbox, pace
    from probes.canary import track

    _die_with_parent()
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(3600.0))
    track.RETRY_DELAYS = (0.3,)
    outbox.FIRST_RETRY, pace.FIRST_PAUSE = 0.3, 1.0
    point, _, turn = command.partition(":")
    if point != "-":
        arm(point, int(turn or 1))
    return mailcanary(["--config", config, "run"])


def serve(config: str) -> None:
    """One life after the other, as standard input asks for them."""
    _die_with_parent()
    for module in ("agent.cli", "agent.app", "agent.commands.run", "uvloop"):
        importlib.import_module(module)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os._exit(life(line.strip(), config))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1])
