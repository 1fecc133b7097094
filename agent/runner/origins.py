"""The senders as the config has them: way out, message, signature; and the limits of each route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agent.config.mail import Sender
from agent.config.models import Config, Route
from agent.config.plan import daily_cap, pace_cap
from agent.runner.credentials import oauth_tokens
from agent.runner.means import Means
from agent.runner.services import Services
from agent.schedule import Pace
from probes.authentication.sign import DkimKeyPair, load_key, sign_all
from probes.canary.message import MessageTemplate
from probes.canary.state import Canary
from probes.canary.submission import Submission
from probes.canary.submit import submit
from probes.canary.ways import Direct, Relay, Timeouts, Way

PREFIX = "canary:"
DEFAULT_PACE_PER_MINUTE = 60.0
PACE_BURST = 5


@dataclass(frozen=True, slots=True)
class Origin:
    """One sender, ready to send."""

    name: str
    way: Way
    template: MessageTemplate
    domain: str
    return_path: str
    ca_file: str | None
    timeouts: Timeouts


def schedule_name(route: Route) -> str:
    """The name of a route's schedule row."""
    return PREFIX + route.name


@dataclass
class Origins:
    """All senders and routes of one config; replaced as a whole by a reload."""

    services: Services
    _origins: Mapping[str, Origin] = field(init=False)
    _routes: Mapping[str, Route] = field(init=False)
    _usable: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.take(self.services.config, self.prepare(self.services.config))

    def prepare(self, config: Config) -> Mapping[str, Origin]:
        """Makes every sender of the config. Raises ConfigError where one cannot be made."""
        return {name: _origin(name, sender, self.services) for name, sender in config.senders.items()}

    def take(self, config: Config, origins: Mapping[str, Origin]) -> None:
        """From now on these senders and the routes of the config."""
        self._routes = {schedule_name(route): route for route in config.routes_resolved}
        self._origins = origins

    def has(self, canary: Canary) -> bool:
        """Whether the canary's sender and seed are still in the config."""
        return canary.sender in self._origins and canary.seed in self.services.config.seeds

    @property
    def routes(self) -> Mapping[str, Route]:
        """Routes by the name of their schedule."""
        return self._routes

    def route(self, name: str) -> Route | None:
        """The route of a schedule, or None once it has left the config."""
        return self._routes.get(name)

    def domain(self, sender: str) -> str:
        """The sender's author domain."""
        return self._origins[sender].domain

    def provider(self, seed: str) -> str:
        """The seed's provider preset."""
        return self.services.config.seeds[seed].provider

    def daily_limit(self, seed: str) -> int:
        """Most canaries the seed may get in 24 hours."""
        return daily_cap(self.services.config, seed)

    def pace(self, provider: str) -> Pace:
        """How fast canaries may follow each other to one provider."""
        per_minute = pace_cap(self.services.config, provider) or DEFAULT_PACE_PER_MINUTE
        return Pace(per_minute / 60.0, PACE_BURST)

    def known_usable(self, sender: str) -> bool:
        """True where the sender's last attempt found its way out in order."""
        return self._usable.get(sender, False)

    def note_usable(self, sender: str, usable: bool) -> None:
        """Remembers how the last attempt went."""
        self._usable[sender] = usable

    async def submit(self, canary: Canary) -> Submission:
        """Builds, signs and sends one canary. Every failure is a Submission.

        Raises HeldBack where, just before MAIL FROM, others may have given this life of the agent up.
        """
        services, fleet = self.services, self.services.fleet
        origin = self._origins[canary.sender]
        address = services.config.seeds[canary.seed].address
        message = origin.template.build(canary.token, address, canary.message_id, canary.created.wall)
        return await submit(
            origin.way,
            mail_from=origin.return_path,
            rcpt_to=address,
            message=message,
            envid=canary.token,
            resolver=services.resolver,
            ssl_context=services.tls(origin.ca_file),
            clock=services.clock,
            timeouts=origin.timeouts,
            provider=canary.provider,
            rng=services.random,
            may=lambda: fleet.membership.sure() and canary.epoch == services.epoch,
        )


def _origin(name: str, sender: Sender, means: Means) -> Origin:
    unsubscribe = sender.list_unsubscribe
    template = MessageTemplate.compile(
        from_address=sender.from_,
        sender=name,
        template=sender.template,
        headers=sender.headers,
        list_unsubscribe=[u for u in (unsubscribe.url, unsubscribe.mailto) if u] if unsubscribe else (),
        one_click=bool(unsubscribe and unsubscribe.one_click),
    )
    ca_file = str(sender.relay.ca_file) if sender.relay and sender.relay.ca_file else None
    step = sender.relay.timeout if sender.relay else sender.direct.timeout if sender.direct else 60.0
    timeouts = Timeouts(greeting=step, command=step, connect=min(step, 15.0), tls=min(step, 15.0))
    way = way_of(sender, means)
    return Origin(name, way, template, sender.domain, sender.envelope_from, ca_file, timeouts)


def way_of(sender: Sender, means: Means) -> Way:
    """The sender's way out, secrets revealed. Raises ConfigError."""
    signers = tuple(_signers(sender, means))
    if sender.relay is None:
        assert sender.direct is not None
        direct = sender.direct
        return Direct(direct.helo, direct.source_ip or "", signers, port=direct.port)
    relay = sender.relay
    return Relay(
        host=relay.host,
        port=relay.port,
        security=relay.security,
        username=relay.username or "",
        password=relay.password.reveal() if relay.password else "",
        oauth2=oauth_tokens(relay.oauth2, None, means).token if relay.oauth2 else None,
    )


def _signers(sender: Sender, means: Means) -> list[Callable[[bytes], bytes]]:
    if sender.dkim is None:
        return []
    pair = DkimKeyPair(sender.dkim.domain, sender.dkim.selector, sender.dkim.key.reveal().encode())
    load_key(pair.key)
    return [lambda message: sign_all(message, [pair], means.clock.wall())]
