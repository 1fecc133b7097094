"""Hops, times, delays."""

from __future__ import annotations

import pytest

from probes.headers.dates import parse_time
from probes.headers.received import parse_received, timing

NOON = 1_795_262_400.0  # 2026-11-21T12:00:00Z


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sat, 21 Nov 2026 12:00:00 +0000", NOON),
        ("Sat, 21 Nov 2026 12:00:00 -0000", NOON),
        ("21 Nov 2026 13:00:00 +0100 (CET)", NOON),
        ("Sat, 21 Nov 2026 11:59:60 +0000", NOON),
        ("Sat, 21 Nov 2026 07:00:00 EST", NOON),
        ("Sat, 21 Nov 2026 12:00:00 XYZ", NOON),
        ("Sat, 21 Nov 2026 12:00:00 +9999", NOON),
        ("Sat, 21 Nov 26 12:00:00 +0000", NOON),
        ("Sat Nov 21 12:00:00 2026", NOON),
        ("2026-11-21 12:00:00.5 +0000 UTC", NOON + 0.5),
        ("2026-11-21T12:00:00Z", NOON),
        ("11/21/2026 12:00:00 PM", NOON),
        ("31 Feb 2026 12:00:00 +0000", None),
        ("Sat, 21 Nov 2026 25:00:00 +0000", None),
        ("Sat, 21 Nov 2026 12:60:00 +0000", None),
        ("", None),
        ("yesterday", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert parse_time(text) == seconds


def test_postfix_hop() -> None:
    hop = parse_received(
        b" from mail.a.example (rdns.a.example [192.0.2.1])\r\n"
        b"\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
        b"\tby mx.b.example (Postfix) with ESMTPS id 4XyZ\r\n\tfor <s@b.example>;"
        b" Sat, 21 Nov 2026 12:00:00 +0000 (UTC)"
    )
    assert (hop.helo, hop.rdns, hop.ip, hop.by) == (
        "mail.a.example",
        "rdns.a.example",
        "192.0.2.1",
        "mx.b.example",
    )
    assert (hop.protocol, hop.id, hop.recipient, hop.time) == ("ESMTPS", "4XyZ", "s@b.example", NOON)
    assert (hop.tls_version, hop.cipher, hop.encrypted) == ("TLS1.3", "TLS_AES_256_GCM_SHA384", True)


def test_exim_qmail_and_microsoft_hops() -> None:
    exim = parse_received(
        "from [192.0.2.1] (helo=a.example) by b with esmtpa (Exim 4.96) id 1-2 for u@b; 21 Nov 2026"
    )
    assert (exim.helo, exim.rdns, exim.ip) == ("a.example", None, "192.0.2.1")
    qmail = parse_received(
        "from r.example (HELO a.example) (u@192.0.2.1) by b with SMTP; 21 Nov 2026 12:00:00 -0000"
    )
    assert (qmail.helo, qmail.rdns, qmail.ip, qmail.ident) == ("a.example", "r.example", "192.0.2.1", "u")
    office = parse_received(
        "from a.example (192.0.2.1) by B.outlook.com (10.0.0.1) with Microsoft SMTP Server (version=TLS1_2,"
        " cipher=TLS_X_Y) id 15.20 via Frontend Transport; Sat, 21 Nov 2026 12:00:00 +0000"
    )
    assert (office.helo, office.ip, office.by_ip, office.via) == (
        "a.example",
        "192.0.2.1",
        "10.0.0.1",
        "Frontend Transport",
    )
    assert office.tls_version == "TLS1.2"


def hop(second: int, how: str = "ESMTPS", ip: str = "192.0.2.1") -> str:
    return f"from a ([{ip}]) by b with {how}; Sat, 21 Nov 2026 12:{second // 60:02}:{second % 60:02} +0000"


def test_delays_skew_the_slow_hop_and_those_in_clear() -> None:
    found = timing(
        [
            parse_received(one)
            for one in (hop(100), hop(400), hop(10), hop(9, "SMTP"), hop(9, "SMTP", "127.0.0.1"))
        ]
    )
    assert found.delays == (0.0, 390.0, 1.0, 0.0, None)
    assert (found.skewed, found.skew_seconds, found.slowest) == ((0,), 300.0, 1)
    assert found.unencrypted == (3,)


def test_a_hop_without_a_time() -> None:
    found = timing([parse_received(one) for one in (hop(100), "from a by b", hop(40))])
    assert found.delays == (60.0, None, None)
    assert found.slowest == 0
