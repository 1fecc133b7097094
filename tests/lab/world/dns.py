"""Knot as the authority for everything, Unbound as the resolver that all ask; records changed at run time."""

import socket
from collections.abc import Iterable
from typing import Final, Literal

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.update

from .blocklists import KNOT_ZONES, RBL_ZONES, UNBOUND_ZONES
from .keys import DkimKey
from .layout import IMAP_NAMES, MAIL_DOMAINS, MX_NAMES, SENDERS, Daemon, Layout
from .namespace import LabError

Fault = Literal["servfail", "timeout", "refused", "nxdomain"]

UNBOUND_FAULTS: Final = {"timeout": "always_deny", "refused": "always_refuse", "nxdomain": "always_nxdomain"}
OPEN_ZONES: Final = (
    "test.",
    "provider-a.test.",
    "provider-b.test.",
    *(f"{s.domain}." for s in SENDERS.values()),
)


def reverse_zone(layout: Layout) -> str:
    """The reverse zone of the lab's /16."""
    return f"{100 + layout.slot}.127.in-addr.arpa."


def quoted(text: str) -> str:
    """A TXT value in presentation form, cut into strings of at most 255 bytes."""
    return " ".join(f'"{text[i : i + 255]}"' for i in range(0, len(text), 255))


def spf(ip: str) -> str:
    """The SPF record of a domain that sends from one address."""
    return f"v=spf1 ip4:{ip} -all"


class Zones:
    """The zone files, collected record by record."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._zones: dict[str, list[str]] = {zone: [] for zone in (".", *OPEN_ZONES, reverse_zone(layout))}

    def zone_of(self, name: str) -> str:
        """The longest zone that holds a name."""
        return max((z for z in self._zones if z == "." or f".{name}".endswith(f".{z}")), key=len)

    def add(self, name: str, kind: str, value: str) -> None:
        """A record; `name` is absolute, with its final dot."""
        self._zones[self.zone_of(name)].append(f"{name} 1 {kind} {value}")

    def host(self, name: str, ip: str) -> None:
        """An address and the PTR back to the name."""
        self.add(f"{name}.", "A", ip)
        self.add(f"{'.'.join(reversed(ip.split('.')))}.in-addr.arpa.", "PTR", f"{name}.")

    def write(self) -> list[str]:
        """Writes the files and returns the zones' names."""
        folder = self._layout.folder("zones", 0o777)
        for zone, records in self._zones.items():
            head = [f"{zone} 1 SOA ns.test. hostmaster.test. 1 3600 600 86400 1", f"{zone} 1 NS ns.test."]
            path = folder / f"{zone}zone"
            path.write_text("\n".join(head + records) + "\n")
            path.chmod(0o666)
        return list(self._zones)


def fill(zones: Zones, layout: Layout, keys: Iterable[DkimKey]) -> None:
    """Every record of the world as it is when all is well."""
    zones.host("ns.test", layout.ip("authority"))
    zones.host("oauth.test", layout.ip("oauth"))
    for host, domains in MAIL_DOMAINS.items():
        zones.host(MX_NAMES[host], layout.mx_ip(host))
        zones.host(IMAP_NAMES[host], layout.ip(f"imap-{host}"))
        for domain in domains:
            zones.add(f"{domain}.", "MX", f"10 {MX_NAMES[host]}.")
    for domain, host in (("provider-a.test", "a"), ("provider-b.test", "b")):
        zones.add(f"{domain}.", "TXT", quoted(spf(layout.mx_ip(host))))
        zones.add(f"{MX_NAMES[host]}.", "TXT", quoted("v=spf1 a -all"))
    for sender in SENDERS.values():
        zones.host(sender.helo, layout.ip(sender.name))
        if sender.dmarc is not None:
            zones.add(f"{sender.domain}.", "TXT", quoted(spf(layout.ip(sender.name))))
            zones.add(f"{sender.helo}.", "TXT", quoted("v=spf1 a -all"))
            zones.add(f"_dmarc.{sender.domain}.", "TXT", quoted(sender.dmarc))
    for key in keys:
        zones.add(f"{key.selector}._domainkey.{key.domain}.", "TXT", quoted(key.record))
    for zone in KNOT_ZONES:
        for name, kind, value in zone.records:
            zones.add(name, kind, value)


def knot(layout: Layout, zones: Iterable[str], broken: Iterable[str]) -> Daemon:
    """The authority; a zone of `broken` has no file and so answers SERVFAIL."""
    conf = layout.root / "knot.conf"
    folder, store = layout.root / "zones", layout.folder("knot", 0o777)
    listed = "".join(f'  - domain: "{z}"\n    file: "{folder}/{z}zone"\n' for z in (*zones, *broken))
    conf.write_text(
        f"""server:
    rundir: "{store}"
    listen: "{layout.ip("authority")}@53"
    user: knot:knot
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: "{store}"
acl:
  - id: tests
    address: 127.0.0.0/8
    action: [update, transfer]
template:
  - id: default
    storage: "{store}"
    acl: tests
    zonefile-sync: -1
    zonefile-load: whole
    journal-content: changes
zone:
{listed}"""
    )
    return Daemon("knot", ("knotd", "-c", str(conf)), (f"{layout.ip('authority')}:53",))


