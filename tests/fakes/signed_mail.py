"""A message signed in every way, and the DNS that proves it, made afresh: no key is kept in the repo."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import dkim
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from probes.authentication.sign import load_key, sign

NOW = 1_700_000_000.0
IP = "192.0.2.10"
SENDER = "bounce@mail.example.com"
HELO = "mx.mail.example.com"


@cache
def rsa_pem(name: str = "main", bits: int = 2048) -> bytes:
    """A private RSA key of that name, one per test process."""
    key = generate_private_key(65537, bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


@cache
def ed25519_pem(name: str = "main") -> bytes:
    """A private ed25519 key of that name, one per test process."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def plain_message(octets: int = 12_000) -> bytes:
    """An unsigned message of about that size: 6 Received, 2 Authentication-Results, HTML of many lines."""
    received = "".join(
        f"Received: from hop{n}.example.com (hop{n}.example.com [192.0.2.{n}])\r\n"
        f"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
        f"\tby hop{n + 1}.example.net (Postfix) with ESMTPS id 4ABC{n}DEF\r\n"
        f"\tfor <seed@example.net>; Fri, 15 Jan 2027 08:00:0{n} +0000 (UTC)\r\n"
        for n in range(6, 0, -1)
    )
    results = (
        "Authentication-Results: mx.example.net;\r\n\tdkim=pass header.d=mail.example.com header.s=r1;\r\n"
        "\tspf=pass smtp.mailfrom=bounce@mail.example.com;\r\n\tdmarc=pass header.from=example.com\r\n"
        "Authentication-Results: inner.example.net;\r\n\tdkim=pass header.d=mail.example.com\r\n"
    )
    head = (
        'From: "Acme" <news@example.com>\r\nTo: Seed <seed@example.net>\r\n'
        "Subject: =?utf-8?q?Hello_w=C3=B6rld?=\r\n"
        "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\nMessage-ID: <abc123@mail.example.com>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: 7bit\r\n"
        "List-Unsubscribe: <https://example.com/unsubscribe/abc123>\r\n\r\n"
    )
    line = '<p style="margin:0">Some   text\tthat goes on  for a while, and ends in a space </p> \r\n'
    text = results + received + head
    return (text + line * max(1, (octets - len(text)) // len(line))).encode()


@dataclass(frozen=True, slots=True)
class SignedMail:
    """A message and the zone (name, type) -> records that makes everything in it pass."""

    message: bytes
    zone: dict[tuple[str, str], list[str]]


@cache
def signed_mail(
    octets: int = 12_000, arc: bool = True, kinds: tuple[str, ...] = ("rsa", "rsa")
) -> SignedMail:
    """Signed by mail.example.com (aligned) and esp.example.org, sealed by example.net, with SPF."""
    message = plain_message(octets)
    zone: dict[tuple[str, str], list[str]] = {
        ("mail.example.com", "TXT"): ["v=spf1 include:_spf.example.com mx -all"],
        ("_spf.example.com", "TXT"): ["v=spf1 ip4:198.51.100.0/24 ip4:192.0.2.0/28 ~all"],
        ("_dmarc.example.com", "TXT"): ["v=DMARC1; p=reject; sp=quarantine; rua=mailto:dmarc@example.com"],
        ("example.com", "A"): ["192.0.2.1"],
    }
    domains = ("mail.example.com", "esp.example.org")
    for number, (kind, domain) in enumerate(zip(kinds, domains, strict=False), 1):
        pem = rsa_pem(f"dkim{number}") if kind == "rsa" else ed25519_pem(f"dkim{number}")
        zone[f"r{number}._domainkey.{domain}", "TXT"] = [load_key(pem).record()]
        message = sign(message, domain, f"r{number}", pem, now=NOW - 60) + message
    if arc:
        pem = rsa_pem("arc")
        zone["seal._domainkey.example.net", "TXT"] = [load_key(pem).record()]
        fields = dkim.arc_sign(message, b"seal", b"example.net", pem, b"mx.example.net")
        message = b"".join(fields) + message
    return SignedMail(message, zone)
