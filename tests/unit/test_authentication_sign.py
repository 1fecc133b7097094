"""Signing: both kinds of key, and what is refused."""

from __future__ import annotations

from base64 import b64encode

import dkim as dkimpy
import pytest

from probes.authentication.dkim import verify_dkim
from probes.authentication.message import Message
from probes.authentication.sign import DkimKeyPair, load_key, sign, sign_all
from probes.dns import StaticResolver
from probes.errors import ConfigError
from tests.fakes.signed_mail import NOW, ed25519_pem, rsa_pem

PLAIN = (
    b"From: a@example.com\r\nTo: b@example.net\r\nSubject: test\r\nDate: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\nhello\r\n"
)
KEYS = [
    DkimKeyPair("example.com", "r", rsa_pem()),
    DkimKeyPair("example.com", "e", ed25519_pem()),
]
ZONE = {(f"{one.selector}._domainkey.{one.domain}", "TXT"): [load_key(one.key).record()] for one in KEYS}


async def test_two_signatures_side_by_side_verify_here_and_by_dkimpy() -> None:
    message = sign_all(PLAIN, KEYS, NOW)
    found = await verify_dkim(Message(message), StaticResolver(ZONE), NOW)
    assert [(one.result, one.algorithm) for one in found] == [
        ("pass", "rsa-sha256"),
        ("pass", "ed25519-sha256"),
    ]
    assert {one.signed_at for one in found} == {int(NOW)}

    def dns(name: bytes, timeout: float = 5) -> bytes:
        return ZONE[name.decode().rstrip("."), "TXT"][0].encode()

    assert all(dkimpy.DKIM(message).verify(index, dnsfunc=dns) for index in (0, 1))


async def test_nobody_can_add_what_was_signed() -> None:
    found = await verify_dkim(
        Message(b"Subject: another\r\n" + sign_all(PLAIN, KEYS, NOW)), StaticResolver(ZONE), NOW
    )
    assert {one.reason for one in found} == {"signature"}
    assert "list-unsubscribe-post" in found[0].headers


def test_a_bare_ed25519_seed_is_a_key() -> None:
    assert load_key(b64encode(bytes(range(32)))).algorithm == "ed25519-sha256"


@pytest.mark.parametrize(
    "key", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", b"\xff" * 50]
)
def test_a_key_that_cannot_be_read_is_never_shown(key: bytes) -> None:
    with pytest.raises(ConfigError) as told:
        load_key(key)
    assert "AAAA" not in str(told.value)


def test_the_wrong_algorithm_and_a_message_without_from_are_refused() -> None:
    with pytest.raises(ConfigError, match="not ed25519"):
        sign(PLAIN, "example.com", "r", rsa_pem(), now=NOW, algorithm="ed25519-sha256")
    with pytest.raises(ConfigError, match="cannot be signed"):
        sign(b"To: x\r\n\r\n", "example.com", "r", rsa_pem(), now=NOW)
