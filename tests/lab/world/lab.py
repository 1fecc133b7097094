"""The lab as tests hold it: started, asked, hurt, repaired and stopped."""

import atexit
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import rsa

from . import blocklists, dns, dovecot, opendkim, opendmarc, policy, postfix, rspamd, spamassassin
from .keys import Authority, DkimKey, ed25519_key, rsa_key, rsa_record
from .layout import (
    IMAP_NAMES,
    MAIL_DOMAINS,
    MX_NAMES,
    PLAIN_PORT,
    SENDERS,
    USERS,
    Daemon,
    Layout,
    Sender,
    password,
)  # fmt: skip
from .log import Delivery, DeliveryLog
from .namespace import LabError, Namespace, take_slot
from .packages import why_not

SELECTORS: Final = ("mail", "ed")
"""DKIM selectors: RSA, and Ed25519 (of the direct sender only)."""

GTUBE: Final = f"{rspamd.GTUBE}\r\n{spamassassin.GTUBE}"
"""Two lines that make either provider file a message as spam (rspamd alone would reject the second one)."""


@dataclass(frozen=True)
class User:
    """A mailbox and how to open it."""

    address: str
    password: str
    imap_host: str
    imap_ip: str
    imap_port: int = 993
    plain_port: int = 143


@dataclass(frozen=True)
class Relay:
    """A submission server's listener for one sender. `host` is the certificate's name, `ip` where to
    connect."""

    sender: Sender
    host: str
    ip: str
    username: str
    password: str
    tls_port: int = 465
    starttls_port: int = 587
    plain_port: int = PLAIN_PORT


@dataclass(frozen=True)
class DirectSender:
    """What a test needs to deliver straight to an MX and pass SPF, DKIM and DMARC."""

    domain: str
    source_ip: str
    helo: str
    return_path: str
    rsa: DkimKey
    ed25519: DkimKey


@dataclass(frozen=True)
class Provider:
    """A receiving provider."""

    name: str
    domain: str
    mx_host: str
    mx_ip: str
    imap_host: str
    imap_ip: str
    authserv_ids: tuple[str, ...]
    junk: str = "Junk"
    mx_port: int = 25


class Dkim:
    """Breaks a sender's DKIM by publishing another key, which is how it breaks in life."""

    def __init__(self, dns_: dns.Dns, keys: dict[str, list[DkimKey]], other: str) -> None:
        self._dns = dns_
        self._keys = keys
        self._other = other

    def break_(self, domain: str) -> None:
        """The published RSA key is another's; an Ed25519 key is withdrawn."""
        for key in self._keys[domain]:
            values = () if "k=ed25519" in key.record else (self._other,)
            self._dns.set(f"{key.selector}._domainkey.{domain}", "TXT", *values)

    def repair(self, domain: str) -> None:
        """The right keys again."""
        for key in self._keys[domain]:
            self._dns.set(f"{key.selector}._domainkey.{domain}", "TXT", key.record)


class Spf:
    """Breaks a sender's SPF."""

    def __init__(self, dns_: dns.Dns, layout: Layout) -> None:
        self._dns = dns_
        self._layout = layout

    def break_(self, domain: str) -> None:
        """The record allows nobody."""
        self._dns.set(domain, "TXT", "v=spf1 -all")

    def repair(self, domain: str) -> None:
        """The record allows the sender's address again."""
        sender = next(s for s in SENDERS.values() if s.domain == domain)
        self._dns.set(domain, "TXT", dns.spf(self._layout.ip(sender.name)))


