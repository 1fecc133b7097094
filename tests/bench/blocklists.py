"""The blocklist sweep beside its peers, in turn, against one local rbldnsd, in a network that has only lo.

    python -m tests.bench.blocklists            100,000 addresses x 50 zones, a million faulty look-ups
    python -m tests.bench.blocklists --quick    a tenth of that

Needs root (a network namespace of its own); what is missing of tests/lab/packages-bench.txt is installed. A
peer that is absent is said to be. The server has one core, the asker the other. Answers that come late, are
lost or fail are dnsdist's; what it can do at all is measured with dnsperf in the same run, and is the ideal
where it is less than what that many in flight could do. Trust the ratios, not the figures.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.row import BenchRow

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 5
FAR_ROUNDS = 3
LOOKUPS = 100_000
ZONES = 50
SLOW = 4_000  # look-ups of a peer that takes milliseconds for each

DNSDIST = """\
setLocal("127.0.0.1:53")
setSecurityPollSuffix("")
setUDPSocketBufferSizes(8388608, 8388608)
local listed = newDNSNameSet()
for zone = 0, {zones} do
  for _, name in ipairs({{"2.0.0.127", "7.1.0.10"}}) do
    listed:add(newDNSName(name .. ".z" .. zone .. ".example"))
  end
  for last = 0, 63 do listed:add(newDNSName(last .. ".3.0.10.z" .. zone .. ".example")) end
