"""The blocklist sweep beside its peers, in turn, against one local rbldnsd, in a network that has only lo.

    python -m tests.bench.blocklists            all rows
    python -m tests.bench.blocklists --full     100,000 addresses x 50 zones, a million faulty look-ups

Needs root (a network namespace of its own), rbldnsd and dnsperf; a peer that is absent is said to be. The
server has one core, the asker the other. Trust the ratios, not the figures.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.row import BenchRow

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
LOOKUPS = 100_000
ZONES = 50
SLOW = 4_000  # look-ups of a peer that takes milliseconds for each


def rows(full: bool = False) -> list[BenchRow]:
    """Runs everything in a namespace and gives the table. Raises RuntimeError where that is not possible."""
    missing = [tool for tool in ("unshare", "rbldnsd", "ip") if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise RuntimeError(f"needs root and {', '.join(missing) or 'unshare'}")
    command = [sys.executable, "-m", "tests.bench.blocklists", "--inside", *(["--full"] if full else [])]
    done = subprocess.run(
        ["unshare", "-n", "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=1500, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [BenchRow(**row) for row in json.loads(done.stdout.splitlines()[-1])]


def _inside(full: bool) -> list[BenchRow]:
    """In the namespace: the servers, then every asker in turn."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        resolv = folder / "resolv.conf"
        resolv.write_text("nameserver 127.0.0.1\noptions ndots:0\n", encoding="ascii")
        subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)
        server = _rbldnsd(folder)
        try:
            table = _speed(folder)
        finally:
            server.terminate()
            server.wait(10)
        return [*table, *_distance(), _truth(1_000_000 if full else 100_000), _memory(full)]


