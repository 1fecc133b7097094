"""One signature field, as DKIM-Signature, ARC-Message-Signature and ARC-Seal share it: reading and proving
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from probes.authentication.canonical import header_relaxed
from probes.authentication.domains import is_host_domain, normal_domain
from probes.authentication.keys import RSA_BITS, DkimKey, KeySearch, KeyState
from probes.authentication.message import Message
from probes.authentication.tags import (
    TagError,
    base64_value,
    list_value,
    number_value,
    parse_tags,
    without_value,
)

#: Header fields one signature may name in h=.
SIGNED_FIELDS_CAP = 1000
#: RFC 6376 section 3.5 wants at least 12.
_TIME_DIGITS = 18
_PKCS1 = PKCS1v15()
_SHA256 = SHA256()
_KINDS = {"rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}
_CANONICAL = {b"simple": False, b"relaxed": True}


class SignatureError(ValueError):
    """A signature that cannot count. reason: a closed word; certain: False where DNS kept us from looking."""

    def __init__(self, reason: str, detail: str, *, certain: bool = True) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.certain = certain


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature field that keeps the rules of its own text. Times in seconds since the epoch.

    index: which header field it is; domain and selector: d=, s=; header_relaxed, body_relaxed: c=; headers:
    h= in lower case, as listed; length: l=; signed_at, expires_at: t=, x=.
    """

    index: int
    tags: dict[bytes, bytes]
    algorithm: str
    domain: str
    selector: str
    signature: bytes
    header_relaxed: bool = True
    body_relaxed: bool = True
    body_hash: bytes = b""
    headers: tuple[bytes, ...] = ()
    length: int | None = None
    signed_at: int | None = None
    expires_at: int | None = None

    @property
    def key_name(self) -> str:
        """Where its key is published."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def canonicalization(self) -> str:
        """c= in full, such as relaxed/simple."""
        words = ("simple", "relaxed")
        return f"{words[self.header_relaxed]}/{words[self.body_relaxed]}"


def read_tags(message: Message, index: int) -> dict[bytes, bytes]:
    """The tags of a signature field, else a SignatureError."""
    try:
        return parse_tags(message.value(index))
    except TagError as error:
        raise SignatureError("syntax", str(error)) from None


def read_signature(index: int, tags: dict[bytes, bytes], *, seal: bool = False) -> Signature:
    """Reads the tags all three kinds of field share. seal: an ARC-Seal has no h=, c=, bh= or l= (RFC 8617
    4.1.3).
    """
    required = (b"a", b"b", b"d", b"s") if seal else (b"a", b"b", b"bh", b"d", b"h", b"s")
    for tag in required:
        if tag not in tags:
            raise SignatureError("missing-tag", f"{tag.decode()}= is missing")
    try:
        return _signature(index, tags, seal)
    except TagError as error:
        raise SignatureError("syntax", str(error)) from None


def _signature(index: int, tags: dict[bytes, bytes], seal: bool) -> Signature:
    domain, selector = _names(tags)
    common = {
        "index": index,
        "tags": tags,
        "algorithm": _algorithm(tags[b"a"]),
        "domain": domain,
        "selector": selector,
        "signature": _not_empty(base64_value(tags[b"b"]), "b"),
        "signed_at": number_value(tags[b"t"], _TIME_DIGITS) if b"t" in tags else None,
    }
    if seal:
        return Signature(**common)  # type: ignore[arg-type]
    in_header, in_body = _canonicalization(tags.get(b"c", b"simple/simple"))
    return Signature(
        **common,  # type: ignore[arg-type]
        header_relaxed=in_header,
        body_relaxed=in_body,
        body_hash=_not_empty(base64_value(tags[b"bh"]), "bh"),
        headers=_headers(tags[b"h"]),
        length=number_value(tags[b"l"]) if b"l" in tags else None,
        expires_at=number_value(tags[b"x"], _TIME_DIGITS) if b"x" in tags else None,
    )


def _names(tags: dict[bytes, bytes]) -> tuple[str, str]:
    domain = normal_domain(tags[b"d"].decode("utf-8", "replace"))
    selector = normal_domain(tags[b"s"].decode("utf-8", "replace"))
    for tag, name in (("d", domain), ("s", selector)):
        if not is_host_domain(name):
            raise SignatureError("syntax", f"{tag}= is not a domain name: {name[:60]!r}")
    return domain, selector


def _algorithm(text: bytes) -> str:
    name = text.decode("ascii", "replace")
    if name == "rsa-sha1":
        raise SignatureError("forbidden-algorithm", "rsa-sha1 must not count (RFC 8301 section 3.1)")
    if name not in _KINDS:
        raise SignatureError("algorithm", f"unknown algorithm a={name[:40]!r}")
    return name


def _canonicalization(text: bytes) -> tuple[bool, bool]:
    header, _, body = text.partition(b"/")
    try:
        return _CANONICAL[header.strip()], _CANONICAL[body.strip() if b"/" in text else b"simple"]
    except KeyError:
        raise SignatureError("canonicalization", f"unknown canonicalization c={text[:40]!r}") from None


def _headers(text: bytes) -> tuple[bytes, ...]:
    names = list_value(text.lower())
    if len(names) > SIGNED_FIELDS_CAP:
        raise SignatureError("syntax", f"h= names more than {SIGNED_FIELDS_CAP} fields")
    return names


def _not_empty(data: bytes, tag: str) -> bytes:
    if not data:
        raise SignatureError("syntax", f"{tag}= is empty")
    return data


def signed_data(message: Message, signature: Signature) -> bytes:
    """The bytes the signature signs: the fields of h=, each from the bottom up, then itself without b=
    (section 3.7).
    """
    relaxed = signature.header_relaxed
    left: dict[bytes, list[int]] = {}
    parts = []
    for name in signature.headers:
        places = left.get(name)
        if places is None:
            places = left[name] = message.indexes(name).copy()
        if places:
            parts.append(message.header(places.pop(), relaxed))
    own = without_value(message.raws[signature.index])
    parts.append(header_relaxed(own) if relaxed else own)
    return b"\r\n".join(parts)


def check_body(message: Message, signature: Signature) -> None:
    """Compares the body hash; a SignatureError where the body is another one or shorter than l= (section
    3.5).
    """
    if signature.length is not None:
        present = len(message.canonical_body(signature.body_relaxed))
        if signature.length > present:
            raise SignatureError("body-hash", f"l={signature.length} is longer than the body ({present})")
    if message.body_hash(signature.body_relaxed, signature.length) != signature.body_hash:
        ours = message.body_hash_text(signature.body_relaxed, signature.length)
        raise SignatureError("body-hash", f"the body is not the one that was signed (its hash is {ours})")


def usable_key(signature: Signature, search: KeySearch) -> DkimKey:
    """The key, where one was found that may sign this (RFC 6376 section 6.1.2, RFC 8301), else a
    SignatureError.
    """
    key = search.key
    if key is None or search.state is not KeyState.FOUND:
        raise SignatureError(
            search.state.value, search.detail, certain=search.state is not KeyState.UNREACHABLE
        )
    if key.kind != _KINDS[signature.algorithm]:
        raise SignatureError("key-type", f"a={signature.algorithm} but the key is k={key.kind[:20]}")
    if key.hashes and "sha256" not in key.hashes:
        raise SignatureError("key-hash", "the key does not allow sha256 (h=)")
    if "*" not in key.services and "email" not in key.services:
        raise SignatureError("key-service", "the key is not for mail (s=)")
    if key.kind == "rsa" and not RSA_BITS[0] <= key.bits <= RSA_BITS[1]:
        raise SignatureError(
            "key-size", f"an RSA key of {key.bits} bits must not count (RFC 8301 section 3.2)"
        )
    return key


def check_signature(key: DkimKey, signature: bytes, data: bytes) -> None:
    """Proves the signature over the data, else a SignatureError."""
    if not _proves(key, signature, data):
        raise SignatureError("signature", "the signature does not fit the signed header fields")


def _proves(key: DkimKey, signature: bytes, data: bytes) -> bool:
    public = key.public
    try:
        if isinstance(public, RSAPublicKey):
            public.verify(signature, data, _PKCS1, _SHA256)
        elif isinstance(public, VerifyKey):
            # RFC 8463 section 3: the hash is what is signed. libsodium is twice as fast as OpenSSL here.
            public.verify(sha256(data).digest(), signature)
        else:
            return False
    except (InvalidSignature, BadSignatureError, ValueError):
        return False
    return True
