"""DKIM public keys: the record (RFC 6376 section 3.6.1, RFC 8463), fetched through our resolver, parsed once.

Missing, revoked, unreadable and "could not look" stay four different things.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from nacl.signing import VerifyKey

from probes.authentication.tags import TagError, base64_value, list_value, parse_tags
from probes.dns import DnsAnswer, DnsStatus, Resolver

#: Characters of a key record that are looked at: a 16,384-bit RSA key has under 3,000.
RECORD_CAP = 8192
#: RFC 8301 section 3.2: shorter RSA keys never verify; longer ones only cost time.
RSA_BITS = (1024, 8192)
#: RFC 6376 section 3.3.1 wants 65537; a huge one would make every check as slow as signing.
EXPONENT_CAP = 2**32


class KeyState(StrEnum):
    """How a search for a key ended. Only UNREACHABLE may end otherwise next time."""

    FOUND = "found"
    MISSING = "no-key"
    REVOKED = "key-revoked"
    SYNTAX = "key-syntax"
    UNREACHABLE = "dns"


@dataclass(frozen=True, slots=True)
class DkimKey:
    """A key record.

    kind: k=; bits: size of the key (256 for ed25519); hashes: h=, empty where any goes; services: s=;
    testing: t=y; strict: t=s, i= must be exactly d=.
    """

    kind: str
    public: RSAPublicKey | VerifyKey | None
    bits: int
    hashes: tuple[str, ...]
    services: tuple[str, ...]
    testing: bool
    strict: bool


@dataclass(frozen=True, slots=True)
class KeySearch:
    """What was found at selector._domainkey.domain. detail: for people."""

    name: str
    state: KeyState
    detail: str
    key: DkimKey | None = None


@lru_cache(maxsize=2048)
def parse_key(record: str) -> tuple[KeyState, DkimKey | None, str]:
    """Reads a key record: (FOUND, key, ""), (REVOKED, None, why) or (SYNTAX, None, why)."""
    if len(record) > RECORD_CAP:
        return KeyState.SYNTAX, None, "the key record is too long"
    try:
        tags = parse_tags(record.encode("latin-1", "replace"))
        return _read_key(tags)
    except TagError as error:
        return KeyState.SYNTAX, None, f"the key record cannot be read: {error}"


def _read_key(tags: dict[bytes, bytes]) -> tuple[KeyState, DkimKey | None, str]:
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        raise TagError("v= is not DKIM1")
    if b"p" not in tags:
        raise TagError("p= is missing")
    if not tags[b"p"]:
        return KeyState.REVOKED, None, "the key is revoked (p= is empty)"
    kind = tags.get(b"k", b"rsa").decode("ascii", "replace")
    public, bits = _public_key(kind, base64_value(tags[b"p"]))
    flags = list_value(tags.get(b"t", b""))
    key = DkimKey(
        kind=kind,
        public=public,
        bits=bits,
        hashes=_words(tags.get(b"h", b"")),
        services=_words(tags.get(b"s", b"*")),
        testing=b"y" in flags,
        strict=b"s" in flags,
    )
    return KeyState.FOUND, key, ""


def _public_key(kind: str, data: bytes) -> tuple[RSAPublicKey | VerifyKey | None, int]:
    try:
        if kind == "ed25519":
            return VerifyKey(data), 256
        if kind == "rsa":
            public = load_der_public_key(data)
            if isinstance(public, RSAPublicKey) and public.public_numbers().e <= EXPONENT_CAP:
                return public, public.key_size
            raise TagError("p= is not an RSA key for mail")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TagError(f"p= is not a {kind} key: {error}") from None
    return None, 0


def _words(text: bytes) -> tuple[str, ...]:
    return tuple(item.decode("ascii", "replace").lower() for item in list_value(text) if item)


async def find_key(name: str, resolver: Resolver) -> KeySearch:
    """Looks for the key record at a full name such as `s1._domainkey.example.com`."""
    if len(name) > 253:
        return KeySearch(name, KeyState.MISSING, "no key: the name is longer than DNS allows")
    answer = await resolver.query(name, "TXT")
    if not answer.status.conclusive:
        return KeySearch(name, KeyState.UNREACHABLE, f"{name}: DNS {answer.status.value}")
    if answer.status is not DnsStatus.OK or not answer.records:
        return KeySearch(name, KeyState.MISSING, f"no key at {name} ({answer.status.value})")
    return _best(name, answer)


async def find_all(names: Collection[str], resolver: Resolver) -> dict[str, KeySearch]:
    """Looks for several keys at the same time; by name."""
    if len(names) == 1:
        (name,) = names
        return {name: await find_key(name, resolver)}
    found = await asyncio.gather(*(find_key(name, resolver) for name in names))
    return {search.name: search for search in found}


def _best(name: str, answer: DnsAnswer) -> KeySearch:
    """The first record that is a key; of several others the first error (RFC 6376 section 3.6.2.2)."""
    found = [parse_key(record) for record in answer.records[:5]]
    state, key, detail = next((one for one in found if one[0] is KeyState.FOUND), found[0])
    return KeySearch(name, state, f"{name}: {detail}" if detail else "", key)
