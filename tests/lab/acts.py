"""What is done to mail, for real: to DNS, keys, addresses, servers, templates and mailboxes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.lab.agents import LabAgent
from tests.lab.policy_host import policy, policy_host
from tests.lab.world.keys import rsa_key
from tests.lab.world.lab import GTUBE, Lab

Tree = dict[str, Any]
DOMAIN = "direct.test"


@dataclass
class Scene:
    """One change about to be made: the lab, the agent, and its config file; policy: what its MTA-STS host
    serves; stack: what ends with the scene."""

    lab: Lab
    agent: LabAgent
    config: Path
    stack: AsyncExitStack
    later: list[asyncio.Task[None]] = field(default_factory=list)
    policy: str = ""

    @property
    def address(self) -> str:
        """The seed at provider a."""
        return self.agent.users["a"].address

    async def edit(self, change: Callable[[Tree], None]) -> None:
        """Changes the config file and has the agent load it."""
        document = yaml.safe_load(self.config.read_text())
        change(document)
        self.config.write_text(yaml.safe_dump(document, sort_keys=False))
        await self.agent.app.reload()
        await asyncio.sleep(0.2)

    def soon(self, seconds: float, work: Callable[[], object]) -> None:
        """Does something to the lab while the probe is under way."""

        async def run() -> None:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(work)

        self.later.append(asyncio.create_task(run()))


Act = Callable[[Scene], Awaitable[None]]


async def nothing(_scene: Scene) -> None:
    """No change at all."""


def dns(name: str, kind: str, *values: str) -> Act:
    """A record as it becomes."""

    async def make(scene: Scene) -> None:
        await asyncio.to_thread(scene.lab.dns.set, name, kind, *values)

    return make


def both(*acts: Act) -> Act:
    """One after the other."""

    async def make(scene: Scene) -> None:
        for act in acts:
            await act(scene)

    return make


def rule(action: str) -> Act:
    """What provider a answers to its seed's address."""

    async def make(scene: Scene) -> None:
        scene.lab.policy("a").rule(scene.address, action)

    return make


def edited(change: Callable[[Tree], None]) -> Act:
    """The config as it becomes."""

    async def make(scene: Scene) -> None:
        await scene.edit(change)

    return make


def rotated(publish: bool) -> Act:
    """Signs with a new key s2, published or not."""

    async def make(scene: Scene) -> None:
        key = rsa_key(scene.agent.folder, DOMAIN, "s2")
        if publish:
            await dns(f"s2._domainkey.{DOMAIN}", "TXT", key.record)(scene)
        new = {"domain": DOMAIN, "selector": "s2", "key": {"file": str(key.path)}}
        await scene.edit(lambda tree: tree["senders"]["direct"].update(dkim=new))

    return make


async def new_ip(scene: Scene) -> None:
    """A new sending address that SPF allows and that has no PTR."""
    ip = scene.lab.source_ip("direct").rpartition(".")[0] + ".77"
    await dns(DOMAIN, "TXT", f"v=spf1 ip4:{scene.lab.source_ip('direct')} ip4:{ip} -all")(scene)
    await scene.edit(lambda tree: tree["senders"]["direct"]["direct"].update(source_ip=ip))


async def new_ip_with_ptr(scene: Scene) -> None:
    """The same done right: PTR, forward confirmation and HELO too."""
    ip = scene.lab.source_ip("direct").rpartition(".")[0] + ".78"
    reverse = ".".join(reversed(ip.split(".")))
    await dns(f"out2.{DOMAIN}", "A", ip)(scene)
    await dns(f"{reverse}.in-addr.arpa", "PTR", f"out2.{DOMAIN}.")(scene)
    await dns(DOMAIN, "TXT", f"v=spf1 ip4:{ip} -all")(scene)
    way = {"source_ip": ip, "helo": f"out2.{DOMAIN}"}
    await scene.edit(lambda tree: tree["senders"]["direct"]["direct"].update(way))


async def spam_content(scene: Scene) -> None:
    """A template that filters score."""
    template = scene.agent.folder / "offer.eml"
    head = b"Subject: an offer [{{token}}]\r\nContent-Type: text/plain\r\n\r\n"
    template.write_bytes(head + GTUBE.encode() + b"\r\n{{token}}\r\n")
    await scene.edit(lambda tree: tree["senders"]["direct"].update(template=str(template)))


async def listed(scene: Scene) -> None:
    """The sending address gets on a blocklist."""
    ip = scene.lab.source_ip("direct")
    await asyncio.to_thread(scene.lab.blocklists.list_, "healthy", ip)


async def slow_queue(scene: Scene) -> None:
    """Provider a keeps mail in its queue for seven seconds."""
    scene.lab.postfix("a").hold()
    scene.soon(7.0, scene.lab.postfix("a").release)


