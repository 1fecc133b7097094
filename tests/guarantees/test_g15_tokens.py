"""G15: no forged, bit-flipped or other mailbox's token is taken for a canary of ours."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from pathlib import Path

from probes.canary.token import NONCE_BYTES, PREFIX, TokenKeys, find_tokens, mint, verify
from tests.guarantees.claim import Guarantee, Tally

AGENT, ROUTE = "agent-1", "app/gmail-1"
AT = 1_800_000_000.125
EACH = 50_000
QUICK = 10_000

Forgery = Callable[[random.Random, TokenKeys, str], str]


def _wrap(raw: bytes) -> str:
    return PREFIX + base64.b32encode(raw).decode()


def _raw(token: str) -> bytearray:
    return bytearray(base64.b32decode(token[len(PREFIX) :]))


def _random(chance: random.Random, keys: TokenKeys, real: str) -> str:
    return _wrap(bytes([keys.current]) + chance.randbytes(34))


def _flipped(chance: random.Random, keys: TokenKeys, real: str) -> str:
    raw = _raw(real)
    raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
    return _wrap(bytes(raw))


def _other_nonce(chance: random.Random, keys: TokenKeys, real: str) -> str:
    raw = _raw(real)
    raw[7:23] = chance.randbytes(16)
    return _wrap(bytes(raw))


def _other_mailbox(chance: random.Random, keys: TokenKeys, real: str) -> str:
    route = f"app/seed-{chance.randrange(10**9)}"
    return mint(keys, agent=AGENT, route=route, at=AT, nonce=chance.randbytes(NONCE_BYTES))


def _other_agent(chance: random.Random, keys: TokenKeys, real: str) -> str:
    agent = f"agent-{chance.randrange(2, 10**9)}"
    return mint(keys, agent=agent, route=ROUTE, at=AT, nonce=chance.randbytes(NONCE_BYTES))


def _other_key(chance: random.Random, keys: TokenKeys, real: str) -> str:
    stolen = TokenKeys(keys.current, {keys.current: chance.randbytes(32)})
    return mint(stolen, agent=AGENT, route=ROUTE, at=AT, nonce=chance.randbytes(NONCE_BYTES))


FORGERIES: tuple[Forgery, ...] = (_random, _flipped, _other_nonce, _other_mailbox, _other_agent, _other_key)


async def part(folder: Path, number: int, each: int = EACH) -> Tally:
    """So many forgeries of all kinds, each offered in the text of a message; the real one counts."""
    chance = random.Random(number)
    keys = TokenKeys(7, {7: chance.randbytes(32)})
    real = mint(keys, agent=AGENT, route=ROUTE, at=AT, nonce=chance.randbytes(NONCE_BYTES))
    tally = Tally(trials=each)
    tally.check(verify(keys, real, agent=AGENT, route=ROUTE), "the real one was refused")
    for n in range(each):
        forge = FORGERIES[n % len(FORGERIES)]
        token = forge(chance, keys, real)
        taken = any(verify(keys, one, agent=AGENT, route=ROUTE) for one in find_tokens(f"Subject: [{token}]"))
        tally.check(not taken, f"{forge.__name__[1:]}: {token}")
    return tally


GUARANTEE = Guarantee("G15", "no token but ours is accepted", "forged tokens", 1_000_000, EACH, part)


async def test_ten_thousand_forged_tokens_are_refused(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1, each=QUICK)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert tally.failures == []
