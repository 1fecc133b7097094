"""DKIM signing for direct senders, by dkimpy, with each private key read once.

dkimpy reads the key anew for every message and does RSA in Python (9 ms with 2,048 bits). Here it builds the
field and the data to sign, and a key of `cryptography` that is kept does the rest (under 1 ms).
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import dkim
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from probes.errors import ConfigError

#: Signed once more than they are there, so that nobody can add a second one (RFC 6376 section 8.15).
OVERSIGNED = (b"from", b"to", b"subject", b"date", b"message-id", b"reply-to")
#: Signed where present, beyond the list of dkimpy: RFC 8058 section 4 asks for it.
ALSO_SIGNED = (b"list-unsubscribe-post",)
_PKCS1 = PKCS1v15()
_DIGEST = Prehashed(SHA256())
#: dkimpy takes a key object only for ed25519, and wants to read a seed first: any will do.
_ANY_SEED = b64encode(bytes(32))


@dataclass(frozen=True, slots=True)
class _Signed:
    """The shape in which dkimpy takes a signature back."""

    signature: bytes


class PrivateKey:
    """A private key that was read once. algorithm: rsa-sha256 or ed25519-sha256."""

    def __init__(self, key: RSAPrivateKey | Ed25519PrivateKey) -> None:
        self._key = key
        self.algorithm = "rsa-sha256" if isinstance(key, RSAPrivateKey) else "ed25519-sha256"

    def sign(self, digest: bytes) -> _Signed:
        """Signs a SHA-256 digest (RFC 6376 section 3.3, RFC 8463 section 3)."""
        if isinstance(self._key, RSAPrivateKey):
            return _Signed(self._key.sign(digest, _PKCS1, _DIGEST))
        return _Signed(self._key.sign(digest))

    def record(self) -> str:
        """The key record to publish at selector._domainkey.domain."""
        public = self._key.public_key()
        if isinstance(self._key, RSAPrivateKey):
            data = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return f"v=DKIM1; k=rsa; p={b64encode(data).decode()}"
        data = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={b64encode(data).decode()}"


@lru_cache(maxsize=256)
def load_key(text: bytes) -> PrivateKey:
    """Reads a private key: PEM (PKCS 1 or 8), or the bare base64 seed of an ed25519 key.

    Raises ConfigError, which never shows the key.
    """
    try:
        if b"-----BEGIN" not in text:
            return PrivateKey(Ed25519PrivateKey.from_private_bytes(b64decode(text, validate=False)))
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("the DKIM key cannot be read: PEM without a passphrase is wanted") from None
    if isinstance(key, RSAPrivateKey) and key.key_size < 1024:
        raise ConfigError(f"the DKIM key has {key.key_size} bits; RFC 8301 forbids fewer than 1024")
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise ConfigError("the DKIM key is neither RSA nor ed25519")
    return PrivateKey(key)


class _Field(dkim.DKIM):  # type: ignore[misc]  # dkimpy has no types
    """dkimpy's signer with the key and the time put in from outside."""

    def __init__(self, message: bytes, key: PrivateKey, now: float) -> None:
        super().__init__(message, signature_algorithm=b"ed25519-sha256")
        self.frozen_sign = set(OVERSIGNED)
        self.should_sign = {*dkim.DKIM.SHOULD, *ALSO_SIGNED}
        self._private_key = key
        self._now = now

    def gen_header(
        self,
        fields: list[tuple[bytes, bytes]],
        include_headers: Sequence[bytes],
        canon_policy: object,
        header_name: bytes,
        pk: object,
        standardize: bool = False,
    ) -> bytes:
        """Says the true algorithm and time, then signs with the key that is kept."""
        true = {b"a": self._private_key.algorithm.encode(), b"t": str(int(self._now)).encode()}
        fields = [(name, true.get(name, value)) for name, value in fields]
        made = super().gen_header(
            fields, include_headers, canon_policy, header_name, self._private_key, standardize
        )
        return bytes(made)


def sign(
    message: bytes,
    domain: str,
    selector: str,
    key: bytes,
    *,
    now: float,
    algorithm: str | None = None,
) -> bytes:
    """The DKIM-Signature field to put before the message, with its CRLF; relaxed/relaxed.

    message: CRLF line ends, without a bare CR; key: as `load_key` takes it (read once per text); now: seconds
    since the epoch, t=; algorithm: what the key is expected to be, rsa-sha256 or ed25519-sha256.
    Raises ConfigError for a key or message that cannot be signed.
    """
    loaded = load_key(key)
    if algorithm is not None and algorithm != loaded.algorithm:
        raise ConfigError(f"the DKIM key is for {loaded.algorithm}, not {algorithm}")
    try:
        field = _Field(message, loaded, now)
        made = field.sign(
            selector.encode("ascii"),
            domain.encode("ascii"),
            _ANY_SEED,
            canonicalize=(b"relaxed", b"relaxed"),
        )
    except (dkim.DKIMException, UnicodeError, IndexError) as error:
        raise ConfigError(f"the message cannot be signed: {error}") from None
    return bytes(made)


@dataclass(frozen=True, slots=True)
class DkimKeyPair:
    """One key of a sender: where its public half is published, and its private text."""

    domain: str
    selector: str
    key: bytes


def sign_all(message: bytes, keys: Sequence[DkimKeyPair], now: float) -> bytes:
    """The message with one signature per key before it; RSA and ed25519 side by side (RFC 8463 section 4)."""
    fields = [sign(message, one.domain, one.selector, one.key, now=now) for one in keys]
    return b"".join(fields) + message
