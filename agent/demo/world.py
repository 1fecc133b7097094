"""The whole small mail world: DNS, three providers, two relays, receivers; and what the story does to it."""

from __future__ import annotations

import random
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from agent.demo.authority import Authority, dkim_key
from agent.demo.mailbox import ImapServer
from agent.demo.names import Names, NameServer
from agent.demo.provider import Filed, Plan, Provider
from agent.demo.receivers import Receivers
from agent.demo.relay import Login, Relay
from probes.authentication.sign import DkimKeyPair, load_key
from probes.clock import Clock
from probes.dns import Resolver
from probes.dns_client import DnsResolver
from probes.errors import Unavailable

DNS_IP = "127.53.0.1"
ZONE = "bl.blocks.example"
DOMAIN_ZONE = "dbl.blocks.example"
SELECTOR = "s1"
_PORT_TRIES = 50

PROVIDERS = (
    Plan("northmail", "dovecot", "127.53.1.1", "Junk", 0.2),
    Plan("bluepost", "cyrus", "127.53.1.2", "Spam", 0.5),
    Plan("quickbox", "stalwart", "127.53.1.3", "Junk Email", 0.9),
)


@dataclass(frozen=True, slots=True)
class Origin:
    """A sender of the story. way: tls or starttls (its relay's), or direct; return_path: where SPF looks."""

    name: str
    title: str
    ip: str
    way: str
    return_path: str

    @property
    def domain(self) -> str:
        """Its author domain, which signs."""
        return f"{self.name}.example"

    @property
    def host(self) -> str:
        """The host its mail comes from."""
        return f"mail.{self.domain}"


# The shop's bounces go to its mailing service: SPF passes there but does not align, so that DMARC hangs on
# its DKIM signature alone, as for most mail that is sent through a service.
ORIGINS = (
    Origin("accounts", "Accounts", "127.53.2.1", "tls", "bounces@accounts.example"),
    Origin("news", "Newsletter", "127.53.2.2", "starttls", "bounces@news.example"),
    Origin("shop", "Shop", "127.53.2.3", "direct", "bounces@mailservice.example"),
)
VICTIM = ORIGINS[2]


class World:
    """Everything the agent meets. Use as an async context manager; nothing leaves the loopback."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.folder = folder
        self.clock = clock
        self.authority = Authority(folder)
        self.names = Names()
        self.dns = NameServer(self.names, DNS_IP)
        self.receivers = Receivers()
        self.keys = {origin.name: DkimKeyPair(origin.domain, SELECTOR, dkim_key()) for origin in ORIGINS}
        self.passwords = {plan.name: secrets.token_urlsafe(18) for plan in PROVIDERS}
        self.providers: list[Provider] = []
        self.relays: dict[str, Relay] = {}
        self.mx_port = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> World:
        try:
            await self.dns.start()
            self._stack.push_async_callback(self.dns.stop)
            self._publish()
            await self._open_providers()
            for origin in ORIGINS:
                if origin.way != "direct":
                    await self._open_relay(origin)
            await self.receivers.start()
            self._stack.push_async_callback(self.receivers.stop)
        except OSError as error:
            await self._stack.aclose()
            raise Unavailable(
                f"the demo's servers cannot open their ports on 127.53.0.0/16: {error}"
            ) from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _publish(self) -> None:
        """The zones of senders and providers, their reverse names, and the blocklists' test points."""
        names = self.names
        for origin in ORIGINS:
            names.host(origin.host, origin.ip)
            names.publish(origin.domain, "A", origin.ip)
            bounce = origin.return_path.rpartition("@")[2]
            names.publish(bounce, "TXT", f"v=spf1 ip4:{origin.ip} -all")
            names.publish(f"_dmarc.{origin.domain}", "TXT", "v=DMARC1; p=quarantine")
        for plan in PROVIDERS:
            names.host(plan.mx, plan.ip)
            names.publish(plan.domain, "MX", f"10 {plan.mx}.")
        names.publish(f"2.0.0.127.{ZONE}", "A", "127.0.0.2")
        names.publish(f"test.{DOMAIN_ZONE}", "A", "127.0.0.2")
        self.repair_key()

    async def _open_providers(self) -> None:
        for plan in PROVIDERS:
            imap = ImapServer(
                plan.ip, plan.junk, self.authority.server_context(f"imap.{plan.domain}", plan.ip)
            )
            await imap.add_user(plan.seed, self.passwords[plan.name])
            self.providers.append(Provider(plan, imap, ZONE, lambda: self._resolver, self.clock))
        contexts = [self.authority.server_context(plan.mx, plan.ip) for plan in PROVIDERS]
        for left in reversed(range(_PORT_TRIES)):
            self.mx_port = random.randint(20_000, 29_999)  # not among those the kernel hands out
            async with AsyncExitStack() as opened:
                try:
                    for provider, context in zip(self.providers, contexts, strict=True):
                        await provider.start(self.mx_port, context)
                        opened.push_async_callback(provider.stop)
                except OSError:
                    if not left:
                        raise
                    continue
                self._stack.push_async_callback(opened.pop_all().aclose)
                return

    async def _open_relay(self, origin: Origin) -> None:
        relay = Relay(
            origin.host,
            origin.ip,
            Login(f"{origin.name}-canary", secrets.token_urlsafe(18)),
            lambda: self.keys[origin.name],
            {plan.domain: (plan.ip, self.mx_port) for plan in PROVIDERS},
            self.clock,
            implicit=origin.way == "tls",
        )
        await relay.start(self.authority.server_context(origin.host, origin.ip))
        self._stack.push_async_callback(relay.stop)
        self.relays[origin.name] = relay

    @cached_property
    def _resolver(self) -> Resolver:
        """What the providers ask; without memory, so that they see each change at once."""
        return DnsResolver([self.dns.address], timeout=5.0, cache=0, clock=self.clock)

    def filed(self) -> dict[str, Filed]:
        """What the providers really did, by Message-ID."""
        return {key: one for provider in self.providers for key, one in provider.filed.items()}

    # --- what the story does ------------------------------------------------------------------------------

    def break_key(self) -> None:
        """The victim's published key is replaced by one that its signer does not use."""
        self._publish_key(VICTIM, dkim_key())

    def repair_key(self) -> None:
        """Every sender's published key is the one it signs with."""
        for origin in ORIGINS:
            self._publish_key(origin, self.keys[origin.name].key)

    def _publish_key(self, origin: Origin, key: bytes) -> None:
        self.names.publish(f"{SELECTOR}._domainkey.{origin.domain}", "TXT", load_key(key).record())

    def list_address(self) -> None:
        """The victim's address enters the blocklist."""
        self.names.publish(_listing(), "A", "127.0.0.2")
        self.names.publish(_listing(), "TXT", "Unsigned bulk mail seen from this address")

    def delist_address(self) -> None:
        """And leaves it."""
        for rdtype in ("A", "TXT"):
            self.names.withdraw(_listing(), rdtype)


def _listing() -> str:
    return f"{'.'.join(reversed(VICTIM.ip.split('.')))}.{ZONE}"
