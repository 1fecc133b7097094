"""The list servers of the blocklist benchmark, on one core; the askers have the other."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ZONES = 50
LIST = """\
$TTL 300
$SOA 300 ns.example h.example 1 300 300 300 300
:127.0.0.2:listed $
127.0.0.2
10.0.1.7
10.0.3.0/26
"""


def pin(core: int) -> list[str]:
    """The words that keep a command on one core, none where there is but one."""
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return []
    return ["taskset", "-c", str(core)]


def ask(who: str, *words: object) -> dict[str, float]:
    """One asker in a process of its own: look-ups a second, CPU seconds for each, and more."""
    done = subprocess.run(
        [*pin(0), sys.executable, "-m", "tests.bench.blocklist_askers", who, *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=600, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


@contextmanager
def list_server(folder: Path) -> Iterator[None]:
    """rbldnsd with ZONES zones of one list, as fast as it is."""
    data = folder / "list"
    data.write_text(LIST, encoding="ascii")
    zones = [f"z{number}.example:ip4set:{data}" for number in range(ZONES)]
    with _running(["rbldnsd", "-n", "-4", "-b", "127.0.0.1/53", "-r", "/", "-u", "nobody", *zones]):
        yield


@contextmanager
def far_server(folder: Path, delay: float = 0.0, lost: float = 0.0, servfail: float = 0.0) -> Iterator[None]:
    """The same list `delay` seconds away; of the questions, these shares are lost or answered SERVFAIL."""
    program = folder / "late_answers"
    if not program.exists():
        source = Path(__file__).with_suffix("").with_name("late_answers.c")
        subprocess.run(["gcc", "-O2", "-o", program, source], check=True, timeout=60)
    numbers = (round(share * 1_000_000) for share in (delay, lost, servfail))
    with _running([str(program), *map(str, numbers)]):
        yield


@contextmanager
def _running(command: list[str]) -> Iterator[None]:
    server = subprocess.Popen([*pin(1), *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ask("wait")
        yield
    finally:
        server.terminate()
        server.wait(10)
