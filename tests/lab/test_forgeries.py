"""Mails that vouch for themselves, through both providers' real servers, read as the agent reads."""

from __future__ import annotations

import asyncio
import re
import smtplib
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.config.load import load
from agent.inspection.examine import Settings, examine
from agent.inspection.sources import Source
from agent.runner.mailboxes import preset_of
from probes.canary.placement import judge
from probes.canary.state import Moment
from probes.clock import SystemClock
from probes.dns import DnsStatus, StaticResolver
from probes.headers.report import read_headers
from probes.headers.trust import TrustRule
from probes.mailbox.access import Password, Security
from probes.mailbox.model import SeenMessage
from tests.fakes.mailbox_owner import reading, until
from tests.lab.agents import write_config
from tests.lab.forgeries import DOMAIN, forgeries
from tests.lab.world.lab import Lab, User

pytestmark = pytest.mark.lab
METHODS = ("spf", "dkim", "dmarc", "arc")
CASE = re.compile(rb"^Return-Path: <case(\d+)@", re.MULTILINE)
MAIL = b"%s\r\nFrom: Bank <news@%s>\r\nSubject: forged %d\r\nX-Mailcanary-Token: x\r\n\r\nhello\r\n"


@dataclass
class Outcome:
    """What came of the forgeries at one provider. believed: names of those that any reading took for true."""

    sent: int = 0
    read: int = 0
    judged: int = 0
    believed: list[str] = field(default_factory=list)


def post(lab: Lab, provider: str, user: User, found: list[tuple[str, bytes]]) -> list[int]:
    """Sends them in one burst over one connection from an address that may not; returns those accepted."""
    there = lab.provider(provider)
    accepted = []
    source = ".".join(there.mx_ip.split(".")[:2]) + ".9.9"
    with smtplib.SMTP(there.mx_ip, there.mx_port, "evil.test", 60, (source, 0)) as smtp:
        for number, (_, fields) in enumerate(found):
            mail = MAIL % (fields, DOMAIN.encode(), number)
            try:
                smtp.sendmail(f"case{number}@{DOMAIN}", [user.address], mail)
            except (smtplib.SMTPDataError, smtplib.SMTPSenderRefused):
                smtp.rset()
            else:
                accepted.append(number)
    return accepted


async def fetched(lab: Lab, user: User, wanted: int) -> list[SeenMessage]:
    """Everything in the mailbox, by the agent's own reader in one scan."""
    tls = ssl.create_default_context(cafile=str(lab.ca_file))
    given = {"host": user.imap_ip, "username": user.address, "credential": Password(user.password)}
    given |= {"security": Security.TLS, "tls": tls, "timeout": 10.0, "connect_timeout": 10.0}
    async with reading(user.imap_port, access=given, looks_like=lambda _: True) as (reader, owner):
        owner.expect(b"NEVER", deadline=1e6)
        for _ in range(120):
            await until(lambda: owner.readable, 20.0)
            if len({_case(one) for one in owner.seen}) >= wanted:
                break
            reader.scan_now()
            await asyncio.sleep(0.5)
        return owner.seen


def _case(message: SeenMessage) -> int:
    found = CASE.search(message.header)
    return int(found[1]) if found else -1


async def attack(lab: Lab, folder: Path, provider: str, most: int | None = None) -> Outcome:
    """All forgeries, or so many of them, against one provider; what the agent and inspect make of them."""
    path, users = write_config(lab, folder)
    seed = load(path, require_secrets=True).seeds[provider]
    trust = preset_of(seed).trust
    found = [case for own in trust.authserv_ids for case in forgeries(own, trust.border[0], seed.address[6:])]
    found = found[:: max(1, len(found) // most)] if most else found
    accepted = await asyncio.to_thread(post, lab, provider, users[provider], found)
    outcome = Outcome(sent=len(accepted))
    seen = {_case(one): one for one in await fetched(lab, users[provider], len(accepted))}
    outcome.read = len(seen)
    for number, message in seen.items():
        verdicts = _verdicts(message, trust)
        outcome.judged += verdicts.get("dmarc") == "fail" or verdicts.get("spf") == "fail"
        if "pass" in verdicts.values() or await _inspected(message, trust):
            outcome.believed.append(
                f"{found[number][0]}: {verdicts}\n{message.header.decode('latin-1')[:1500]}"
            )
    return outcome


def _verdicts(message: SeenMessage, trust: TrustRule) -> dict[str, str]:
    moment = Moment(message.seen_wall, message.seen_monotonic, "boot")
    found = judge(message, read_headers(message.header, trust), moment).verdicts
    return {method: result for method, result in found.items() if method in METHODS}


async def _inspected(message: SeenMessage, trust: TrustRule) -> list[str]:
    """What `mailcanary inspect`, told the provider's authserv-ids, would take for the provider's pass."""
    silent = StaticResolver({}, default=DnsStatus.TIMEOUT)
    settings = Settings(silent, SystemClock(), None, list(trust.authserv_ids), trust.border[0])
    facts = await examine(Source("x", message.header), settings)
    return [
        f"{one['authserv_id']} {method['method']}"
        for one in facts["authentication_results"]
        if one["trusted"]
        for method in one["methods"]
        if method["result"] == "pass" and method["method"] not in one["ambiguous_methods"]
    ]


@pytest.mark.parametrize("provider", ["a", "b"])
async def test_no_forged_pass(lab: Lab, tmp_path: Path, provider: str) -> None:
    outcome = await attack(lab, tmp_path, provider, most=30)
    print(outcome)
    assert outcome.believed == []
    assert outcome.read == outcome.sent >= 25
    assert outcome.judged >= outcome.read - 3
