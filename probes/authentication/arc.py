"""The Authenticated Received Chain of a message (RFC 8617 section 5.2): none, pass or fail.

`temperror` where DNS kept us from looking: the chain may well be sound.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from probes.authentication.canonical import header_relaxed
from probes.authentication.keys import KeySearch, find_all
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
from probes.authentication.tags import without_value
from probes.dns import Resolver

#: RFC 8617 section 4.2.1: a chain is no longer than this.
SET_CAP = 50
_AAR_INSTANCE = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([0-9]{1,2})[ \t\r\n]*;")
_RESULTS = b"arc-authentication-results"
_MESSAGE_SIGNATURE = b"arc-message-signature"
_SEAL = b"arc-seal"


@dataclass(frozen=True, slots=True)
class ArcHop:
    """One ARC set: who sealed it, what it says of the chain before it (cv=), and the results it recorded."""

    instance: int
    domain: str
    selector: str
    chain: str
    results: str


@dataclass(frozen=True, slots=True)
class ArcResult:
    """The chain as a whole.

    result: none, pass, fail or temperror; domain: who sealed last; reason: a closed word; hops: the sets,
    oldest first; oldest_pass: the oldest instance whose message signature still fits (0: none or all do).
    """

    result: str
    reason: str
    detail: str
    domain: str = ""
    hops: tuple[ArcHop, ...] = ()
    oldest_pass: int | None = None

    def to_json(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "result": self.result,
            "domain": self.domain,
            "detail": self.detail,
            "reason": self.reason,
            "oldest_pass": self.oldest_pass,
            "hops": [
                {
                    "instance": hop.instance,
                    "domain": hop.domain,
                    "selector": hop.selector,
                    "cv": hop.chain,
                    "results": hop.results,
                }
                for hop in self.hops
            ],
        }


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One instance: the index of its results field, and its two signatures."""

    instance: int
    results: int
    signature: Signature
    seal: Signature
    chain: str


@dataclass(frozen=True, slots=True)
class ArcChain:
    """What the header fields say, before any key is known: the sets oldest first, or the fault."""

    sets: tuple[ArcSet, ...] = ()
    error: SignatureError | None = None


def read_chain(message: Message) -> ArcChain | None:
    """Collects and orders the ARC sets (section 5.2 steps 1 to 3); None where the message has none."""
    places = {name: message.indexes(name) for name in (_RESULTS, _MESSAGE_SIGNATURE, _SEAL)}
    if not any(places.values()):
        return None
    try:
        return ArcChain(_collect(message, places))
    except SignatureError as error:
        return ArcChain(error=error)


def _collect(message: Message, places: dict[bytes, list[int]]) -> tuple[ArcSet, ...]:
    if max(len(found) for found in places.values()) > SET_CAP:
        raise SignatureError("structure", f"more than {SET_CAP} ARC sets")
    tags = {index: read_tags(message, index) for index in (*places[_MESSAGE_SIGNATURE], *places[_SEAL])}
    results = _by_instance(_aar_instance(message, index) for index in places[_RESULTS])
    signatures = _by_instance(
        (_instance(tags[index].get(b"i", b"")), index) for index in places[_MESSAGE_SIGNATURE]
    )
    seals = _by_instance((_instance(tags[index].get(b"i", b"")), index) for index in places[_SEAL])
    expected = set(range(1, len(seals) + 1))
    if not expected or set(results) != expected or set(signatures) != expected or set(seals) != expected:
        raise SignatureError("structure", "the ARC sets are not complete or not numbered 1 to n")
    if tags[seals[len(seals)]].get(b"cv") == b"fail":  # then nothing else matters (section 5.2 step 2)
        raise SignatureError("cv-fail", "the last sealer found the chain broken (cv=fail)")
    return tuple(_set(i, results[i], signatures[i], seals[i], tags) for i in sorted(expected))


