"""Who lives where: the lab's folder, its addresses and its names. Pure data, shared by every other module."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ADDRESSES: Final = {
    "relay": "0.10",
    "mx-a": "0.20",
    "imap-a": "0.21",
    "mx-b": "0.30",
    "imap-b": "0.31",
    "oauth": "0.40",
    "resolver": "0.53",
    "authority": "0.54",
    "rbl": "0.55",
    "lame": "0.56",
    "imap-relay": "0.11",
    "limited-relay": "0.12",
    "limited-a": "0.22",
    "limited-b": "0.32",
}
"""Last two numbers of each server's address; the first two are 127 and 100 + slot."""

USERS: Final = 1000
"""Ready-made mailboxes u0001..u1000 at each host; `Lab.fresh_user` hands out each once."""

PLAIN_PORT: Final = 2525
"""The relay's submission port without TLS, for loopback only."""


@dataclass(frozen=True)
class Sender:
    """One origin of mail: a From domain with its own source address, HELO name and DNS records."""

    name: str
    domain: str
    last_bytes: str
    dmarc: str | None
    """Text of the DMARC record; None: the domain publishes neither SPF, DKIM nor DMARC."""
    relayed: bool = True
    """Leaves through the submission relay; otherwise the test itself connects to the MX."""

    @property
    def helo(self) -> str:
        """HELO name, which is also the PTR name of the source address."""
        return f"out.{self.domain}"

    @property
    def return_path(self) -> str:
        """A mailbox that receives this sender's bounces."""
        return f"bounce@{self.domain}"


SENDERS: Final = {
    s.name: s
    for s in (
        Sender("app", "sender.test", "1.1", "v=DMARC1; p=quarantine"),
        Sender("bulk", "sender2.test", "1.2", "v=DMARC1; p=quarantine"),
        Sender("direct", "direct.test", "1.3", "v=DMARC1; p=quarantine", relayed=False),
        Sender("strict", "reject.test", "1.4", "v=DMARC1; p=reject"),
        Sender("noauth", "noauth.test", "1.5", None),
    )
}

MAIL_DOMAINS: Final = {
    "relay": tuple(s.domain for s in SENDERS.values()),
    "a": ("provider-a.test",),
    "b": ("provider-b.test",),
}
"""Domains whose mailboxes each host holds; the first is where its ready-made users live."""

NAMED_USERS: Final = {"relay": ("bounce", "postmaster"), "a": ("seed", "full"), "b": ("seed", "full")}

MX_NAMES: Final = {"relay": "smtp.sender.test", "a": "mx.provider-a.test", "b": "mx.provider-b.test"}
IMAP_NAMES: Final = {"relay": "imap.sender.test", "a": "imap.provider-a.test", "b": "imap.provider-b.test"}


@dataclass(frozen=True)
class Layout:
    """One lab's folder and address block."""

    root: Path
    slot: int

    def ip(self, host: str) -> str:
        """Address of a server by its key in ADDRESSES, or of a sender by its name."""
        tail = ADDRESSES[host] if host in ADDRESSES else SENDERS[host].last_bytes
        return f"127.{100 + self.slot}.{tail}"

    def mx_ip(self, host: str) -> str:
        """Address of the SMTP server of "relay", "a" or "b"."""
        return self.ip("relay" if host == "relay" else f"mx-{host}")

    def folder(self, name: str, mode: int = 0o755) -> Path:
        """A folder below the root, made when missing, traversable by the daemons' own users."""
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(mode)
        return path

    @property
    def run(self) -> Path:
        """Folder of the UNIX sockets; every daemon's user may write there."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """Folder of the logs; `syslog` is the ground truth."""
        return self.root / "log"


def addresses(host: str) -> tuple[str, ...]:
    """Every mailbox at a host: named users in each of its domains, then the ready-made ones."""
    domains = MAIL_DOMAINS[host]
    named = [f"{local}@{domain}" for domain in domains for local in NAMED_USERS[host]]
    return (*named, *(f"u{n:04d}@{domains[0]}" for n in range(1, USERS + 1)))


def password(address: str) -> str:
    """The password of a mailbox or a submission user."""
    return f"pw-{address.partition('@')[0]}-9f3c"


@dataclass(frozen=True)
class Daemon:
    """A program run inside the namespace, in the foreground."""

    name: str
    argv: tuple[str, ...]
    listens: tuple[str, ...] = ()
    """Where it must accept before it counts as started: "ip:port" (TCP) or the path of a UNIX socket."""