class Lab:
    """A running world. Make one with `Lab.start()`; it is a context manager."""

    def __init__(
        self, layout: Layout, namespace: Namespace, zones: dns.Zones, keys: dict[str, list[DkimKey]]
    ) -> None:
        self.layout = layout
        self.namespace = namespace
        self.started_in = 0.0
        self.folder = layout.root
        self.ca_file = layout.root / "tls" / "ca.pem"
        self.expired_certificate = layout.root / "tls" / "mx-relay-expired.pem"
        self.resolver_ip = layout.ip("resolver")
        self.resolver = f"{self.resolver_ip}:53"
        self.dns = dns.Dns(layout, zones)
        self.blocklists = blocklists.Blocklists(layout, self.dns, namespace)
        self.dkim = Dkim(self.dns, keys, rsa_record_of_nobody())
        self.spf = Spf(self.dns, layout)
        self.oauth = policy.OAuthTokens(layout)
        self.log = DeliveryLog(layout.logs / "syslog")
        self._keys = keys
        self._policies = {host: policy.Policy(layout, host) for host in MX_NAMES}
        self._postfixes = {h: postfix.Postfix(layout, h, namespace, self._policies[h]) for h in MX_NAMES}
        self._mailboxes = {host: dovecot.Mailboxes(layout, host, namespace) for host in IMAP_NAMES}
        self._next_user = dict.fromkeys(MX_NAMES, 0)

    @classmethod
    def start(cls) -> Self:
        """Starts a world; returns when every server accepts. LabError says what did not come up and why."""
        if reason := why_not():
            raise LabError(reason)
        began = time.monotonic()
        root = Path(tempfile.mkdtemp(prefix="mailcanary-lab-"))
        slot, lock = take_slot()
        layout = Layout(root, slot)
        try:
            daemons, zones, keys = _prepare(layout)
            namespace = Namespace(root, lock)
        except BaseException:
            lock.close()
            shutil.rmtree(root, ignore_errors=True)
            raise
        lab = cls(layout, namespace, zones, keys)
        atexit.register(lab.stop)
        try:
            for daemon in daemons:
                namespace.start(daemon)
            namespace.wait(daemons)
            lab._wait_for_dns()
        except BaseException:
            lab.stop()
            raise
        lab.started_in = time.monotonic() - began
        return lab

    def _wait_for_dns(self) -> None:
        deadline = time.monotonic() + 10
        for name in ("provider-a.test", "2.0.0.127.healthy.dnsbl.test"):
            while not self.dns.resolves(name):
                if time.monotonic() > deadline:
                    raise LabError(f"the resolver does not know {name}")
                time.sleep(0.02)

    def stop(self) -> None:
        """Ends everything and removes the folder; a second call does nothing."""
        atexit.unregister(self.stop)
        self.namespace.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def relay(self, name: str = "app") -> Relay:
        """The submission server as one sender uses it: app, bulk, strict (p=reject) or noauth (publishes
        nothing)."""
        return Relay(SENDERS[name], MX_NAMES["relay"], self.layout.mx_ip("relay"), name, password(name))

    @property
    def direct_sender(self) -> DirectSender:
        """The sender that delivers by itself."""
        sender = SENDERS["direct"]
        first, second = self._keys[sender.domain]
        return DirectSender(
            sender.domain, self.layout.ip("direct"), sender.helo, sender.return_path, first, second
        )

    def source_ip(self, name: str) -> str:
        """The address that a sender's mail comes from."""
        return self.layout.ip(name)

    def provider(self, name: str) -> Provider:
        """Provider a (rspamd) or b (OpenDMARC and SpamAssassin)."""
        ids = {"a": (MX_NAMES["a"],), "b": (opendmarc.AUTHSERV, opendmarc.SPF_AUTHSERV)}[name]
        mx, imap = self.layout.mx_ip(name), self.layout.ip(f"imap-{name}")
        return Provider(name, MAIL_DOMAINS[name][0], MX_NAMES[name], mx, IMAP_NAMES[name], imap, ids)

    def user(self, address: str) -> User:
        """Any mailbox, such as seed@provider-a.test, full@provider-b.test (quota 8 KiB) or
        bounce@sender.test."""
        host = next(h for h, domains in MAIL_DOMAINS.items() if address.partition("@")[2] in domains)
        return User(address, password(address), IMAP_NAMES[host], self.layout.ip(f"imap-{host}"))

    def fresh_user(self, provider: str) -> User:
        """A mailbox that nobody has used in this session; at "relay" one that can be a return path."""
        self._next_user[provider] += 1
        number = self._next_user[provider]
        if number > USERS:
            raise LabError(f"all {USERS} mailboxes of {provider} are used")
        return self.user(f"u{number:04d}@{MAIL_DOMAINS[provider][0]}")

    def policy(self, provider: str) -> policy.Policy:
        """Rules of an MX: a, b, or relay (submission and the senders' own MX)."""
        return self._policies[provider]

    def postfix(self, host: str) -> postfix.Postfix:
        """The queue of a, b or relay."""
        return self._postfixes[host]

    def imap(self, provider: str) -> dovecot.Mailboxes:
        """The mailboxes of a, b or relay (where bounces return to)."""
        return self._mailboxes[provider]

    def bounce_after_accept(
        self, provider: str, recipient: str, text: str = "5.1.1 no such user here"
    ) -> None:
        """The provider takes mail for this recipient and then returns a DSN."""
        self.policy(provider).bounce_after_accept(recipient, text)

    def delivery_log(self, wanted: str) -> list[Delivery]:
        """Every step, by Message-ID or token, in time order."""
        return self.log.of(wanted)

    @contextmanager
    def name_resolution(self) -> Iterator[None]:
        """Within it, `socket.getaddrinfo` of this process asks the lab: for libraries that resolve names
        themselves."""
        original = socket.getaddrinfo
        socket.getaddrinfo = _through_lab(original, self.dns)  # type: ignore[assignment]
        try:
            yield
        finally:
            socket.getaddrinfo = original

    def reset(self) -> None:
        """Takes back every rule, record, listing, freeze and hold. Mailboxes keep their mail: take a fresh
        user."""
        for mailboxes in self._mailboxes.values():
            mailboxes.reset()
        for rules in self._policies.values():
            rules.reset()
        for queue in self._postfixes.values():
            queue.reset()
        self.blocklists.reset()
        self.dns.reset()