def _by_instance(pairs: Iterable[tuple[int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for instance, index in pairs:
        if instance in found:
            raise SignatureError("structure", f"two ARC fields of one kind have i={instance}")
        found[instance] = index
    return found


def _aar_instance(message: Message, index: int) -> tuple[int, int]:
    match = _AAR_INSTANCE.match(message.value(index))
    if not match:
        raise SignatureError("syntax", "ARC-Authentication-Results does not begin with i=")
    return _instance(match.group(1)), index


def _instance(text: bytes) -> int:
    if not text.isdigit() or len(text) > 2 or not 1 <= int(text) <= SET_CAP:
        raise SignatureError("syntax", f"an ARC field has no usable instance (i={text[:10]!r})")
    return int(text)


def _set(
    instance: int, results: int, signature: int, seal: int, tags: dict[int, dict[bytes, bytes]]
) -> ArcSet:
    seal_tags = tags[seal]
    chain = seal_tags.get(b"cv", b"").decode("ascii", "replace")
    if chain != ("none" if instance == 1 else "pass"):
        raise SignatureError("structure", f"ARC-Seal i={instance} says cv={chain[:20]}")
    if b"h" in seal_tags:
        raise SignatureError("syntax", f"ARC-Seal i={instance} has an h= tag (section 4.1.3)")
    read = read_signature(signature, tags[signature])
    if _SEAL in read.headers:
        raise SignatureError("syntax", f"ARC-Message-Signature i={instance} signs ARC-Seal (section 4.1.2)")
    return ArcSet(instance, results, read, read_signature(seal, seal_tags, seal=True), chain)


def chain_key_names(chain: ArcChain | None) -> set[str]:
    """Where every key the chain needs is published."""
    sets = chain.sets if chain is not None else ()
    return {one.seal.key_name for one in sets} | {one.signature.key_name for one in sets}


def judge_chain(message: Message, chain: ArcChain | None, keys: dict[str, KeySearch]) -> ArcResult:
    """Proves the chain with the keys that were found (section 5.2 steps 4 to 7). Pure; never raises."""
    if chain is None:
        return ArcResult("none", "none", "the message has no ARC set")
    if chain.error is not None:
        return ArcResult("fail", chain.error.reason, chain.error.detail)
    hops = tuple(_hop(message, one) for one in chain.sets)
    last = chain.sets[-1]
    try:
        _check_message_signature(message, last, keys)
        for one in reversed(chain.sets):
            _check_seal(message, chain.sets[: one.instance], keys)
    except SignatureError as error:
        word = "fail" if error.certain else "temperror"
        return ArcResult(word, error.reason, error.detail, last.seal.domain, hops)
    oldest = _oldest_pass(message, chain.sets, keys)
    detail = f"{len(hops)} set{'s' * (len(hops) > 1)}, sealed last by {last.seal.domain}"
    return ArcResult("pass", "ok", detail, last.seal.domain, hops, oldest)


def _hop(message: Message, one: ArcSet) -> ArcHop:
    text = header_relaxed(message.raws[one.results]).partition(b":")[2]
    text = text.partition(b";")[2].strip()[:2000]
    return ArcHop(
        one.instance, one.seal.domain, one.seal.selector, one.chain, text.decode("utf-8", "replace")
    )


def _check_message_signature(message: Message, one: ArcSet, keys: dict[str, KeySearch]) -> None:
    signature = one.signature
    try:
        key = usable_key(signature, keys[signature.key_name])
        check_body(message, signature)
        check_signature(key, signature.signature, signed_data(message, signature))
    except SignatureError as error:
        detail = f"ARC-Message-Signature i={one.instance}: {error.detail}"
        raise SignatureError(error.reason, detail, certain=error.certain) from None


def _check_seal(message: Message, sets: tuple[ArcSet, ...], keys: dict[str, KeySearch]) -> None:
    """The last seal of these sets covers all of them, its own b= left empty (section 5.1.1)."""
    last = sets[-1]
    try:
        key = usable_key(last.seal, keys[last.seal.key_name])
        check_signature(key, last.seal.signature, _sealed_data(message, sets))
    except SignatureError as error:
        detail = f"ARC-Seal i={last.instance}: {error.detail}"
        raise SignatureError(error.reason, detail, certain=error.certain) from None


def _sealed_data(message: Message, sets: tuple[ArcSet, ...]) -> bytes:
    parts = []
    for one in sets:
        parts += [message.header(index, True) for index in (one.results, one.signature.index, one.seal.index)]
    parts[-1] = header_relaxed(without_value(message.raws[sets[-1].seal.index]))
    return b"\r\n".join(parts)


def _oldest_pass(message: Message, sets: tuple[ArcSet, ...], keys: dict[str, KeySearch]) -> int:
    """How far back the message is still as it was signed (section 5.2 step 5, arc.oldest-pass; 0: all the
    way).
    """
    for one in reversed(sets[:-1]):
        try:
            _check_message_signature(message, one, keys)
        except SignatureError:
            return one.instance + 1
    return 0


async def verify_arc(message: Message, resolver: Resolver) -> ArcResult:
    """The ARC chain of the message."""
    chain = read_chain(message)
    return judge_chain(message, chain, await find_all(chain_key_names(chain), resolver))
