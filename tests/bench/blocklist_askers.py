"""What asks in the blocklist benchmark: each in a process of its own."""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

LISTED = {(1, 7), *((3, last) for last in range(64))}  # 10.0.x.y, as in the server's data


def addresses(count: int) -> list[str]:
    """10.0.0.0 upwards."""
    return [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(count)]


def _rss() -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def sweep(lookups: int, zones: int, in_flight: int = 200) -> dict[str, float]:
    """Ours, controls and all."""
    from probes.blocklists.catalogue import unlisted_zone
    from probes.blocklists.check import Listing
    from probes.blocklists.judge import Reason
    from probes.blocklists.query import parse_subject
    from probes.blocklists.sweep import Sweep

    gc.collect()
    before = _rss()
    subjects = [parse_subject(a) for a in addresses(lookups // zones)]
    names = [unlisted_zone(f"z{number}.example") for number in range(zones)]
    found: list[Listing] = []
    work = Sweep(subjects, names, "127.0.0.1", in_flight=in_flight, on_listing=found.append, retry_after=1.0)
    del subjects
    started, cpu = time.perf_counter(), _cpu()
    report = await work.run()
    seconds, cpu = time.perf_counter() - started, _cpu() - cpu
    right = {f"10.0.{third}.{last}" for third, last in LISTED} & set(addresses(lookups // zones))
    hits = {(x.subject, x.zone) for x in found}
    expected = {(address, zone.name) for address in right for zone in names}
    unknown = sum(1 for _ in work.unknown())
    definite = report.total(Reason.LISTED) + report.total(Reason.NOT_LISTED)
    missed = {(s.text, z.name) for s, z, _ in work.unknown()}
    wrong = (
        len(hits - expected) + len(expected - hits - missed) + (lookups // zones * zones - definite - unknown)
    )
    return {
        "rate": lookups / seconds,
        "seconds": seconds,
        "cpu": cpu / lookups,
        "wrong": wrong,
        "unknown": unknown,
        "resent": report.resent,
        "rss": _rss(),
        "grown": _rss() - before,
    }


def pydnsbl(lookups: int, zones: int) -> dict[str, float]:
    """pydnsbl's own bulk check, 200 in flight, through the system's resolver setting."""
    from pydnsbl import DNSBLIpChecker
    from pydnsbl.providers import Provider

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    checker = DNSBLIpChecker(providers=[Provider(f"z{n}.example") for n in range(zones)], loop=loop)
    subjects = addresses(lookups // zones)
    started, cpu = time.perf_counter(), _cpu()
    found = checker.bulk_check(subjects)
    seconds, cpu = time.perf_counter() - started, _cpu() - cpu
    failed = sum(len(x.failed_providers) for x in found)
    return {"rate": lookups / seconds, "cpu": cpu / lookups, "failed": failed}


async def dnspython(lookups: int, zones: int) -> dict[str, float]:
    """dnspython's async resolver, 200 in flight."""
    import dns.asyncresolver
    import dns.resolver

    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    queue = iter(
        f"{'.'.join(reversed(a.split('.')))}.z{n}.example"
        for a in addresses(lookups // zones)
        for n in range(zones)
    )

    async def hand() -> None:
        for name in queue:
            with suppress(dns.resolver.NXDOMAIN, dns.resolver.LifetimeTimeout):
                await resolver.resolve(name, "A")

    started, cpu = time.perf_counter(), _cpu()
    await asyncio.gather(*(hand() for _ in range(200)))
    seconds, cpu = time.perf_counter() - started, _cpu() - cpu
    return {"rate": lookups / seconds, "cpu": cpu / lookups}


def dnsbl_exporter(lookups: int, zones: int) -> dict[str, float]:
    """One scrape of dnsbl_exporter, by its own clock: one question after the other, as it works."""
    with tempfile.TemporaryDirectory() as name:
        lists, targets = Path(name, "rbls.ini"), Path(name, "targets.ini")
        lists.write_text(
            "[rbl]\n" + "".join(f"server=z{n}.example\n" for n in range(zones)), encoding="ascii"
        )
        hosts = "".join(f"server={a}\n" for a in addresses(lookups // zones))
        targets.write_text(f"[targets]\n{hosts}", encoding="ascii")
        words = ["--config.rbls", str(lists), "--config.targets", str(targets)]
        words += ["--config.dns-resolver", "127.0.0.1:53", "--web.listen-address", "127.0.0.1:9211"]
        server = subprocess.Popen(["dnsbl-exporter", *words], stdout=subprocess.DEVNULL)
        try:
            text = _scrape("http://127.0.0.1:9211/metrics")
        finally:
            server.terminate()
            server.wait(10)
    seconds = next(float(x.split()[-1]) for x in text.splitlines() if x.startswith("luzilla_rbls_duration"))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"rate": lookups / seconds, "cpu": (used.ru_utime + used.ru_stime) / lookups}


def _scrape(url: str) -> str:
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=120) as answer:
                return str(answer.read(), "utf-8")
        except urllib.error.URLError:  # it is not listening yet
            time.sleep(0.05)
    raise TimeoutError("dnsbl_exporter does not answer")


async def wait() -> dict[str, float]:
    """Returns when the server answers."""
    from probes.dns_client import DnsResolver

    resolver = DnsResolver(["127.0.0.1"], timeout=0.5, cache=0)
    for _ in range(60):
        if (await resolver.query("2.0.0.127.z0.example", "A")).records:
            return {}
        await asyncio.sleep(0.1)
    raise TimeoutError("the list server does not answer")


if __name__ == "__main__":
    who, *words = sys.argv[1:]
    numbers = [int(word) for word in words]
    if who in ("sweep", "dnspython", "wait"):
        print(json.dumps(asyncio.run(globals()[who](*numbers))))
    else:
        print(json.dumps(globals()[who](*numbers)))
