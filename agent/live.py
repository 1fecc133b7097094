"""`check-config --live`: logs in to every mailbox, finds its folders, asks the DNS, greets every relay."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass

from agent.config.mail import Mailbox, Sender
from agent.config.models import Config
from agent.fleet.resources import BOUNCES
from agent.forms.cells import clean
from agent.runner.mailboxes import access_of, folders_of, preset_of
from agent.runner.means import Means, open_means
from agent.runner.origins import way_of
from probes.authentication.sign import load_key
from probes.canary.submission import SubmitResult
from probes.canary.submit import greet
from probes.canary.ways import Relay
from probes.dns import DnsStatus, Resolver
from probes.errors import MailcanaryError
from probes.mailbox.folders import find_folders
from probes.mailbox.imap import ImapSession
from probes.outcome import Outcome, combine

LONGEST = 60.0
"""Seconds one look may take."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One look: what at, how it ended, in words."""

    what: str
    outcome: Outcome
    text: str


def live(config: Config) -> int:
    """Prints a line for each thing looked at; returns the exit code."""
    findings = asyncio.run(look(config))
    for finding in findings:  # servers' own words are in the texts
        sys.stdout.write(clean(f"{finding.outcome.value:8} {finding.what:28} {finding.text}") + "\n")
    return combine(finding.outcome for finding in findings).exit_code


async def look(config: Config) -> list[Finding]:
    """Looks at everything the config names, all at the same time."""
    async with open_means(config) as means:
        mailboxes: dict[str, Mailbox] = dict(config.seeds)
        if config.bounces:
            mailboxes[BOUNCES] = config.bounces
        looks: list[Awaitable[Finding]] = [
            _bounded(f"seed {name}", _mailbox(mailbox, means)) for name, mailbox in mailboxes.items()
        ]
        looks += [
            _bounded(f"sender {name}", _sender(sender, means)) for name, sender in config.senders.items()
        ]
        looks += [_bounded(f"mx {domain}", _mx(domain, means.resolver)) for domain in _domains(config)]
        return list(await asyncio.gather(*looks))


async def _bounded(what: str, work: Awaitable[tuple[Outcome, str]]) -> Finding:
    try:
        async with asyncio.timeout(LONGEST):
            return Finding(what, *await work)
    except TimeoutError:
        return Finding(what, Outcome.UNKNOWN, f"no answer within {LONGEST:g} s")
    except MailcanaryError as error:
        return Finding(what, Outcome.UNKNOWN, str(error))


async def _mailbox(mailbox: Mailbox, means: Means) -> tuple[Outcome, str]:
    habits = preset_of(mailbox)
    session = ImapSession(access_of(mailbox, habits, means), lambda: None)
    try:
        await session.open()
        found = find_folders(await session.list_folders(), folders_of(mailbox), habits.junk)
        await session.logout()
    finally:
        session.abort("the look is over", "stopped")
    junk = ", ".join(folder.name for folder in found.junk)
    if not junk:
        return Outcome.UNKNOWN, "logged in, but no junk folder was found; name it in imap.folders.junk"
    return Outcome.PASS, f"logged in, inbox and junk ({junk}) found"


async def _sender(sender: Sender, means: Means) -> tuple[Outcome, str]:
    way = way_of(sender, means)
    if isinstance(way, Relay):
        ca_file = str(sender.relay.ca_file) if sender.relay and sender.relay.ca_file else None
        submission = await greet(
            way, resolver=means.resolver, ssl_context=means.tls(ca_file), clock=means.clock
        )
        good = submission.result is SubmitResult.ACCEPTED
        return (Outcome.PASS, "the relay takes the login") if good else (Outcome.FAIL, submission.detail)
    return await _dkim_record(sender, means.resolver)


async def _dkim_record(sender: Sender, resolver: Resolver) -> tuple[Outcome, str]:
    """Whether what the sender signs with is what is published."""
    if sender.dkim is None:
        return Outcome.PASS, "sends direct and unsigned"
    name = f"{sender.dkim.selector}._domainkey.{sender.dkim.domain}"
    answer = await resolver.query(name, "TXT")
    if not answer.status.conclusive:
        return Outcome.UNKNOWN, f"{name}: {answer.status}"
    own = load_key(sender.dkim.key.reveal().encode()).record().rpartition("p=")[2]
    published = "".join("".join(answer.records).split())
    if own not in published:
        return Outcome.FAIL, f"{name} does not publish the key that the sender signs with"
    return Outcome.PASS, f"{name} publishes the signing key"


def _domains(config: Config) -> Iterable[str]:
    return dict.fromkeys(seed.address.rpartition("@")[2].lower() for seed in config.seeds.values())


async def _mx(domain: str, resolver: Resolver) -> tuple[Outcome, str]:
    answer = await resolver.query(domain, "MX")
    if not answer.status.conclusive:
        return Outcome.UNKNOWN, f"the resolver answers {answer.status}"
    if answer.status is DnsStatus.NXDOMAIN:
        return Outcome.FAIL, "there is no such domain"
    return Outcome.PASS, ", ".join(answer.records) or "no MX: its address takes the mail"
