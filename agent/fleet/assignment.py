"""Who does what: rendezvous hashing over the agents that may. Pure.

Each agent works this out for itself from the same rows and comes to the same answer. Where an agent joins,
only what falls to it moves; where one leaves, only what it had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

SHARE = 0.05
"""The part of its holdings that an agent gives to others at a time."""

LEAST = 10
"""So many it may always give."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that one agent does. region: only agents there may; address: only agents with that IP, as
    long as there is one (where there is none, whoever tries tells what is wrong)."""

    name: str
    region: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An agent that takes work."""

    holder: str
    region: str = ""
    addresses: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Moves:
    """What an agent is to do now. orphans: resources that no agent may take."""

    take: Sequence[str] = ()
    give: Sequence[str] = ()
    orphans: Sequence[str] = field(default=())


@lru_cache(maxsize=1 << 17)
def _weight(resource: str, holder: str) -> bytes:
    return hashlib.blake2b(f"{resource}\0{holder}".encode(), digest_size=8).digest()


def able(resource: Resource, candidates: Iterable[Candidate]) -> list[str]:
    """The agents that the resource's pins let do it."""
    there = [one for one in candidates if resource.region in ("", one.region)]
    having = [one for one in there if resource.address in one.addresses] if resource.address else []
    return [one.holder for one in having or there]


def owner(resource: Resource, candidates: Iterable[Candidate]) -> str | None:
    """The agent to which a resource falls; None where none may take it."""
    holders = able(resource, candidates)
    return max(holders, key=lambda holder: (_weight(resource.name, holder), holder), default=None)


def moves(
    me: str, wanted: Mapping[str, Resource], candidates: Sequence[Candidate], held: Mapping[str, str]
) -> Moves:
    """What `me` takes of what is free, and gives of what falls to others.

    wanted: every resource there is; held: resource to its holder, "" or absent where it is free. What others
    are better placed for moves in small parts; what I may not have at all goes at once.
    """
    mine = [name for name, holder in held.items() if holder == me]
    owners = {name: owner(resource, candidates) for name, resource in wanted.items()}
    barred = [name for name in mine if name not in wanted or me not in able(wanted[name], candidates)]
    misplaced = sorted(name for name in mine if name not in barred and owners[name] != me)
    some = max(LEAST, int(len(mine) * SHARE))
    return Moves(
        take=[name for name, to in owners.items() if to == me and not held.get(name)],
        give=[*barred, *misplaced[:some]],
        orphans=[name for name, to in owners.items() if to is None],
    )
