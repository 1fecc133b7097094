"""The test's side of the namespaces: takes an address block, starts the keeper, sends orders, runs
commands inside."""

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from .layout import Daemon
from .packages import program

SLOTS: Final = 100
KEEPER: Final = Path(__file__).with_name("keeper.py")


class LabError(Exception):
    """The lab itself failed; the text says which part, with the end of its log."""


def take_slot() -> tuple[int, socket.socket]:
    """A free address block and the lock on it: an abstract socket, so that no file is left and death
    unlocks."""
    for slot in range(SLOTS):
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            lock.bind(f"\0mailcanary-lab-{slot}")
        except OSError:
            lock.close()
            continue
        return slot, lock
    raise LabError(f"all {SLOTS} address blocks are taken by other labs")


class Namespace:
    """Private mount and PID namespaces with everything of one lab in them."""

    def __init__(self, root: Path, lock: socket.socket) -> None:
        self.root = root
        os.set_inheritable(lock.fileno(), True)
        # A script's path and no environment of ours: the keeper outlives a killed test and must need
        # nothing of it.
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), str(root), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(lock.fileno(),),
            cwd="/",
        )
        lock.close()
        word, _, pid = self._line(10).partition(" ")
        if word != "init":
            raise LabError(f"the namespace did not come up: {word!r}")
        self.init_pid = int(pid)

    def _line(self, timeout: float) -> str:
        assert self._keeper.stdout is not None
        ready, _, _ = select.select([self._keeper.stdout], [], [], timeout)
        if not ready:
            raise LabError(f"no answer from the namespace in {timeout} s")
        return self._keeper.stdout.readline().decode().strip()

    def _order(self, timeout: float = 15, **request: Any) -> dict[str, Any]:
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(json.dumps(request).encode() + b"\n")
        self._keeper.stdin.flush()
        answer: dict[str, Any] = json.loads(
            self._line(timeout) or '{"ok": false, "error": "process 1 ended"}'
        )
        if not answer["ok"]:
            raise LabError(f"{request}: {answer['error']}")
        return answer

    def start(self, daemon: Daemon) -> None:
        """Starts a daemon; does not wait for it to listen."""
        self._order(op="start", name=daemon.name, argv=[program(daemon.argv[0]), *daemon.argv[1:]])

    def stop(self, name: str, number: int = signal.SIGTERM, grace: float = 2.0) -> None:
        """Stops a daemon, by force after `grace` seconds."""
        self._order(op="stop", name=name, signal=number, grace=grace)

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to a daemon."""
        self._order(op="signal", name=name, signal=number)

    def wait(self, daemons: Iterable[Daemon], timeout: float = 20) -> None:
        """Returns when all daemons accept connections; raises LabError when one has died or the time is
        over."""
        deadline = time.monotonic() + timeout
        waiting = [(d.name, where) for d in daemons for where in d.listens]
        while waiting := [(name, where) for name, where in waiting if not accepts(where)]:
            dead = self._order(op="alive")["dead"]
            if dead or time.monotonic() > deadline:
                names = dead or sorted({name for name, _ in waiting})
                raise LabError(f"not started: {names}, waiting for {waiting}\n{self._tails(names)}")
            time.sleep(0.02)

    def _tails(self, names: Iterable[str]) -> str:
        files = [self.root / "log" / f"{name}.out" for name in names] + [self.root / "log" / "syslog"]
        return "\n".join(
            f"--- {f.name}\n{f.read_text(errors='replace')[-1500:]}" for f in files if f.exists()
        )

    def run(self, *argv: str, stdin: bytes = b"", check: bool = True, timeout: float = 15) -> str:
        """Runs a command inside and returns its output; LabError when it fails."""
        command = ["nsenter", "-t", str(self.init_pid), "-m", "-p", "-r", program(argv[0]), *argv[1:]]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise LabError(
                f"{' '.join(argv)}: {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
            )
        return done.stdout.decode(errors="replace")

    def close(self) -> None:
        """Ends everything inside and waits until it and the folder are gone."""
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait(timeout=15)
        self._keeper.stdout.close()
        # The keeper removes the folder; only when somebody killed the keeper itself is it still there.
        deadline = time.monotonic() + 5
        while Path(f"/proc/{self.init_pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(self.root, ignore_errors=True)


def accepts(where: str) -> bool:
    """Whether something accepts at "ip:port" or at a UNIX socket's path."""
    unix = where.startswith("/")
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        host, _, port = where.rpartition(":")
        try:
            probe.connect(where if unix else (host, int(port)))
        except OSError:
            return False
    return True
