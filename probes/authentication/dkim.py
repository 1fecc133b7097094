"""All DKIM signatures of a message (RFC 6376, 8301, 8463), each with its own result and reason.

A result is pass, fail (proved wrong, or must not count), permerror (cannot be evaluated, ever), temperror (we
could not look) or neutral (beyond the cap). `none` is the empty tuple.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from probes.authentication.domains import is_below, normal_domain
from probes.authentication.keys import DkimKey, KeySearch, find_all
from probes.authentication.message import Message
from probes.authentication.signature import (
    Signature,
    SignatureError,
    check_body,
    check_signature,
    read_signature,
    read_tags,
    signed_data,
    usable_key,
)
from probes.clock import rfc3339
from probes.dns import Resolver

#: Signatures of one message that are evaluated; further ones are told and left.
SIGNATURE_CAP = 20
#: RFC 5322 section 3.6 allows one of each: a second one that is not signed is an addition (RFC 6376 section
#: 8.15).
SINGLE_FIELDS = (b"from", b"sender", b"reply-to", b"to", b"cc", b"subject", b"date", b"message-id")
#: Seconds a signature may lie in the future before it is told.
CLOCK_SLACK = 600

_FAILS = frozenset(
    {"body-hash", "signature", "forbidden-algorithm", "key-size", "expired", "added-header", "key-flags"}
)


@dataclass(frozen=True, slots=True)
class DkimResult:
    """What became of one signature.

    result: pass, fail, neutral, temperror or permerror; reason: a closed word ("ok" for pass); detail: for
    people; domain, selector, identity: d=, s=, i=; key_bits: 0 where no key was seen; body_length: l=;
    unsigned_octets: of the canonical body, behind l=; signed_at, expires_at: seconds since the epoch;
    expired: at the time of evaluation; testing: the key says t=y; warnings: what weakens a pass.
    """

    result: str
    reason: str
    detail: str
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    key_bits: int = 0
    canonicalization: str = ""
    headers: tuple[str, ...] = ()
    body_length: int | None = None
    unsigned_octets: int = 0
    signed_at: int | None = None
    expires_at: int | None = None
    expired: bool = False
    testing: bool = False
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """JSON-ready: the fields, lists for tuples."""
        return {
            "result": self.result,
            "domain": self.domain,
            "detail": self.detail,
            "reason": self.reason,
            "selector": self.selector,
            "identity": self.identity,
            "algorithm": self.algorithm,
            "key_bits": self.key_bits or None,
            "canonicalization": self.canonicalization,
            "headers": list(self.headers),
            "body_length": self.body_length,
            "unsigned_octets": self.unsigned_octets,
            "signed_at": self.signed_at,
            "expires_at": self.expires_at,
            "expired": self.expired,
            "testing": self.testing,
            "warnings": list(self.warnings),
        }


@dataclass(slots=True)
class Claim:
    """A DKIM-Signature field before its key is known: readable, or an error already."""

    tags: dict[bytes, bytes] = field(default_factory=dict)
    signature: Signature | None = None
    identity: str = ""
    error: SignatureError | None = None


def read_claims(message: Message) -> list[Claim]:
    """Reads every DKIM-Signature field, top to bottom."""
    places = message.indexes(b"dkim-signature")
    claims = [_read_claim(message, index) for index in places[:SIGNATURE_CAP]]
    late = SignatureError("too-many", f"only the first {SIGNATURE_CAP} signatures are evaluated")
    claims += [Claim(error=late) for _ in places[SIGNATURE_CAP : SIGNATURE_CAP + 1]]
    return claims


def _read_claim(message: Message, index: int) -> Claim:
    claim = Claim()
    try:
        tags = read_tags(message, index)
        _check_version(tags)  # of another version nothing else can be understood
        claim.tags = tags
        claim.signature = read_signature(index, tags)
        claim.identity = _identity(tags, claim.signature)
        _check_rules(tags, claim.signature)
    except SignatureError as error:
        claim.error = error
    return claim


def _check_version(tags: dict[bytes, bytes]) -> None:
    version = tags.get(b"v")
    if version is None:
        raise SignatureError("version", "v= is missing")
    if version != b"1":
        raise SignatureError("version", f"v= is not 1: {version[:20]!r}")


def _identity(tags: dict[bytes, bytes], signature: Signature) -> str:
    """i=, by default @d=; its domain must be d= or below it (section 3.5)."""
    text = tags.get(b"i", b"").decode("utf-8", "replace") or "@" + signature.domain
    local, at, domain = text.rpartition("@")
    if not at or not is_below(normal_domain(domain), signature.domain):
        raise SignatureError("domain", f"i={text[:80]} is not within d={signature.domain}")
    return f"{local}@{normal_domain(domain)}"


def _check_rules(tags: dict[bytes, bytes], signature: Signature) -> None:
    if b"from" not in signature.headers:
        raise SignatureError("from-unsigned", "From is not signed (h=)")
    methods = tags.get(b"q", b"dns/txt").lower().replace(b" ", b"").split(b":")
    if b"dns/txt" not in methods:
        raise SignatureError("syntax", "q= knows no dns/txt")
    start, end = signature.signed_at, signature.expires_at
    if start is not None and end is not None and end <= start:
        raise SignatureError("syntax", "x= is not later than t=")


def judge(message: Message, claim: Claim, search: KeySearch | None, now: float) -> DkimResult:
    """Proves one signature with the key that was found. Pure, linear in the size of the message."""
    signature, key = claim.signature, search.key if search else None
    error = claim.error
    if error is None and signature is not None and search is not None:
        error = _first_error(message, signature, claim.identity, search, now)
    if signature is None:
        assert error is not None
        return DkimResult(
            _word(error),
            error.reason,
            error.detail,
            domain=_told(claim, b"d"),
            selector=_told(claim, b"s"),
            algorithm=_told(claim, b"a"),
        )
    return _result(message, claim, signature, key, error, now)


def _told(claim: Claim, tag: bytes) -> str:
    """What an unusable signature says of itself."""
    return normal_domain(claim.tags.get(tag, b"").decode("utf-8", "replace"))[:253]


def _first_error(
    message: Message, signature: Signature, identity: str, search: KeySearch, now: float
) -> SignatureError | None:
    """The body first: it tells most of what happened on the way. Then key, signature, rules."""
    try:
        key = usable_key(signature, search)
        if key.strict and identity.rpartition("@")[2] != signature.domain:
            raise SignatureError("key-flags", "the key wants i= to be exactly d= (t=s)")
        check_body(message, signature)
        check_signature(key, signature.signature, signed_data(message, signature))
        _check_additions(message, signature)
        if signature.expires_at is not None and now > signature.expires_at:
            raise SignatureError("expired", "the signature fits but has expired (x=)")
    except SignatureError as error:
        return error
    return None


def _check_additions(message: Message, signature: Signature) -> None:
    for name in SINGLE_FIELDS:
        signed = signature.headers.count(name)
        if signed and len(message.indexes(name)) > signed:
            shown = name.decode().title()
            raise SignatureError(
                "added-header", f"an unsigned {shown} field was added (RFC 6376 section 8.15)"
            )


def _result(
    message: Message,
    claim: Claim,
    signature: Signature,
    key: DkimKey | None,
    error: SignatureError | None,
    now: float,
) -> DkimResult:
    unsigned = 0
    if signature.length is not None:
        unsigned = max(0, len(message.canonical_body(signature.body_relaxed)) - signature.length)
    bits = key.bits if key else 0
    warnings = tuple(_warnings(signature, key, unsigned, now))
    told = error.detail if error else f"{signature.algorithm}, {bits} bits"
    expired = signature.expires_at is not None and now > signature.expires_at
    return DkimResult(
        result=_word(error) if error else "pass",
        reason=error.reason if error else "ok",
        detail="; ".join((told, *warnings)),
        domain=signature.domain,
        selector=signature.selector,
        identity=claim.identity,
        algorithm=signature.algorithm,
        key_bits=bits,
        canonicalization=signature.canonicalization,
        headers=tuple(name.decode("ascii", "replace") for name in signature.headers),
        body_length=signature.length,
        unsigned_octets=unsigned,
        signed_at=signature.signed_at,
        expires_at=signature.expires_at,
        expired=expired,
        testing=bool(key and key.testing),
        warnings=warnings,
    )


def _warnings(signature: Signature, key: DkimKey | None, unsigned: int, now: float) -> list[str]:
    found = []
    if signature.expires_at is not None:
        word = "expired" if now > signature.expires_at else "expires"
        found.append(f"{word} {_date(signature.expires_at)} (x=)")
    if signature.length is not None:
        found.append(f"l={signature.length}: {unsigned} octets at the end of the body are not signed")
    if key and key.testing:
        found.append("the key is in testing mode (t=y)")
    if key and key.kind == "rsa" and key.bits < 2048:
        found.append(f"an RSA key of {key.bits} bits is short (RFC 8301 asks for 2048)")
    if signature.signed_at is not None and signature.signed_at > now + CLOCK_SLACK:
        found.append("the signature is dated in the future (t=)")
    if b"subject" not in signature.headers:
        found.append("Subject is not signed")
    return found


def _date(when: int) -> str:
    return rfc3339(when) if when < 2**37 else str(when)


def _word(error: SignatureError) -> str:
    if not error.certain:
        return "temperror"
    if error.reason == "too-many":
        return "neutral"
    return "fail" if error.reason in _FAILS else "permerror"


def key_names(claims: list[Claim]) -> set[str]:
    """Where the keys of all readable signatures are published."""
    return {claim.signature.key_name for claim in claims if claim.signature and not claim.error}


async def verify_dkim(message: Message, resolver: Resolver, now: float) -> tuple[DkimResult, ...]:
    """Every signature of the message, top to bottom; empty where there is none. now: epoch seconds."""
    claims = read_claims(message)
    return judge_all(message, claims, await find_all(key_names(claims), resolver), now)


def judge_all(
    message: Message, claims: list[Claim], keys: dict[str, KeySearch], now: float
) -> tuple[DkimResult, ...]:
    """Proves all signatures with the keys that were found."""
    return tuple(judge(message, claim, _key_of(claim, keys), now) for claim in claims)


def _key_of(claim: Claim, keys: dict[str, KeySearch]) -> KeySearch | None:
    return keys.get(claim.signature.key_name) if claim.signature else None