def _rbldnsd(folder: Path) -> subprocess.Popen[bytes]:
    data = folder / "list"
    data.write_text(
        "$TTL 300\n$SOA 300 ns.example h.example 1 300 300 300 300\n:127.0.0.2:listed $\n"
        "127.0.0.2\n10.0.1.7\n10.0.3.0/26\n",
        encoding="ascii",
    )
    zones = [f"z{number}.example:ip4set:{data}" for number in range(ZONES)]
    server = subprocess.Popen(
        [*_pin(1), "rbldnsd", "-n", "-4", "-b", "127.0.0.1/53", "-r", "/", "-u", "nobody", *zones],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _ask("wait")
    return server


def _pin(core: int) -> list[str]:
    if shutil.which("taskset") is None or (os.cpu_count() or 1) < 2:
        return []
    return ["taskset", "-c", str(core)]


def _ask(who: str, *words: object) -> dict[str, float]:
    """One asker in a process of its own: look-ups a second, CPU seconds for each, and more."""
    done = subprocess.run(
        [*_pin(0), sys.executable, "-m", "tests.bench.blocklist_askers", who, *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, timeout=600, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _dnsperf(folder: Path) -> float | None:
    if shutil.which("dnsperf") is None:
        return None
    file = folder / "questions"
    if not file.exists():
        count = LOOKUPS // ZONES
        lines = (f"{i & 255}.{i >> 8}.0.10.z{z}.example A\n" for i in range(count) for z in range(ZONES))
        file.write_text("".join(lines), encoding="ascii")
    command = ["dnsperf", "-s", "127.0.0.1", "-d", str(file), "-c", "1", "-T", "1", "-q", "200", "-n", "1"]
    done = subprocess.run([*_pin(0), *command], capture_output=True, text=True, timeout=120, check=True)
    line = next(x for x in done.stdout.splitlines() if "Queries per second" in x)
    return float(line.split()[-1])


def _speed(folder: Path) -> list[BenchRow]:
    """No delay: medians of rounds taken in turn."""
    ours, theirs, slow, limit = [], [], [], []
    for _ in range(ROUNDS):
        ours.append(_ask("sweep", LOOKUPS, ZONES))
        theirs.append(_ask("pydnsbl", LOOKUPS // 5, ZONES))
        slow.append(_ask("dnspython", SLOW, ZONES))
        found = _dnsperf(folder)
        if found is not None:
            limit.append(found)
    rate, peer = _median(ours, "rate"), _median(theirs, "rate")
    python = _median(slow, "rate")
    cpu, peer_cpu = _median(ours, "cpu") * 1e6, _median(theirs, "cpu") * 1e6
    top = statistics.median(limit) if limit else None
    wrong = sum(x["wrong"] for x in ours)
    return [
        _row("look-ups a second, one core", rate, "/s", top, "dnsperf", 0.5),
        _row("look-ups a second, one core", rate, "/s", peer, "pydnsbl", 3.0),
        _row("look-ups a second, one core", rate, "/s", python, "dnspython async", None),
        _row("CPU for a look-up", cpu, "us", peer_cpu, "pydnsbl", 0.35, less=True),
        _row("memory of the process", max(x["rss"] for x in ours), "MiB", None, "", 0, less=True),
        BenchRow("wrong verdicts", wrong, "", None, "", None, 0, wrong == 0),
    ]


def _median(found: list[dict[str, float]], key: str) -> float:
    return statistics.median(x[key] for x in found)


def _row(
    name: str, figure: float, unit: str, peer: float | None, who: str, goal: float | None, less: bool = False
) -> BenchRow:
    ratio = figure / peer if peer else None
    ok = None if ratio is None or not goal else (ratio <= goal if less else ratio >= goal)
    return BenchRow(name, round(figure, 2), unit, peer, who if peer else f"{who} (absent)", ratio, goal, ok)


def _responder(*words: object) -> subprocess.Popen[str]:
    """Our own server: it can answer late, lose and fail, which rbldnsd cannot."""
    server = subprocess.Popen(
        [*_pin(1), sys.executable, "-m", "tests.bench.blocklist_askers", "serve", *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    server.stdout.readline()
    return server


def _distance() -> list[BenchRow]:
    """20 ms away, with and without loss: beside what that many in flight could do."""
    table = []
    for loss in (0.0, 0.01):
        for in_flight, count in ((200, 100_000), (2_000, 500_000)):
            server = _responder(0.02, loss, 0.0)
            try:
                found = _ask("sweep", count, ZONES, in_flight)
            finally:
                server.terminate()
                server.wait(10)
            ideal = count / (in_flight / 0.02)
            name = f"20 ms away, {in_flight} in flight"
            if loss:
                over = found["seconds"] - ideal
                ok = over <= 1 and not found["wrong"]
                row = BenchRow(f"{name}, 1 % lost: over ideal", over, "s", ideal, "ideal", None, 1.0, ok)
            else:
                row = _row(name, found["rate"], "/s", in_flight / 0.02, "ideal", 0.9)
            table.append(row)
    return table


def _truth(count: int) -> BenchRow:
    """1 percent of time-outs and 1 percent of SERVFAIL: how many verdicts are false."""
    server = _responder(0.0, 0.01, 0.01)
    try:
        found = _ask("sweep", count, ZONES)
    finally:
        server.terminate()
        server.wait(10)
    name = f"false verdicts in {count} with 1 % lost, 1 % SERVFAIL"
    return BenchRow(name, found["wrong"], "", found["unknown"], "left unknown", None, 0, not found["wrong"])


def _memory(full: bool) -> BenchRow:
    """Five million pairs: swept in full, or only made ready."""
    if not full:
        found = _ask("memory", 5_000_000, ZONES)
        return BenchRow(
            "memory for 5,000,000 pairs", found["rss"], "MiB", None, "", None, 300, found["rss"] < 300
        )
    server = _responder(0.0, 0.0, 0.0)
    try:
        found = _ask("sweep", 5_000_000, ZONES)
    finally:
        server.terminate()
        server.wait(10)
    ok = found["grown"] < 300 and not found["wrong"]
    return BenchRow(
        "5,000,000 pairs swept: memory", found["grown"], "MiB", found["rate"], "/s", None, 300, ok
    )


def _print(table: list[BenchRow]) -> None:
    for row in table:
        peer = f"{row.peer:.1f} {row.peer_name}" if row.peer is not None else row.peer_name
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
        goal = f"{row.goal:g}" if row.goal is not None else "-"
        word = {True: "ok", False: "MISSED", None: ""}[row.ok]
        print(f"{row.name:54} {row.figure:12.1f} {row.unit:4} {peer:28} {ratio:>6} {goal:>6} {word}")


if __name__ == "__main__":
    if "--inside" in sys.argv:
        found_rows = _inside("--full" in sys.argv)
        print(json.dumps([{name: getattr(row, name) for name in BenchRow.__slots__} for row in found_rows]))
    else:
        _print(rows("--full" in sys.argv))
