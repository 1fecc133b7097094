"""What is not wrong in a config but should be looked at: warnings."""

from __future__ import annotations

from collections.abc import Iterator

from agent.config.checks import Finding
from agent.config.fields import is_loopback
from agent.config.models import Config
from agent.config.providers import provider_facts

_UNUSED = "add it to one under `routes:`, or remove it"


def advise(config: Config) -> Iterator[Finding]:
    """Warnings about a valid config, secrets aside."""
    yield from _one_sided(config)
    yield from _unused(config)
    yield from _senders(config)
    yield from _seeds(config)
    yield from _bounces(config)
    yield from _receivers(config)


def _one_sided(config: Config) -> Iterator[Finding]:
    if config.senders and not config.seeds:
        yield Finding(
            ("senders",), "there are no seeds, so no canary is sent", "add one under `seeds:`", key=True
        )
    if config.seeds and not config.senders:
        yield Finding(
            ("seeds",), "there are no senders, so no canary is sent", "add one under `senders:`", key=True
        )


def _unused(config: Config) -> Iterator[Finding]:
    if not config.senders or not config.seeds:
        return
    senders = {route.sender for route in config.routes_resolved}
    seeds = {route.seed for route in config.routes_resolved}
    for name in config.senders.keys() - senders:
        yield Finding(("senders", name), "no route uses it", _UNUSED, key=True)
    for name in config.seeds.keys() - seeds:
        yield Finding(("seeds", name), "no route uses it", _UNUSED, key=True)


def _senders(config: Config) -> Iterator[Finding]:
    for name, sender in config.senders.items():
        if sender.direct and not sender.dkim:
            yield Finding(
                ("senders", name), "its mail leaves without a DKIM signature", "add `dkim:`", key=True
            )
        if sender.relay and not sender.relay.username and not is_loopback(sender.relay.host):
            right = (
                "add `username:` and `password:`, or go on where the relay knows this machine by its address"
            )
            yield Finding(("senders", name, "relay"), "no login to the relay", right, key=True)


def _seeds(config: Config) -> Iterator[Finding]:
    for name, seed in config.seeds.items():
        preset = provider_facts(seed.provider)
        if preset is None:
            continue
        if seed.imap.authserv_ids is None and not preset.trust.authserv_ids:
            right = "add `imap: {authserv_ids: [...]}` with the authserv-id your MX writes"
            yield Finding(
                ("seeds", name), "no authentication verdict of its headers is believed", right, key=True
            )
        if seed.password and not {"password", "app-password"} & set(preset.auth):
            yield Finding(
                ("seeds", name, "password"), f"{preset.title} takes no password any more", "use `oauth2:`"
            )


def _bounces(config: Config) -> Iterator[Finding]:
    if config.bounces is None or not config.senders:
        return
    paths = {sender.envelope_from.lower() for sender in config.senders.values()}
    if config.bounces.address.lower() not in paths:
        right = "set it as a sender's `return_path:`, or go on where such mail is forwarded here"
        yield Finding(("bounces", "address"), "no sender's return path leads here", right)


def _receivers(config: Config) -> Iterator[Finding]:
    if not config.alerts.routes:
        return
    used = {name for route in config.alerts.routes for name in (*route.receivers, *route.escalate_to)}
    used |= set(config.alerts.heartbeat.watchdog) if config.alerts.heartbeat else set()
    for name in config.alerts.receivers.keys() - used:
        path = ("alerts", "receivers", name)
        yield Finding(path, "no route leads to this receiver", "name it under `alerts.routes:`", key=True)
