"""The whole config file as one immutable value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, Field, PrivateAttr

from agent.config.alerting import Alerts
from agent.config.base import Section
from agent.config.fields import Name
from agent.config.mail import Bounces, Seed, Sender
from agent.config.problems import Problem
from agent.config.settings import Agent, Blocklists, Limits, Records, Resolver, RouteGroup
from agent.secrets import Secret


class Route(NamedTuple):
    """One sender to one seed. Durations in seconds; group: index in `routes:`, None where none are given.

    There may be a million of them: a tuple is made in a quarter of a dataclass's time.
    """

    sender: str
    seed: str
    every: float
    deadline: float
    late_after: float
    group: int | None = None

    @property
    def name(self) -> str:
        """How people name it: SENDER/SEED."""
        return f"{self.sender}/{self.seed}"


class Config(Section):
    """A config file. Made by `agent.config.load.load`; never changes."""

    agent: Agent = Field(default_factory=Agent, description="The agent itself.")
    resolver: Resolver = Field(default_factory=Resolver, description="The DNS resolver.")
    senders: dict[Name, Sender] = Field(default_factory=dict, description="Origins of canaries, by name.")
    seeds: dict[Name, Seed] = Field(default_factory=dict, description="Monitored mailboxes, by name.")
    bounces: Bounces | None = Field(
        default=None, description="The mailbox where the return paths' bounces arrive."
    )
    routes: tuple[RouteGroup, ...] | None = Field(
        default=None, description="Which senders to which seeds. Left out: all x all, every 15m."
    )
    limits: Limits = Field(default_factory=Limits, description="What keeps the agent gentle.")
    blocklists: Blocklists | None = Field(
        default=None, description="Blocklists. Left out: none are looked up."
    )
    records: Records | None = Field(default=None, description="DNS records. Left out: none are watched.")
    alerts: Alerts = Field(default_factory=Alerts, description="From results to people.")

    _path: Path = PrivateAttr(default=Path())
    _hash: str = PrivateAttr(default="")
    _text: str = PrivateAttr(default="")
    _warnings: tuple[Problem, ...] = PrivateAttr(default=())

    @property
    def path(self) -> Path:
        """The file it was read from."""
        return self._path

    @property
    def base(self) -> Path:
        """The folder that relative paths are relative to."""
        return self._path.parent

    @property
    def hash(self) -> str:
        """Names the content (settings and the files they name; not the secrets, nor what is one agent's own):
        16 hexadecimal digits."""
        return self._hash

    @property
    def text(self) -> str:
        """What the file says, word for word."""
        return self._text

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is not wrong but should be looked at: secrets that cannot be read now, and the like."""
        return self._warnings

    @property
    def store_url(self) -> str:
        """`agent.store`, the path of SQLite made absolute; without `agent.store_password`."""
        url = self.agent.store
        if not url.startswith("sqlite:///"):
            return url
        return "sqlite:///" + str((self.base / url.removeprefix("sqlite:///")).absolute())

    @property
    def store_password(self) -> Callable[[], str] | None:
        """Reads `agent.store_password` anew at each call; None where there is none."""
        secret = self.agent.store_password
        return secret.reveal if secret is not None else None

    @cached_property
    def routes_resolved(self) -> tuple[Route, ...]:
        """Every route, in the order of the file."""
        return tuple(self._resolve())

    @property
    def _groups(self) -> tuple[RouteGroup, ...]:
        return self.routes if self.routes is not None else (RouteGroup(),)

    @cached_property
    def watched(self) -> Mapping[str, float]:
        """Seconds for which a seed's mailbox is searched for a canary, by seed."""
        found: dict[str, float] = {}
        for group in self._groups:
            for seed in group.seeds if group.seeds is not None else self.seeds:
                found[seed] = max(found.get(seed, 0.0), group.late_after, group.deadline)
        return found

    @property
    def longest_deadline(self) -> float:
        """Seconds within which every canary must have arrived."""
        return max((group.deadline for group in self._groups), default=0.0)

    def _resolve(self) -> Iterator[Route]:
        for index, group in enumerate(self._groups):
            for sender in group.senders if group.senders is not None else self.senders:
                for seed in group.seeds if group.seeds is not None else self.seeds:
                    yield Route(
                        sender,
                        seed,
                        group.every,
                        group.deadline,
                        group.late_after,
                        index if self.routes is not None else None,
                    )

    def secrets(self) -> Iterator[tuple[tuple[str | int, ...], Secret]]:
        """Every reference to a secret with its path in the file."""
        return walk_secrets(self, ())


def walk_secrets(
    value: object, path: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], Secret]]:
    """Every Secret at or below the value, with its path in the file's own words."""
    if isinstance(value, Secret):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            yield from walk_secrets(getattr(value, name), (*path, field.alias or name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from walk_secrets(item, (*path, key))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from walk_secrets(item, (*path, index))
