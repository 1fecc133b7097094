"""Tokens: which canary a message is, and the proof that this agent minted it for that route.

A token is `MC1` and 56 base32 characters over 35 bytes: key id (1), time in milliseconds (6), nonce (16),
HMAC-SHA-256 cut to 96 bits (12). 35 bytes fill 56 characters exactly, so no padding bits are left that a
forger could flip. `1` is no base32 character, so that a token can begin in one way only and the scan is
linear.

Mail systems change case and fold lines; `find_tokens` undoes that and gives the canonical (upper case) form,
and `verify` takes nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from probes.errors import ConfigError, DataError

PREFIX = "MC1"
NONCE_BYTES = 16
SECRET_BYTES = 32
_TIME_BYTES = 6
_MAC_BYTES = 12
_BODY_BYTES = 1 + _TIME_BYTES + NONCE_BYTES
_BODY_CHARS = 56
TOKEN_CHARS = len(PREFIX) + _BODY_CHARS

_RAW_BYTES = _BODY_BYTES + _MAC_BYTES
_DIGITS = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", "0123456789abcdefghijklmnopqrstuv")
"""From base32's digits to those of int(), which reads them many times faster than base64.b32decode."""

_CANONICAL = re.compile(rf"{PREFIX}[A-Z2-7]{{{_BODY_CHARS}}}")
_TOKEN = re.compile(rb"[Mm][Cc]1([A-Za-z2-7]{%d})" % _BODY_CHARS)
_SEAM = re.compile(rb"\?=[ \t\r\n]{0,8}=\?[^?\s]{1,40}\?[qQ]\?|=\r?\n|\r?\n[ \t]+")
_BASE64_WORD = re.compile(rb"=\?[^?\s]{1,40}\?[bB]\?([A-Za-z0-9+/=]{4,400})\?=")
_FOLDED_GAP = re.compile(rb"\?=[ \t\r\n]{1,8}=\?")
_SECRET_MINIMUM = 16


@dataclass(frozen=True, slots=True)
class TokenKeys:
    """HMAC keys by id (0 to 255). New tokens are minted with `current`; the others still verify until
    dropped."""

    current: int
    secrets: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.current not in self.secrets:
            raise ConfigError(f"token key {self.current} is the current one but there is no such key")
        for number, secret in self.secrets.items():
            if not 0 <= number <= 255:
                raise ConfigError(f"token key id {number} is outside 0 to 255")
            if len(secret) < _SECRET_MINIMUM:
                raise ConfigError(f"token key {number} is shorter than {_SECRET_MINIMUM} bytes")

    def rotated(self, secret: bytes, *, keep: int = 2) -> TokenKeys:
        """A new current key under the next id; the `keep` newest of the old ones still verify."""
        old = dict(list(self.secrets.items())[-keep:]) if keep else {}
        number = (self.current + 1) % 256
        old.pop(number, None)
        return TokenKeys(number, {**old, number: secret})


def _mac(secret: bytes, agent: str, route: str, body: bytes) -> bytes:
    """HMAC over agent, route, key id, time and nonce, each length-prefixed so that no two inputs are
    alike."""
    names = b"".join(len(raw).to_bytes(4, "big") + raw for raw in (agent.encode(), route.encode()))
    return hmac.digest(secret, b"mailcanary token 1\0" + names + body, hashlib.sha256)[:_MAC_BYTES]


def mint(keys: TokenKeys, *, agent: str, route: str, at: float, nonce: bytes) -> str:
    """A new token for one canary.

    at: seconds since the epoch, kept to the millisecond. nonce: 16 unpredictable bytes, never used twice.
    Raises ValueError on a nonce of another length or a time outside 48 bits of milliseconds.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes, not {len(nonce)}")
    milliseconds = round(at * 1000)
    if not 0 <= milliseconds < 1 << (8 * _TIME_BYTES):
        raise ValueError("the time does not fit into a token")
    body = bytes([keys.current]) + milliseconds.to_bytes(_TIME_BYTES, "big") + nonce
    mac = _mac(keys.secrets[keys.current], agent, route, body)
    return PREFIX + base64.b32encode(body + mac).decode("ascii")


def _decode(token: str) -> bytes | None:
    """The 35 bytes of a canonical token; None for anything else."""
    if not _CANONICAL.fullmatch(token):
        return None
    return int(token[len(PREFIX) :].translate(_DIGITS), 32).to_bytes(_RAW_BYTES, "big")


def verify(keys: TokenKeys, token: str, *, agent: str, route: str) -> bool:
    """True if this agent minted exactly this canonical token for exactly this route with a key it still
    holds.

    Compares in constant time. Says nothing about whether the token was ever sent, or is still awaited: that
    is the store's.
    """
    raw = _decode(token)
    if raw is None:
        return False
    secret = keys.secrets.get(raw[0])
    if secret is None:
        return False
    return hmac.compare_digest(_mac(secret, agent, route, raw[:_BODY_BYTES]), raw[_BODY_BYTES:])


def token_time(token: str) -> float:
    """When the token says it was minted, seconds since the epoch. Unproven until `verify`. Raises
    DataError."""
    raw = _decode(token)
    if raw is None:
        raise DataError("not a token in canonical form")
    return int.from_bytes(raw[1 : 1 + _TIME_BYTES], "big") / 1000


def _base64_words(data: bytes) -> bytes:
    """The text of RFC 2047 base64 words, for subjects that a relay encoded anew; adjacent words are
    joined."""
    texts = []
    for match in _BASE64_WORD.finditer(_FOLDED_GAP.sub(b"?==?", data)):
        try:
            texts.append(base64.b64decode(match[1] + b"=" * (-len(match[1]) % 4)))
        except binascii.Error:
            continue
    return b"".join(texts)


def find_tokens(data: bytes | str, *, limit: int = 64) -> list[str]:
    """All that looks like a token, canonical, without repeats, in order, at most `limit`. Linear in the
    input.

    Reads through upper and lower case, header folding, quoted-printable soft breaks, RFC 2047 words and any
    prefix. A find proves nothing: `verify` does.
    """
    return list(islice(each_token(data), limit))


def each_token(data: bytes | str) -> Iterator[str]:
    """The same one by one: who is content with the first need not have the rest looked for."""
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else bytes(data)
    found: set[str] = set()
    for view in _views(raw):
        for match in _TOKEN.finditer(view):
            token = PREFIX + match[1].decode("ascii").upper()
            if token not in found:
                found.add(token)
                yield token


def _views(raw: bytes) -> Iterator[bytes]:
    """The text as it stands, then with its seams closed, then what base64 hides in it."""
    yield raw
    if b"\n" in raw or b"?=" in raw:
        yield _SEAM.sub(b"", raw)
    if b"?b?" in raw or b"?B?" in raw:
        yield _base64_words(raw)