def _through_lab(original: Callable[..., object], dns_: dns.Dns) -> Callable[..., object]:
    def getaddrinfo(host: str | bytes | None, *args: object, **kwargs: object) -> object:
        name = host.decode() if isinstance(host, bytes) else host
        if name and name.rstrip(".").endswith(".test"):
            found = dns_.get(name, "A")
            if not found:
                raise socket.gaierror(socket.EAI_NONAME, f"{name} is not known in the lab")
            return original(found[0], *args, **kwargs)
        return original(host, *args, **kwargs)

    return getaddrinfo


def rsa_record_of_nobody() -> str:
    """A well-formed key record whose private key nobody has."""
    return rsa_record(rsa.generate_private_key(public_exponent=65537, key_size=2048))


def _keys(layout: Layout) -> dict[str, list[DkimKey]]:
    folder = layout.folder("dkim")
    keys = {
        s.domain: [rsa_key(folder, s.domain, SELECTORS[0])] for s in SENDERS.values() if s.dmarc is not None
    }
    direct = SENDERS["direct"].domain
    keys[direct].append(ed25519_key(folder, direct, SELECTORS[1]))
    return keys


def _etc(layout: Layout) -> None:
    etc = layout.folder("etc")
    (etc / "resolv.conf").write_text(f"nameserver {layout.ip('resolver')}\noptions timeout:2 attempts:2\n")
    # Without its own name there, daemons wait for seconds at their start.
    (etc / "hosts").write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
    (etc / "nsswitch.conf").write_text(
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n"
    )


def _prepare(layout: Layout) -> tuple[list[Daemon], dns.Zones, dict[str, list[DkimKey]]]:
    """Writes everything the daemons read."""
    layout.root.chmod(0o755)
    for name in ("run", "tmp"):
        layout.folder(name, 0o1777)
    layout.folder("log")
    _etc(layout)
    authority = Authority(layout.folder("tls"))
    for host in MX_NAMES:
        authority.certificate(f"mx-{host}", [MX_NAMES[host]], [layout.mx_ip(host)])
        authority.certificate(
            f"imap-{host}", [IMAP_NAMES[host]], [layout.ip(f"imap-{host}"), layout.ip(f"limited-{host}")]
        )
    authority.certificate("mx-relay-expired", [MX_NAMES["relay"]], [layout.mx_ip("relay")], -30, -1)
    keys = _keys(layout)
    zones = dns.Zones(layout)
    dns.fill(zones, layout, [key for several in keys.values() for key in several])
    opendmarc.policyd_spf(layout)
    signed = [keys[s.domain][0] for s in SENDERS.values() if s.relayed and s.domain in keys]
    daemons = [
        # The slowest first: they start side by side.
        *spamassassin.spamassassin(layout),
        rspamd.rspamd(layout),
        opendmarc.dkimpy(layout),
        policy.helpers(layout),
        dns.knot(layout, zones.write(), blocklists.BROKEN_ZONES),
        dns.unbound(layout),
        blocklists.rbldnsd(layout),
        opendkim.opendkim(layout, signed),
        opendmarc.opendmarc(layout),
        *(dovecot.dovecot(layout, host) for host in IMAP_NAMES),
        postfix.relay(layout),
        postfix.provider_a(layout),
        postfix.provider_b(layout),
    ]
    return daemons, zones, keys
