"""Our own SPF, DKIM, ARC and DMARC evaluation of one message as it was received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from probes.authentication.arc import ArcChain, ArcResult, chain_key_names, judge_chain, read_chain
from probes.authentication.author import author_domains
from probes.authentication.dkim import Claim, DkimResult, judge_all, key_names, read_claims
from probes.authentication.dmarc import DmarcResult, evaluate_dmarc, identifiers
from probes.authentication.keys import KeySearch, find_all
from probes.authentication.lookups import TOTAL_SECONDS, Lookups
from probes.authentication.message import Message
from probes.authentication.spf import check_spf
from probes.authentication.spf_result import SpfResult
from probes.dns import Resolver

#: Messages of more octets are read and hashed in a thread, so that the loop never waits for them.
THREAD_OCTETS = 100_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What we ourselves find. dkim: one result a signature, top to bottom; questions: DNS lookups it took."""

    spf: SpfResult
    dkim: tuple[DkimResult, ...]
    arc: ArcResult
    dmarc: DmarcResult
    questions: int = 0

    def to_json(self) -> dict[str, object]:
        """JSON-ready: spf, dkim (a list), arc and dmarc, each with at least result, domain and detail."""
        return {
            "spf": self.spf.to_json(),
            "dkim": [one.to_json() for one in self.dkim],
            "arc": self.arc.to_json(),
            "dmarc": self.dmarc.to_json(),
        }


@dataclass(slots=True)
class _Read:
    """What one pass over the message found, before any DNS."""

    message: Message
    claims: list[Claim]
    chain: ArcChain | None
    authors: tuple[str, ...]


async def evaluate(
    message: bytes,
    *,
    ip: str | None,
    helo: str | None,
    mail_from: str | None,
    resolver: Resolver,
    now: float,
    seconds: float = TOTAL_SECONDS,
) -> Evaluation:
    """Evaluates a message as received. Never raises on hostile bytes or failing DNS.

    ip, helo: of the connection, from the provider's own Received; mail_from: the reverse path, "" for the
    null one; each None where it is not known (SPF is then none, `evaluated` False, and never makes DMARC
    fail). now: when it was received, seconds since the epoch: signatures expire by it. seconds: deadline
    for all DNS questions together.
    """
    lookups = Lookups(resolver, total_seconds=seconds)
    try:
        return await _evaluate(message, ip, helo, mail_from, lookups, now)
    finally:
        lookups.close()


async def _evaluate(
    octets: bytes, ip: str | None, helo: str | None, mail_from: str | None, lookups: Lookups, now: float
) -> Evaluation:
    large = len(octets) > THREAD_OCTETS
    read = await _run(large, lambda: _read(octets))
    spf, keys = await asyncio.gather(
        check_spf(ip, mail_from, helo, lookups, now=now),
        find_all(key_names(read.claims) | chain_key_names(read.chain), lookups),
    )
    dkim, arc = await _run(large, lambda: _judge(read, keys, now))
    dmarc = await evaluate_dmarc(read.authors, identifiers(spf, dkim), lookups)
    return Evaluation(spf, dkim, arc, dmarc, len(lookups.asked))


async def _run(large: bool, work: Callable[[], T]) -> T:
    return await asyncio.to_thread(work) if large else work()


def _read(raw: bytes) -> _Read:
    message = Message(raw)
    return _Read(message, read_claims(message), read_chain(message), author_domains(message))


def _judge(read: _Read, keys: dict[str, KeySearch], now: float) -> tuple[tuple[DkimResult, ...], ArcResult]:
    return judge_all(read.message, read.claims, keys, now), judge_chain(read.message, read.chain, keys)