def unbound(layout: Layout) -> Daemon:
    """The resolver: remembers nothing for longer than a second, has no built-in answers for our names."""
    rbl = "".join(
        f'stub-zone:\n  name: "{zone}"\n  stub-addr: {layout.ip("rbl")}\n  stub-prime: no\n'
        for zone in RBL_ZONES
    )
    faults = "".join(f'  local-zone: "{name}" {kind}\n' for name, kind in UNBOUND_ZONES)
    conf = layout.root / "unbound.conf"
    conf.write_text(
        f"""server:
  interface: {layout.ip("resolver")}
  access-control: 127.0.0.0/8 allow
  chroot: ""
  directory: "{layout.root}"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  username: unbound
  num-threads: 1
  do-ip6: no
  do-not-query-localhost: no
  module-config: "iterator"
  cache-max-ttl: 1
  cache-max-negative-ttl: 1
  infra-host-ttl: 1
  qname-minimisation: no
  local-zone: "test." nodefault
  local-zone: "127.in-addr.arpa." nodefault
{faults}remote-control:
  control-enable: yes
  control-interface: {layout.run}/unbound.ctl
  control-use-cert: no
stub-zone:
  name: "."
  stub-addr: {layout.ip("authority")}
  stub-prime: no
{rbl}"""
    )
    return Daemon("unbound", ("unbound", "-d", "-c", str(conf)), (f"{layout.ip('resolver')}:53",))


class Dns:
    """Changes what the world's DNS says, and takes it back."""

    def __init__(self, layout: Layout, zones: Zones) -> None:
        self._layout = layout
        self._zones = zones
        self._before: dict[tuple[str, str], tuple[str, ...]] = {}
        self._faults: dict[str, Fault] = {}
        self.server = layout.ip("resolver")

    def set(self, name: str, kind: str, *values: str) -> None:
        """Replaces all records of one type. A TXT value is plain text; others are in presentation form."""
        self._remember(name, kind)
        self._apply(name, kind, values)

    def delete(self, name: str, kind: str) -> None:
        """Removes all records of one type."""
        self.set(name, kind)

    def get(self, name: str, kind: str) -> tuple[str, ...]:
        """What the authority answers, in presentation form (TXT as plain text); () where there is nothing."""
        query = dns.message.make_query(absolute(name), kind)
        answer = dns.query.udp(query, self._layout.ip("authority"), timeout=3, raise_on_truncation=False)
        if answer.flags & dns.flags.TC:
            answer = dns.query.tcp(query, self._layout.ip("authority"), timeout=3)
        wanted = dns.rdatatype.from_text(kind)
        found = [rdata for rrset in answer.answer if rrset.rdtype == wanted for rdata in rrset]
        if wanted == dns.rdatatype.TXT:
            return tuple(b"".join(rdata.strings).decode() for rdata in found)
        return tuple(rdata.to_text() for rdata in found)

    def _remember(self, name: str, kind: str) -> None:
        key = (absolute(name), kind.upper())
        if key not in self._before:
            self._before[key] = self.get(name, kind)

    def _apply(self, name: str, kind: str, values: Iterable[str]) -> None:
        full = absolute(name)
        update = dns.update.UpdateMessage(self._zones.zone_of(full))
        update.delete(full, kind)
        for value in values:
            update.add(full, 1, kind, quoted(value) if kind.upper() == "TXT" else value)
        answer = dns.query.tcp(update, self._layout.ip("authority"), timeout=5)
        if answer.rcode() != dns.rcode.NOERROR:
            raise LabError(f"DNS update of {name} {kind}: {dns.rcode.to_text(answer.rcode())}")
        self.flush(name)

    def flush(self, name: str) -> None:
        """Makes the resolver forget a name and all below it."""
        self.control(f"flush_zone {name}")

    def control(self, command: str) -> str:
        """One order over unbound's control socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self._layout.run / "unbound.ctl"))
            client.sendall(f"UBCT1 {command}\n".encode())
            answer = b""
            while data := client.recv(4096):
                answer += data
        if answer.startswith(b"error"):
            raise LabError(f"unbound-control {command}: {answer.decode().strip()}")
        return answer.decode()

    def resolves(self, name: str) -> bool:
        """Whether the resolver has records of any kind for a name now."""
        try:
            answer = dns.query.udp(dns.message.make_query(absolute(name), "ANY"), self.server, timeout=1)
        except (dns.exception.Timeout, OSError):
            return False
        return bool(answer.answer)

    def fault(self, zone: str, kind: Fault | None) -> None:
        """Makes the resolver fail for a zone and all below it: silence, REFUSED, SERVFAIL, NXDOMAIN; None
        repairs."""
        old = self._faults.pop(zone, None)
        if old == "servfail":
            self.control(f"forward_remove {zone}")
        elif old is not None:
            self.control(f"local_zone_remove {zone}")
        if kind == "servfail":
            # rbldnsd knows nothing of these zones and refuses, which a resolver tells as SERVFAIL.
            self.control(f"forward_add {zone} {self._layout.ip('rbl')}")
        elif kind is not None:
            self.control(f"local_zone {zone} {UNBOUND_FAULTS[kind]}")
        if kind is not None:
            self._faults[zone] = kind
        self.flush(zone)
        self.control("flush_infra all")

    def reset(self) -> None:
        """Every record and zone as at the start."""
        for zone in list(self._faults):
            self.fault(zone, None)
        for (name, kind), values in list(self._before.items()):
            self._apply(name, kind, values)
        self._before.clear()


def absolute(name: str) -> str:
    """A name with its final dot, in lower case."""
    return name.lower().rstrip(".") + "."