end
if {delay} > 0 then addAction(AllRule(), DelayAction({delay})) end
if {loss} > 0 then addAction(ProbaRule({loss}), DropAction()) end
if {servfail} > 0 then addAction(ProbaRule({servfail}), RCodeAction(DNSRCode.SERVFAIL)) end
addAction(QNameSetRule(listed), SpoofAction({{"127.0.0.2"}}, {{ttl=300}}))
addAction(AllRule(), RCodeAction(DNSRCode.NXDOMAIN))
"""


def rows(full: bool = True) -> list[BenchRow]:
    """Runs everything in a namespace and gives the table. Raises RuntimeError where that is not possible."""
    if os.geteuid() != 0:
        raise RuntimeError("needs root, for a network namespace of its own")
    subprocess.run([ROOT / "tests/lab/install.sh", "bench"], check=True, timeout=600)
    command = [sys.executable, "-m", "tests.bench.blocklists", "--inside", *([] if full else ["--quick"])]
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
        truth = _truth(folder, 1_000_000 if full else 100_000)
        return [*table, *_distance(folder), truth, _memory(folder, full)]


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


def _dnsperf(folder: Path, in_flight: int = 200, times: int = 1) -> float:
    file = folder / "questions"
    if not file.exists():
        count = LOOKUPS // ZONES
        lines = (f"{i & 255}.{i >> 8}.0.10.z{z}.example A\n" for i in range(count) for z in range(ZONES))
        file.write_text("".join(lines), encoding="ascii")
    command = ["dnsperf", "-s", "127.0.0.1", "-d", str(file), "-c", "1", "-T", "1"]
    command += ["-q", str(in_flight), "-n", str(times)]
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
        limit.append(_dnsperf(folder))
    rate, peer = _median(ours, "rate"), _median(theirs, "rate")
    python = _median(slow, "rate")
    cpu, peer_cpu = _median(ours, "cpu") * 1e6, _median(theirs, "cpu") * 1e6
    top = statistics.median(limit)
    wrong = sum(x["wrong"] for x in ours)
    return [
        _row("look-ups a second, one core", rate, "/s", top, "dnsperf", 0.5),
        _row("look-ups a second, one core", rate, "/s", peer, "pydnsbl", 3.0),
        _row("look-ups a second, one core", rate, "/s", None, "dnsbl_exporter (not built here)", 3.0),
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
    return BenchRow(name, round(figure, 2), unit, peer, who, ratio, goal, ok)


@contextmanager
def _responder(folder: Path, delay: int = 0, loss: float = 0.0, servfail: float = 0.0) -> Iterator[None]:
    """dnsdist answers as the list server does, `delay` ms late, and some of it not at all or SERVFAIL."""
    settings = folder / "dnsdist.conf"
    settings.write_text(
        DNSDIST.format(zones=ZONES - 1, delay=delay, loss=loss, servfail=servfail), encoding="ascii"
    )
    command = ["dnsdist", "--supervised", "--disable-syslog", "-C", str(settings)]
    with (folder / "dnsdist.log").open("wb") as log:
        server = subprocess.Popen([*_pin(1), *command], stdout=log, stderr=log)
    try:
        _ask("wait")
        yield
    finally:
        server.terminate()
        server.wait(10)


def _distance(folder: Path) -> list[BenchRow]:
    """20 ms away, with and without loss: beside what that many in flight could do through this server."""
    table = []
    for in_flight, count in ((200, 100_000), (2_000, 500_000)):
        turns = [_turn(folder, in_flight, count) for _ in range(FAR_ROUNDS)]
        ideals = [min(could, in_flight / 0.02) for could, _, _ in turns]
        wrong = sum(plain["wrong"] + lossy["wrong"] for _, plain, lossy in turns)
        name, ideal = f"20 ms away, {in_flight} in flight", statistics.median(ideals)
        who = "ideal" if ideal == in_flight / 0.02 else "dnsperf through it"
        rate = statistics.median(plain["rate"] for _, plain, _ in turns)
        table.append(_row(name, rate, "/s", ideal, who, 0.9))
        over = statistics.median(
            lossy["seconds"] - count / best for (_, _, lossy), best in zip(turns, ideals, strict=True)
        )
        ok = over <= 1 and not wrong
        label = f"{name}, 1 % lost: over ideal"
        table.append(BenchRow(label, over, "s", count / ideal, who, None, 1.0, ok))
    return table


def _turn(folder: Path, in_flight: int, count: int) -> tuple[float, dict[str, float], dict[str, float]]:
    """What dnsperf does, ours, and ours with one percent lost: in turn, as the machine changes."""
    with _responder(folder, 20):
        could = _dnsperf(folder, in_flight, max(1, in_flight // 500))
        plain = _ask("sweep", count, ZONES, in_flight)
    with _responder(folder, 20, 0.01):
        return could, plain, _ask("sweep", count, ZONES, in_flight)


def _truth(folder: Path, count: int) -> BenchRow:
    """1 percent of time-outs and 1 percent of SERVFAIL: how many verdicts are false."""
    with _responder(folder, 0, 0.01, 0.01):
        found = _ask("sweep", count, ZONES)
    name = f"false verdicts in {count} with 1 % lost, 1 % SERVFAIL"
    return BenchRow(name, found["wrong"], "", found["unknown"], "left unknown", None, 0, not found["wrong"])


def _memory(folder: Path, full: bool) -> BenchRow:
    """Five million pairs: swept in full, or only made ready."""
    if not full:
        found = _ask("memory", 5_000_000, ZONES)
        return BenchRow(
            "memory for 5,000,000 pairs", found["rss"], "MiB", None, "", None, 300, found["rss"] < 300
        )
    server = _rbldnsd(folder)
    try:
        found = _ask("sweep", 5_000_000, ZONES)
    finally:
        server.terminate()
        server.wait(10)
    ok = found["grown"] < 300 and not found["wrong"]
    name = f"memory for 5,000,000 pairs, swept at {found['rate']:.0f} /s"
    return BenchRow(name, found["grown"], "MiB", None, "", None, 300, ok)


def _print(table: list[BenchRow]) -> None:
    for row in table:
        peer = f"{row.peer:.1f} {row.peer_name}" if row.peer is not None else row.peer_name
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
        goal = f"{row.goal:g}" if row.goal is not None else "-"
        word = {True: "ok", False: "MISSED", None: ""}[row.ok]
        print(f"{row.name:54} {row.figure:12.1f} {row.unit:4} {peer:28} {ratio:>6} {goal:>6} {word}")


if __name__ == "__main__":
    if "--inside" in sys.argv:
        found_rows = _inside("--quick" not in sys.argv)
        print(json.dumps([{name: getattr(row, name) for name in BenchRow.__slots__} for row in found_rows]))
    else:
        _print(rows("--quick" not in sys.argv))
