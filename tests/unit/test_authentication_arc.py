"""ARC: chains that hold, chains that do not, and the difference to chains we could not look at."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

import dkim as dkimpy
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from probes.authentication.arc import ArcResult, verify_arc
from probes.authentication.message import Message
from probes.authentication.sign import load_key
from probes.dns import DnsStatus, StaticResolver
from tests.fakes.signed_mail import ed25519_pem, rsa_pem

PLAIN = (
    b"Authentication-Results: mx.example.net; spf=pass smtp.mailfrom=example.com\r\n"
    b"From: a@example.com\r\nTo: b@example.net\r\nSubject: test\r\n"
    b"Date: Fri, 15 Jan 2027 08:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n\r\nhello\r\n"
)
NAME = "s._domainkey.example.net"


def sealed(message: bytes = PLAIN) -> bytes:
    """One more ARC set, by dkimpy."""
    return b"".join(dkimpy.arc_sign(message, b"s", b"example.net", rsa_pem(), b"mx.example.net")) + message


def chain(length: int) -> bytes:
    message = sealed()
    for _ in range(length - 1):
        message = resealed(message)
    return message


def resealed(message: bytes) -> bytes:
    """The next set; dkimpy wants to be told that the chain so far passed, once."""
    told = b"Authentication-Results: mx.example.net; arc=pass\r\n"
    message = told + message.replace(told, b"")
    fields = dkimpy.arc_sign(message, b"s", b"example.net", rsa_pem(), b"mx.example.net")
    return b"".join(fields) + message


async def verify(message: bytes, answer: str | DnsStatus | None = None) -> ArcResult:
    record = answer or load_key(rsa_pem()).record()
    zone = {(NAME, "TXT"): record if isinstance(record, DnsStatus) else [record]}
    return await verify_arc(Message(message), StaticResolver(zone))


async def test_none_without_sets() -> None:
    assert (await verify(PLAIN)).result == "none"


async def test_one_set_passes_and_is_told() -> None:
    found = await verify(sealed())
    assert (found.result, found.domain, found.oldest_pass) == ("pass", "example.net", 0)
    (hop,) = found.hops
    assert (hop.instance, hop.chain, hop.selector) == (1, "none", "s")
    assert "spf=pass" in hop.results


async def test_chains_pass() -> None:
    found = await verify(chain(3))
    assert (found.result, len(found.hops)) == ("pass", 3)


async def test_an_ed25519_chain_passes() -> None:
    """Sealed by hand: dkimpy does not know such seals."""
    key = load_pem_private_key(ed25519_pem(), None)
    body = b64encode(sha256(b"hello\r\n").digest()).decode()
    aar = "arc-authentication-results:i=1; mx.example.net; spf=pass"
    ams = (
        "arc-message-signature:i=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.net; s=s; "
        f"h=from:subject; bh={body}; b="
    )
    signature = key.sign(sha256(f"from:a@example.com\r\nsubject:test\r\n{ams}".encode()).digest())
    ams += b64encode(signature).decode()
    seal = "arc-seal:i=1; a=ed25519-sha256; cv=none; d=example.net; s=s; b="
    signature = key.sign(sha256(f"{aar}\r\n{ams}\r\n{seal}".encode()).digest())
    seal += b64encode(signature).decode()
    message = f"{seal}\r\n{ams}\r\n{aar}\r\n".encode() + PLAIN
    assert (await verify(message, load_key(ed25519_pem()).record())).result == "pass"
    wrong = message.replace(b"Subject: test", b"Subject: tests")
    assert (await verify(wrong, load_key(ed25519_pem()).record())).reason == "signature"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"cv=none", b"cv=pass", "structure"),
        (b"cv=none", b"cv=fail", "cv-fail"),
        (b"hello", b"hullo", "body-hash"),
        (b"Subject: test", b"Subject: rest", "signature"),
        (b"ARC-Seal: ", b"X-Seal: ", "structure"),
        (b"ARC-Message-Signature: ", b"X-Signature: ", "structure"),
        (b"ARC-Authentication-Results: ", b"X-Results: ", "structure"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results: i=2;", "structure"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results: ", "syntax"),
        (b"ARC-Authentication-Results: i=1;", b"ARC-Authentication-Results:\ti=;", "syntax"),
        (b"ARC-Seal: ", b"ARC-Seal: h=from; ", "syntax"),
        (b"ARC-Seal: ", b"ARC-Seal: ;; ", "syntax"),
        (b"spf=pass smtp", b"spf=fail smtp", "signature"),
    ],
)
async def test_broken_chains_fail(old: bytes, new: bytes, reason: str) -> None:
    message = sealed()
    assert old in message
    found = await verify(message.replace(old, new))
    assert (found.result, found.reason) == ("fail", reason)


@pytest.mark.parametrize(
    ("answer", "result"),
    [(DnsStatus.TIMEOUT, "temperror"), (DnsStatus.NXDOMAIN, "fail"), ("v=DKIM1; p=", "fail")],
)
async def test_a_key_we_could_not_look_up_breaks_no_chain(answer: str | DnsStatus, result: str) -> None:
    assert (await verify(sealed(), answer)).result == result


async def test_a_hop_that_changed_the_message_is_told() -> None:
    first = sealed().replace(b"Subject: test", b"Subject: [list] test")
    found = await verify(resealed(first))
    assert (found.result, found.oldest_pass) == ("pass", 2)


async def test_a_hundred_sets_are_too_many() -> None:
    fields = b"".join(b"ARC-Seal: i=%d; cv=pass\r\n" % number for number in range(1, 101))
    assert (await verify(fields + PLAIN)).reason == "structure"
