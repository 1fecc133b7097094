"""One reader a seed, and one for bounces: started, replaced on reload, stopped."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import structlog

from agent.config.mail import Mailbox
from agent.config.models import Config, walk_secrets
from agent.fleet.resources import BOUNCES
from agent.runner.bouncing import BounceOwner
from agent.runner.credentials import oauth_tokens
from agent.runner.ledger import Ledger
from agent.runner.means import Means
from agent.runner.reading import SeedOwner
from agent.runner.services import Services
from agent.runner.together import Together
from agent.store import canaries, rows
from probes.canary.state import Canary, Moment
from probes.errors import MailcanaryError
from probes.headers.trust import TrustRule
from probes.mailbox.access import MailboxAccess, Password, Security, TokenSource
from probes.mailbox.model import Role
from probes.mailbox.oauth2 import OAuthTokens
from probes.mailbox.presets import Preset, preset
from probes.mailbox.reader import MailboxReader

log = structlog.get_logger("mailboxes")
Access = tuple[Preset, MailboxAccess]
LOGINS = 16
"""Logins under way at the same time to one host: thousands of mailboxes are taken at once, and a provider
would take them for an attack."""
IMAP_PORTS = {Security.TLS: 993, Security.STARTTLS: 143, Security.NONE: 143}


@dataclass
class _Running:
    reader: MailboxReader
    owner: SeedOwner | BounceOwner
    stop: asyncio.Event
    task: asyncio.Task[None]
    fingerprint: str
    credential: Password | TokenSource


@dataclass
class Mailboxes:
    """The sessions of the seeds that this agent holds: a Room of the fleet."""

    services: Services
    ledger: Ledger
    taken: Callable[[], None] = lambda: None
    """Called when a mailbox has become this agent's: what is due of it is to be looked at."""
    _access: Mapping[str, Access] = field(default_factory=dict)
    _running: dict[str, _Running] = field(default_factory=dict)
    _jumped: dict[str, Moment] = field(default_factory=dict)
    _doors: dict[str, asyncio.Semaphore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._states = Together(self._read_states)

    async def _read_states(self, names: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        return await self.services.database.read(lambda conn: rows.mailbox_states(conn, names))

    def prepare(self, config: Config) -> Mapping[str, Access]:
        """How to read each mailbox of the config. Raises ConfigError where a secret or CA cannot be read."""
        found = {}
        for name, mailbox in _mailboxes(config).items():
            habits = preset_of(mailbox)
            found[name] = (habits, access_of(mailbox, habits, self.services))
        return found

    async def configure(self, config: Config, access: Mapping[str, Access]) -> None:
        """Takes the settings of a config: replaces readers whose settings changed. What is new in it, and
        what has left it, the fleet takes and gives."""
        self._access = access
        wanted = _mailboxes(config)
        stale = [
            name
            for name, running in self._running.items()
            if name in wanted and _fingerprint(wanted[name]) != running.fingerprint
        ]
        for name in stale:
            await self._stop(name)
            await self._begin(name)

    async def take(self, key: str) -> None:
        """The mailbox is this agent's to read."""
        if key != BOUNCES:
            await self.ledger.load(key)
        await self._begin(key)
        self.taken()

    async def _begin(self, name: str) -> None:
        mailbox = _mailboxes(self.services.config)[name]
        known = await self._states.get(name) or {}
        self._start(name, mailbox, *self._access[name], known_junk=known.get("junk", ()))

    async def give(self, key: str) -> None:
        """Ends its session; another agent reads it from now on."""
        if key in self._running:
            await self._stop(key)
        self._jumped.pop(key, None)
        self.ledger.forget(key)

    def sent(self, canary: Canary) -> None:
        """A canary is on its way to the seed's mailbox."""
        running = self._running.get(canary.seed)
        if running:
            running.reader.kick()

    def want_scan(self, seed: str) -> bool:
        """Asks for a full scan that begins from now on; False where the mailbox cannot be read."""
        running = self._running.get(seed)
        if running is None or not isinstance(running.owner, SeedOwner):
            return False
        able = running.owner.want_scan()
        running.reader.kick()
        return able

    def fault(self, seed: str) -> str:
        """Why a seed cannot be read, as a closed word."""
        return "seed-unreadable"

    def readable(self, seed: str) -> bool:
        """Whether the seed's mailbox can be read now."""
        running = self._running.get(seed)
        return bool(running and running.reader.state and running.reader.state.readable)

    def token_ends(self) -> list[tuple[tuple[str, ...], float]]:
        """When each seed's OAuth2 access token ends, in epoch seconds; those that hold none are left out."""
        found = [(name, running.credential) for name, running in list(self._running.items())]
        return [
            ((name,), ends)
            for name, credential in found
            if isinstance(credential, OAuthTokens) and (ends := credential.expires_at) is not None
        ]

    def retry(self, seed: str) -> bool:
        """Tries again at once, whatever was refused before."""
        running = self._running.get(seed)
        if running is None:
            return False
        running.reader.retry()
        return True

    def clock_jumped(self) -> None:
        """The clock has jumped: no verdict until each mailbox had one clean scan that began afterwards."""
        now = self.services.now()
        for name, running in self._running.items():
            self._jumped[name] = now
            running.reader.scan_now()

    def _frozen(self, seed: str, began: Moment) -> bool:
        jumped = self._jumped.get(seed)
        if jumped is None:
            return False
        if began.since(jumped) > 0:
            # This scan is the clean one; what it does not find is settled by the next.
            del self._jumped[seed]
        return True

    async def delete_old(self, before: float) -> None:
        """Removes own canaries seen before then from the mailboxes."""
        database = self.services.database
        for seed, running in list(self._running.items()):
            if not isinstance(running.owner, SeedOwner) or not self.readable(seed):
                continue
            places = await database.read(partial(canaries.deletable, seed=seed, before=before))
            if not places:
                continue
            try:
                await running.reader.delete(places)
            except MailcanaryError as error:
                log.info("own canaries could not be deleted yet", seed=seed, error=str(error))
                continue
            at = self.services.clock.wall()
            await database.write(partial(canaries.deleted, seed=seed, places=places, at=at))

    def _start(
        self,
        name: str,
        mailbox: Mailbox,
        habits: Preset,
        access: MailboxAccess,
        known_junk: Sequence[str],
    ) -> None:
        owner: SeedOwner | BounceOwner
        if name == BOUNCES:
            owner = BounceOwner(self.services, self.ledger)
        else:
            tabs = {folder: category for category, folder in mailbox.imap.folders.tabs.items()}
            owner = SeedOwner(
                name, mailbox.provider, habits.trust, self.services, self.ledger, self._frozen, tabs
            )
        reader = MailboxReader(
            access,
            owner,
            self.services.clock,
            preset=habits,
            folders=folders_of(mailbox),
            known_junk=known_junk,
            bounces=name == BOUNCES,
            rnd=self.services.random.random,
            door=self._doors.setdefault(access.host, asyncio.Semaphore(LOGINS)),
        )
        stop = asyncio.Event()
        task = asyncio.create_task(reader.run(stop), name=f"reader {name}")
        self._running[name] = _Running(reader, owner, stop, task, _fingerprint(mailbox), access.credential)

    async def _stop(self, name: str) -> None:
        running = self._running.pop(name)
        running.stop.set()
        done, _ = await asyncio.wait({running.task}, timeout=5.0)
        if not done:
            running.task.cancel()
            await asyncio.wait({running.task}, timeout=5.0)


def _mailboxes(config: Config) -> dict[str, Mailbox]:
    found: dict[str, Mailbox] = dict(config.seeds)
    if config.bounces:
        found[BOUNCES] = config.bounces
    return found


def _fingerprint(mailbox: Mailbox) -> str:
    """Changes with any setting and with the content of any secret: a rotated password needs a new login."""
    secrets = [secret.fingerprint() for _, secret in walk_secrets(mailbox, ())]
    return json.dumps([mailbox.model_dump(mode="json"), secrets], sort_keys=True, default=repr)


def preset_of(mailbox: Mailbox) -> Preset:
    """The provider's habits, with what the config overrides."""
    found = preset(mailbox.provider)
    trust: TrustRule = found.trust
    if mailbox.imap.authserv_ids is not None:
        trust = replace(trust, authserv_ids=tuple(name.lower() for name in mailbox.imap.authserv_ids))
    if mailbox.imap.border is not None:
        trust = replace(trust, border=tuple(name.lower() for name in mailbox.imap.border))
    if mailbox.imap.below_border is not None:
        trust = replace(trust, below_border=mailbox.imap.below_border)
    if mailbox.imap.internal is not None:
        trust = replace(trust, internal=mailbox.imap.internal)
    imap = mailbox.imap
    said: dict[str, Any] = {
        "poll_seconds": imap.poll,
        "idle": imap.idle,
        "noop_bursts": imap.bursts,
        "junk_required": imap.junk_required,
    }
    return replace(found, trust=trust, **{key: value for key, value in said.items() if value is not None})


def access_of(mailbox: Mailbox, habits: Preset, means: Means) -> MailboxAccess:
    """How to reach the mailbox."""
    imap = mailbox.imap
    security = Security(imap.security) if imap.security else habits.security
    port = imap.port or (habits.port if not imap.security else IMAP_PORTS[security])
    ca_file = str(imap.ca_file) if imap.ca_file else None
    credential = (
        oauth_tokens(mailbox.oauth2, habits.oauth, means)
        if mailbox.oauth2
        else Password(mailbox.password.reveal() if mailbox.password else "")
    )
    return MailboxAccess(
        host=imap.host or habits.host or "",
        port=port,
        username=mailbox.username or habits.login_name(mailbox.address),
        credential=credential,
        security=security,
        tls=None if security is Security.NONE else means.tls(ca_file),
        timeout=imap.timeout,
    )


def folders_of(mailbox: Mailbox) -> Mapping[str, Role]:
    """The roles the config gives to folders."""
    folders = mailbox.imap.folders
    found = dict.fromkeys(folders.junk, Role.JUNK)
    found |= dict.fromkeys(folders.tabs.values(), Role.TAB)
    found |= dict.fromkeys(folders.others, Role.OTHER)
    if folders.inbox:
        found[folders.inbox] = Role.INBOX
    return found
