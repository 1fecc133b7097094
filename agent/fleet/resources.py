"""The work of a config, as things that one agent does at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agent.config.models import Config
from agent.fleet.assignment import Resource

BOUNCES = "(bounces)"
EVALUATOR = "evaluator"
UPKEEP = "upkeep"
MAILBOX, RECEIVER, ROUND, SWEEP = "mailbox/", "receiver/", "round/", "blocklists/"

MOST_CHUNKS = 8
"""Into so many parts the zones are divided at most; with few zones some parts are empty."""


def resources_of(config: Config) -> dict[str, Resource]:
    """Everything of a config that needs a holder, by name."""
    return {resource.name: resource for resource in _resources(config)}


def _resources(config: Config) -> Iterator[Resource]:
    yield Resource(EVALUATOR)
    yield Resource(UPKEEP)
    for chunk in chunks(config):
        yield Resource(SWEEP + chunk)
    for name, seed in config.seeds.items():
        yield Resource(MAILBOX + name, seed.region or "")
    if config.bounces is not None:
        yield Resource(MAILBOX + BOUNCES)
    for name in config.alerts.receivers:
        yield Resource(RECEIVER + name)


def chunks(config: Config) -> Sequence[str]:
    """The names of the parts in which blocklists are swept; one where one agent is all there can be."""
    if config.blocklists is None:
        return ()
    shared = not config.agent.store.startswith("sqlite")
    return tuple(map(str, range(MOST_CHUNKS if shared else 1)))


def sending(config: Config, sender: str, schedule: str) -> Resource:
    """Sending on one route: no lease is needed, the rows are claimed one by one."""
    found = config.senders.get(sender)
    if found is None:  # it left the config: what it sent is still to be settled
        return Resource(schedule)
    address = found.direct.source_ip if found.direct else None
    return Resource(schedule, found.region or "", address or "")
