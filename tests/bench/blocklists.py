"""The blocklist sweep beside its peers, in turn, against one local rbldnsd, in a network that has only lo.

    python -m tests.bench.blocklists            100,000 look-ups each, a million faulty, five million pairs
    python -m tests.bench.blocklists --quick    the same with a tenth of the last two
    python -m tests.bench.blocklists far        a part: near, far, truth, memory

Needs root (a network namespace of its own); what is missing of tests/lab/packages-bench.txt is installed. A
peer that is absent is said to be: dnsbl_exporter is measured where a `dnsbl-exporter` is on the PATH. The
server has one core, the asker the other. Late, lost and failing answers are those of late_answers.c.
The ideal is what so many in flight can do over that distance. Trust the ratios, not the figures.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tests.bench.blocklist_servers import ROOT, ZONES, ask, far_server, list_server, pin
from tests.bench.row import BenchRow

ROUNDS = 3
FAR_ROUNDS = 3
LOOKUPS = 100_000
DELAY = 0.02  # seconds to the server and back
FAR = ((200, 100_000), (2_000, 500_000))  # questions in flight, look-ups


def rows(*words: str) -> list[BenchRow]:
    """Runs parts of it (all, where none is named) in a namespace and gives the table.

    Raises RuntimeError where that is not possible.
    """
    if os.geteuid() != 0:
        raise RuntimeError("needs root, for a network namespace of its own")
    subprocess.run([ROOT / "tests/lab/install.sh", "bench"], check=True, timeout=600)
    command = [sys.executable, "-m", "tests.bench.blocklists", "--inside", *words]
    done = subprocess.run(
        ["unshare", "-n", "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [BenchRow(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def _inside(full: bool, parts: Sequence[str]) -> list[BenchRow]:
    """In the namespace: the servers, then every asker in turn."""
    with suppress(PermissionError):  # servers and askers alike come before whatever else the machine does
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        resolv = folder / "resolv.conf"
        resolv.write_text("nameserver 127.0.0.1\noptions ndots:0\n", encoding="ascii")
        subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)
        work = {
            "near": lambda: _speed(folder),
            "far": lambda: [row for in_flight, count in FAR for row in _distance(folder, in_flight, count)],
            "truth": lambda: _truth(folder, 1_000_000 if full else 100_000),
            "memory": lambda: _memory(folder, 5_000_000 if full else 500_000),
        }
        return [row for part, measure in work.items() if not parts or part in parts for row in measure()]


def _dnsperf(folder: Path, in_flight: int = 200, times: int = 1) -> float:
    file = folder / "questions"
    if not file.exists():
        count = LOOKUPS // ZONES
        lines = (f"{i & 255}.{i >> 8}.0.10.z{z}.example A\n" for i in range(count) for z in range(ZONES))
        file.write_text("".join(lines), encoding="ascii")
    command = ["dnsperf", "-s", "127.0.0.1", "-d", str(file), "-c", "1", "-T", "1"]
    command += ["-q", str(in_flight), "-n", str(times)]
    done = subprocess.run([*pin(0), *command], capture_output=True, text=True, timeout=120, check=True)
    line = next(x for x in done.stdout.splitlines() if "Queries per second" in x)
    return float(line.split()[-1])


def _speed(folder: Path) -> list[BenchRow]:
    """No delay: medians of rounds taken in turn."""
    with list_server(folder):
        return _in_turn(folder)


def _in_turn(folder: Path) -> list[BenchRow]:
    who = ["sweep", "pydnsbl"]
    if exporter := shutil.which("dnsbl-exporter"):
        who.append("dnsbl_exporter")
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in who}
    limit = []
    for _ in range(ROUNDS):
        for name in who:
            turns[name].append(ask(name, LOOKUPS, ZONES))
        limit.append(_dnsperf(folder))
    turns["dnspython"] = [ask("dnspython", LOOKUPS, ZONES)]  # once: it takes most of a minute
    rate = {name: _median(found, "rate") for name, found in turns.items()}
    cpu = {name: _median(found, "cpu") * 1e6 for name, found in turns.items()}
    wrong = sum(x["wrong"] for x in turns["sweep"])
    what, ours = "look-ups a second, one core", rate["sweep"]
    return [
        _row(what, ours, "/s", statistics.median(limit), "dnsperf", 0.5),
        _row(what, ours, "/s", rate["pydnsbl"], "pydnsbl", 3.0),
        _row(
            what,
            ours,
            "/s",
            rate.get("dnsbl_exporter"),
            "dnsbl_exporter" + ("" if exporter else ": absent"),
            3.0,
        ),
        _row(what, ours, "/s", rate["dnspython"], "dnspython async", None),
        _row("CPU for a look-up", cpu["sweep"], "us", cpu["pydnsbl"], "pydnsbl", 0.35, less=True),
        _bound("wrong verdicts, no delay", wrong, "", 0),
    ]


def _median(found: list[dict[str, float]], key: str) -> float:
    return statistics.median(x[key] for x in found)


def _row(
    name: str, figure: float, unit: str, peer: float | None, who: str, goal: float | None, less: bool = False
) -> BenchRow:
    ratio = figure / peer if peer else None
    ok = None if ratio is None or not goal else (ratio <= goal if less else ratio >= goal)
    return BenchRow(name, round(figure, 2), unit, peer, who, ratio, goal, ok)


def _bound(
    name: str, figure: float, unit: str, most: float, peer: float | None = None, who: str = ""
) -> BenchRow:
    """A figure that may be `most` at most."""
    return BenchRow(name, round(figure, 2), unit, peer, who, None, most, figure <= most)


def _distance(folder: Path, in_flight: int, count: int) -> list[BenchRow]:
    """20 ms away, with and without loss: beside what that many in flight can do over the distance."""
    could, plain, lossy = [], [], []
    for _ in range(FAR_ROUNDS):
        with far_server(folder, DELAY):
            could.append(_dnsperf(folder, in_flight, max(1, in_flight // 500)))
            plain.append(ask("sweep", count, ZONES, in_flight))
        with far_server(folder, DELAY, lost=0.01):
            lossy.append(ask("sweep", count, ZONES, in_flight))
    ideal = in_flight / DELAY
    name = f"20 ms away, {in_flight} in flight"
    over = _median(lossy, "seconds") - count / ideal
    return [
        _row(name, _median(plain, "rate"), "/s", ideal, "ideal", 0.9),
        _row(name, _median(plain, "rate"), "/s", statistics.median(could), "dnsperf", None),
        _bound(f"{name}, 1 % lost: over ideal", over, "s", 1.0, count / ideal, "ideal"),
        _bound(
            f"{name}, wrong or unknown", _sum(plain + lossy, "wrong") + _sum(plain + lossy, "unknown"), "", 0
        ),
    ]


def _sum(found: list[dict[str, float]], key: str) -> float:
    return sum(x[key] for x in found)


def _truth(folder: Path, count: int) -> list[BenchRow]:
    """1 percent of time-outs and 1 percent of SERVFAIL: how many verdicts are false."""
    with far_server(folder, lost=0.01, servfail=0.01):
        found = ask("sweep", count, ZONES)
    name = f"false verdicts in {count}: 1 % lost, 1 % SERVFAIL"
    return [_bound(name, found["wrong"], "", 0, found["unknown"], "left unknown")]


def _memory(folder: Path, pairs: int) -> list[BenchRow]:
    """A whole sweep at full speed: what the process grows by, and what a second does."""
    with list_server(folder):
        found = ask("sweep", pairs, ZONES)
    what = f"{pairs // ZONES} addresses x {ZONES} zones"
    return [
        _bound(f"{what}: memory above start", found["grown"], "MiB", 300),
        _bound(f"{what}: wrong or unknown", found["wrong"] + found["unknown"], "", 0),
        BenchRow(f"{what}: look-ups a second", found["rate"], "/s", None, "", None, None, None),
    ]


def _print(table: list[BenchRow]) -> None:
    for row in table:
        peer = f"{row.peer:.1f} {row.peer_name}" if row.peer is not None else row.peer_name
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
        goal = f"{row.goal:g}" if row.goal is not None else "-"
        word = {True: "ok", False: "MISSED", None: ""}[row.ok]
        print(f"{row.name:54} {row.figure:12.1f} {row.unit:4} {peer:28} {ratio:>6} {goal:>6} {word}")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--inside"]
    if "--inside" in sys.argv:
        found_rows = _inside("--quick" not in words, [word for word in words if word != "--quick"])
        print(json.dumps([{name: getattr(row, name) for name in BenchRow.__slots__} for row in found_rows]))
    else:
        table = rows(*words)
        _print(table)
        sys.exit(any(row.ok is False for row in table))
