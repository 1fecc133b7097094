"""DNSBL zones of every behaviour that a sweep meets (GUARANTEES G7), and listings made at run time."""

import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import dns.message
import dns.query
import dns.rdatatype
import dns.reversename

from .layout import Daemon, Layout
from .namespace import LabError

if TYPE_CHECKING:
    from .dns import Dns
    from .namespace import Namespace

Truth = Literal["exact", "unknown"]


@dataclass(frozen=True)
class Blocklist:
    """One zone: how it behaves, and what an honest sweep may conclude from it."""

    behaviour: str
    zone: str
    kind: Literal["ip", "domain"]
    truth: Truth
    """exact: listed or not as `list_` says; unknown: nothing may be concluded, ever."""
    served_by: Literal["rbldnsd", "knot", "unbound", "nobody"]
    unbound: str = ""
    records: tuple[tuple[str, str, str], ...] = field(default=())
    """For Knot: absolute name, type, value."""
    test_points: tuple[str, ...] = ()
    """For rbldnsd: entries that are always there."""


def _everything(zone: str, answer: str) -> tuple[tuple[str, str, str], ...]:
    return ((f"*.{zone}.", "A", answer), (f"*.{zone}.", "TXT", '"see the operator\'s site"'))


def _wild(behaviour: str, answer: str) -> Blocklist:
    zone = f"{behaviour}.dnsbl.test"
    return Blocklist(behaviour, zone, "ip", "unknown", "knot", records=_everything(zone, answer))


IP_POINTS: Final = ("127.0.0.2",)

_ALL: Final = (
    Blocklist("healthy", "healthy.dnsbl.test", "ip", "exact", "rbldnsd", test_points=IP_POINTS),
    Blocklist("healthy-2", "second.dnsbl.test", "ip", "exact", "rbldnsd", test_points=IP_POINTS),
    Blocklist("healthy-domain", "domains.dnsbl.test", "domain", "exact", "rbldnsd", test_points=("test",)),
    Blocklist("no-positive-control", "nopositive.dnsbl.test", "ip", "unknown", "rbldnsd"),
    Blocklist(
        "negative-control-listed",
        "badnegative.dnsbl.test",
        "ip",
        "unknown",
        "rbldnsd",
        test_points=("127.0.0.2", "127.0.0.1"),
    ),
    Blocklist("empty", "empty.dnsbl.test", "ip", "unknown", "rbldnsd"),
    Blocklist("dead-nxdomain", "gone.dnsbl.test", "ip", "unknown", "nobody"),
    Blocklist("dead-servfail", "broken.dnsbl.test", "ip", "unknown", "nobody"),
    _wild("lists-the-world", "127.0.0.2"),
    _wild("parked", "203.0.113.80"),
    _wild("error-typing", "127.255.255.252"),
    _wild("error-public-resolver", "127.255.255.254"),
    _wild("error-excessive", "127.255.255.255"),
    _wild("refused-127-0-0-1", "127.0.0.1"),
    Blocklist("times-out", "timeout.dnsbl.test", "ip", "unknown", "unbound", unbound="always_deny"),
    Blocklist("refuses", "refuses.dnsbl.test", "ip", "unknown", "unbound", unbound="always_refuse"),
)

ZONES: Final = {b.behaviour: b for b in _ALL}
RBL_ZONES: Final = tuple(b.zone for b in _ALL if b.served_by == "rbldnsd")
KNOT_ZONES: Final = tuple(b for b in _ALL if b.served_by == "knot")
UNBOUND_ZONES: Final = tuple((b.zone, b.unbound) for b in _ALL if b.served_by == "unbound")
BROKEN_ZONES: Final = ("broken.dnsbl.test.",)


def rbldnsd(layout: Layout) -> Daemon:
    """Serves the zones that listings are made in, from files it reads again when told."""
    folder = layout.folder("rbl", 0o755)
    for b in _ALL:
        if b.served_by == "rbldnsd":
            write(layout, b, {})
    sets = tuple(
        f"{b.zone}:{'ip4set' if b.kind == 'ip' else 'dnset'}:{folder}/{b.zone}"
        for b in _ALL
        if b.served_by == "rbldnsd"
    )
    argv = (
        "rbldnsd",
        "-n",
        "-f",
        "-u",
        "rbldns",
        "-c",
        "1",
        "-t",
        "1",
        "-e",
        "-b",
        f"{layout.ip('rbl')}/53",
        *sets,
    )
    return Daemon("rbldnsd", argv)


def write(layout: Layout, zone: Blocklist, entries: dict[str, str]) -> None:
    """The data file of a zone: its test points and what tests listed."""
    head = ["$SOA 1 ns.test hostmaster.test 0 600 300 86400 1", "$NS 1 ns.test", ":127.0.0.2:listed, see $"]
    listed = [f"{subject} :{code}:listed by a test" for subject, code in entries.items()]
    path = layout.root / "rbl" / zone.zone
    scratch = path.with_suffix(".new")
    scratch.write_text("\n".join([*head, *zone.test_points, *listed]) + "\n")
    # rbldnsd compares whole seconds only: each version gets a second of its own, all of them past.
    version = int(path.stat().st_mtime) + 1 if path.exists() else int(time.time()) - 100_000
    os.utime(scratch, (version, version))
    scratch.replace(path)


class Blocklists:
    """Listings at run time."""

    def __init__(self, layout: Layout, dns_: "Dns", namespace: "Namespace") -> None:
        self._layout = layout
        self._dns = dns_
        self._namespace = namespace
        self._entries: dict[str, dict[str, str]] = {b.zone: {} for b in _ALL if b.served_by == "rbldnsd"}
        self.zones = dict(ZONES)

    def list_(self, zone: str, subject: str, code: str = "127.0.0.2") -> None:
        """Lists an IPv4 address or a domain; `zone` is a zone's name or a behaviour. Returns when the
        resolver says so."""
        name = self._name(zone)
        self._entries[name][subject] = code
        self._publish(name)
        self._wait(name, subject, code)

    def delist(self, zone: str, subject: str) -> None:
        """Takes a listing back; returns when the resolver says so."""
        name = self._name(zone)
        del self._entries[name][subject]
        self._publish(name)
        self._wait(name, subject, None)

    def reset(self) -> None:
        """No listings but the test points."""
        gone = [(name, subject) for name, entries in self._entries.items() for subject in entries]
        for name in {name for name, _ in gone}:
            self._entries[name].clear()
            self._publish(name)
        for name, subject in gone:
            self._wait(name, subject, None)

    def _name(self, zone: str) -> str:
        name = ZONES[zone].zone if zone in ZONES else zone
        if name not in self._entries:
            raise LabError(f"{zone}: listings can be made in {sorted(self._entries)} only")
        return name

    def _publish(self, zone: str) -> None:
        blocklist = next(b for b in _ALL if b.zone == zone)
        write(self._layout, blocklist, self._entries[zone])
        self._namespace.signal("rbldnsd", signal.SIGHUP)

    def _wait(self, zone: str, subject: str, code: str | None, timeout: float = 5) -> None:
        if subject.replace(".", "").isdigit():
            subject = ".".join(reversed(subject.split(".")))
        question = f"{subject}.{zone}."
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._dns.flush(zone)
            answer = dns.query.udp(dns.message.make_query(question, "A"), self._dns.server, timeout=2)
            found = {r.to_text() for rrset in answer.answer for r in rrset}
            if found == ({code} if code else set()):
                return
            time.sleep(0.02)
        raise LabError(f"{question} did not become {code} in {timeout} s")
