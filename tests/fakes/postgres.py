"""Debian's PostgreSQL on loopback: a real server, unprivileged, gone with the process that began it.

`running()` starts one in a temporary folder; `database()` gives a fresh database of it, a copy of a template
that holds the schema. It can be stopped, started, frozen and thawed. A small shell waits on a pipe from this
process: when that closes, however this process ended, the shell ends the server and removes the folder.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

USER = "mailcanary"
TEMPLATE = "template_mailcanary"
START = 30.0
"""Seconds that a start may take on a busy machine."""
CONFIG = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{root}'
max_connections = 120
shared_buffers = 32MB
max_wal_size = 256MB
fsync = {durable}
full_page_writes = {durable}
log_min_messages = warning
"""
WATCHER = """read -r _
pid=$(head -n 1 data/postmaster.pid 2>/dev/null) && kill -CONT "$pid" && kill -QUIT "$pid"
tries=200
while [ -e data/postmaster.pid ] && [ $tries -gt 0 ]; do sleep 0.05; tries=$((tries - 1)); done
rm -rf "$PWD"
"""


def why_not() -> str | None:
    """The reason why no server can be started here, or None."""
    return None if _bin() else "Debian's postgresql is not installed: run tests/lab/install.sh"


def _bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@dataclass
class Postgres:
    """A running server. User `mailcanary` owns it and needs no password."""

    root: Path
    port: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _filled: bool = False
    _server: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """The URL of one of its databases, as `agent.store` takes it."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self, fill: Callable[[str], None] | None = None) -> Iterator[str]:
        """A fresh database's URL. fill: makes the schema in the template, once; without it it is empty."""
        name = f"test_{next(self._numbers)}"
        self.create(name, fill)
        try:
            yield self.url(name)
        finally:
            with suppress(psycopg.OperationalError):  # a test may have left it stopped
                self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def create(self, name: str, fill: Callable[[str], None] | None = None) -> None:
        """Makes a database of that name; fill as above."""
        if fill is not None and not self._filled:
            self.sql(f"CREATE DATABASE {TEMPLATE}")
            fill(self.url(TEMPLATE))
            self._filled = True
        self.sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE if fill else 'template0'}")

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Runs one statement by itself; returns the rows where it has any."""
        with psycopg.connect(self.url(database), autocommit=True, connect_timeout=10) as conn:
            cursor = conn.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def start(self) -> None:
        """Starts it; returns when it takes connections."""
        found = _bin()
        assert found is not None
        log = (self.root / "log").open("ab")
        with log:
            self._server = subprocess.Popen(
                [found / "postgres", "-D", "data"], cwd=self.root, stdout=log, stderr=log, **_as_owner()
            )
        end = time.monotonic() + START
        while not self._answers():
            if self._server.poll() is not None or time.monotonic() > end:
                raise RuntimeError((self.root / "log").read_text())
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it. SIGINT: ends every session; SIGQUIT: at once, as in a crash."""
        if self._server is not None:
            self._server.send_signal(signal.SIGCONT)
            self._server.send_signal(how)
            self._server.wait(START)
            self._server = None

    def freeze(self) -> None:
        """Nothing of it runs, its connections stay open (SIGSTOP)."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on after `freeze`."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def processes(self) -> list[int]:
        """Its pids, the postmaster's first."""
        assert self._server is not None, "it is stopped"
        pid = self._server.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _as_owner() -> dict[str, object]:
    """root cannot run it; Debian's package brings a user for it."""
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*, durable: bool = False, more: str = "") -> Iterator[Postgres]:
    """Starts a server and ends it. durable: with fsync, as in production; a test can do without. more: lines
    for its config."""
    found = _bin()
    assert found is not None, why_not()
    root = Path(tempfile.mkdtemp(prefix="mailcanary-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(root, "postgres", "postgres")
    watcher = subprocess.Popen(["sh", "-c", WATCHER], cwd=root, stdin=subprocess.PIPE, start_new_session=True)
    try:
        command = [
            found / "initdb",
            "-D",
            "data",
            "-U",
            USER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        subprocess.run(command, cwd=root, check=True, capture_output=True, timeout=60, **_as_owner())  # type: ignore[call-overload]
        server = Postgres(root, _free_port())
        config = CONFIG.format(port=server.port, root=root, durable="on" if durable else "off")
        with (root / "data/postgresql.conf").open("a") as file:
            file.write(f"{config}{more}\n")
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        assert watcher.stdin is not None
        watcher.stdin.close()
        watcher.wait(START)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the whole session; `with postgres.database(...)` for a test's own database."""
    if reason := why_not():
        if os.environ.get("MAILCANARY_LAB") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    with running() as server:
        yield server
