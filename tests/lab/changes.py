"""Changes that a team makes for real, each with what an honest probe has to say of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.lab.agents import LabAgent
from tests.lab.world.keys import rsa_key
from tests.lab.world.lab import GTUBE, Lab

Tree = dict[str, Any]
DOMAIN = "direct.test"


@dataclass
class Scene:
    """One change about to be made: the lab, the agent, and its config file."""

    lab: Lab
    agent: LabAgent
    config: Path
    later: list[asyncio.Task[None]] = field(default_factory=list)

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


@dataclass(frozen=True)
class Change:
    """outcome, cause: what the probe has to say; words: what its report has to name; before: how the world
    was prepared; deadline: of the probe after it."""

    name: str
    make: Act
    outcome: str
    cause: str = ""
    words: str = ""
    before: Act = nothing
    sender: str = "direct"
    deadline: float = 12.0


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
    scene.soon(20.0, scene.lab.imap("a").start)


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


@asynccontextmanager
async def expired_relay(folder: Path) -> AsyncIterator[Tree]:
    """A submission server whose certificate expired yesterday: its settings."""
    from tests.fakes.certificates import authority_pem, server_context
    from tests.fakes.smtp_server import FakeSmtp, Script

    ca_file = folder / "authority.pem"
    ca_file.write_bytes(authority_pem())
    script = Script(implicit_tls=True, tls=server_context("expired"))
    async with FakeSmtp(script) as server:
        yield {"host": "127.0.0.1", "port": server.port, "security": "tls", "ca_file": str(ca_file)}


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


async def bounced(scene: Scene) -> None:
    """Provider a takes the mail and sends it back."""
    scene.lab.bounce_after_accept("a", scene.address, "5.1.1 no such user here")


async def without_ptr(scene: Scene) -> None:
    """The address loses its name."""
    reverse = ".".join(reversed(scene.lab.source_ip("direct").split(".")))
    await dns(f"{reverse}.in-addr.arpa", "PTR")(scene)


async def resolver_silent(scene: Scene) -> None:
    """Provider a's domain cannot be resolved."""
    scene.lab.dns.fault("provider-a.test", "timeout")
    await asyncio.sleep(2.5)  # until nobody remembers the answer of before


RIGHT = "pass"
CHANGES = (
    Change("nothing", nothing, RIGHT),
    Change("nothing, by the relay", nothing, RIGHT, sender="app"),
    Change(
        "dkim: another key published",
        dns(f"mail._domainkey.{DOMAIN}", "TXT", "v=DKIM1; p=AAAA"),
        "fail",
        "dkim",
    ),
    Change("dkim: key withdrawn", dns(f"mail._domainkey.{DOMAIN}", "TXT"), "fail", "dkim", "no key"),
    Change("dkim: rotated right", rotated(True), RIGHT, words="dkim pass (mail) -> pass (s2)"),
    Change("dkim: rotated, not published", rotated(False), "fail", "dkim", "(s2: no key)"),
    Change("dkim: signing switched off", edited(unsigned), "fail", "dkim", "no DKIM-Signature"),
    Change("spf: include dropped", dns(DOMAIN, "TXT", "v=spf1 -all"), "fail", "spf", "spf pass", included),
    Change("spf: more than ten look-ups", eleven_includes, "fail", "spf"),
    Change(
        "return path of another domain", edited(other_path), RIGHT, words="aligned", before=allow_everywhere
    ),
    Change("dmarc: record withdrawn", dns(f"_dmarc.{DOMAIN}", "TXT"), "fail", "dmarc", "dmarc pass"),
    Change(
        "dmarc: none to reject, unaligned",
        dns(f"_dmarc.{DOMAIN}", "TXT", "v=DMARC1; p=reject"),
        "fail",
        words="inbox -> rejected",
        before=unaligned,
    ),
    Change("ip listed", listed, "fail", "listing", "listed:"),
    Change("new ip without ptr", new_ip, "fail", "ptr", "has no name"),
    Change("new ip, all in order", new_ip_with_ptr, RIGHT, words="sending IP"),
    Change("ptr removed", without_ptr, "fail", "ptr", "has no name"),
    Change("helo wrong", edited(wrong_helo), "fail", "helo", "mta9.direct.test"),
    Change("content that scores", spam_content, "fail", "score", "score"),
    Change("throttled at one provider", rule("421 4.7.28 rate limited, try later"), "fail", words="4.7.28"),
    Change("greylisting only", greylisted, RIGHT),
    Change("greylisting past the deadline", rule("451 4.7.1 greylisted, come back"), "unknown", "greylisted"),
    Change(
        "refused for want of authentication", rule("550 5.7.26 unauthenticated"), "fail", "unauthenticated"
    ),
    Change("dropped in silence", rule("DISCARD"), "fail", "placement", "missing", deadline=4.0),
    Change("taken and bounced", bounced, "fail", words="5.1.1", sender="app"),
    Change("slow queue", slow_queue, RIGHT, words="latency"),
    Change("one seed full", rule("552 5.2.2 mailbox full"), "unknown", "seed-fault", "the seed's own fault"),
    Change("imap down at one seed", imap_down, "unknown", words="could not look", deadline=4.0),
    Change("seed's password changed", seed_password, "unknown", words="could not look", deadline=4.0),
    Change("relay refuses the login", edited(relay_login), "unknown", "sender-unreachable", sender="app"),
    Change("one provider cannot be resolved", resolver_silent, "unknown", words="could not be submitted"),
    Change("sending is paused", paused, "unknown", "held", "paused"),
)