async def imap_down(scene: Scene) -> None:
    """Provider a's mailboxes cannot be read."""
    scene.lab.imap("a").stop()


async def seed_password(scene: Scene) -> None:
    """Somebody changed the seed's password."""
    scene.lab.imap("a").set_password(scene.address, "another")
    await asyncio.to_thread(scene.lab.imap("a").kick, scene.address)


async def paused(scene: Scene) -> None:
    """Sending is paused."""
    from agent.store import rows

    await scene.agent.app.services.database.write(
        lambda tx: rows.set_setting(tx.conn, rows.PAUSED, {"by": "a test"})
    )


def relay_login(tree: Tree) -> None:
    """The relay's password is not the right one."""
    tree["senders"]["app"]["relay"]["username"] = "bulk"


def unaligned(scene: Scene) -> Awaitable[None]:
    """Neither SPF nor DKIM passes, and p=none asks for nothing."""
    return both(
        dns(DOMAIN, "TXT", "v=spf1 -all"),
        dns(f"mail._domainkey.{DOMAIN}", "TXT"),
        dns(f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=none"),
    )(scene)


def included(scene: Scene) -> Awaitable[None]:
    """The address is allowed by way of an include."""
    ip = scene.lab.source_ip("direct")
    return both(
        dns(f"_spf.{DOMAIN}", "TXT", f"v=spf1 ip4:{ip} -all"),
        dns(DOMAIN, "TXT", f"v=spf1 include:_spf.{DOMAIN} -all"),
    )(scene)


async def eleven_includes(scene: Scene) -> None:
    """More look-ups than the ten that SPF allows (RFC 7208 section 4.6.4)."""
    for number in range(11):
        await dns(f"i{number}.{DOMAIN}", "TXT", "v=spf1 ip4:192.0.2.1 ?all")(scene)
    terms = " ".join(f"include:i{number}.{DOMAIN}" for number in range(11))
    await dns(DOMAIN, "TXT", f"v=spf1 {terms} ip4:{scene.lab.source_ip('direct')} -all")(scene)


def unsigned(tree: Tree) -> None:
    """Signing was switched off."""
    del tree["senders"]["direct"]["dkim"]


def wrong_helo(tree: Tree) -> None:
    """A HELO name that is not there."""
    tree["senders"]["direct"]["direct"]["helo"] = "mta9.direct.test"


def other_path(tree: Tree) -> None:
    """Bounces go to another domain, which allows the address too: SPF passes there, unaligned."""
    tree["senders"]["direct"]["return_path"] = "bounce@sender.test"


async def allow_everywhere(scene: Scene) -> None:
    """The other domain's SPF allows the address, before the change."""
    await dns("sender.test", "TXT", f"v=spf1 ip4:{scene.lab.source_ip('direct')} -all")(scene)


async def greylisted(scene: Scene) -> None:
    """Provider a greylists for a second and a half."""
    scene.lab.policy("a").greylist(scene.address, 1.5)


def bounced(text: str) -> Act:
    """Provider a takes the mail and sends it back."""

    async def make(scene: Scene) -> None:
        scene.lab.bounce_after_accept("a", scene.address, text)

    return make


async def without_ptr(scene: Scene) -> None:
    """The address loses its name."""
    reverse = ".".join(reversed(scene.lab.source_ip("direct").split(".")))
    await dns(f"{reverse}.in-addr.arpa", "PTR")(scene)


async def resolver_silent(scene: Scene) -> None:
    """Provider a's domain cannot be resolved."""
    scene.lab.dns.fault("provider-a.test", "timeout")
    await asyncio.sleep(2.5)  # until nobody remembers the answer of before


def postfix(host: str, **settings: str) -> Act:
    """Settings of a mail server as they become."""

    async def make(scene: Scene) -> None:
        await asyncio.to_thread(lambda: scene.lab.postfix(host).configure(**settings))

    return make


async def submission_without_tls(scene: Scene) -> None:
    """The relay offers no STARTTLS any more where the sender submits."""
    off = {"smtpd_tls_security_level": "none", "smtpd_tls_auth_only": "no"}
    await asyncio.to_thread(lambda: scene.lab.postfix("relay").configure_port(587, **off))


async def expired_certificate(scene: Scene) -> None:
    """The relay's certificate expired yesterday."""
    await postfix("relay", smtpd_tls_chain_files=str(scene.lab.expired_certificate))(scene)


async def policy_served(scene: Scene) -> None:
    """The domain has an MTA-STS policy that names its mail exchanger."""
    scene.policy = policy("smtp.sender.test")
    answer = lambda: web.Response(text=scene.policy, content_type="text/plain")  # noqa: E731
    await scene.stack.enter_async_context(policy_host(scene.lab, DOMAIN, answer))


async def policy_of_another(scene: Scene) -> None:
    """The policy names another mail exchanger than the MX record."""
    scene.policy = policy("mx.elsewhere.test")
