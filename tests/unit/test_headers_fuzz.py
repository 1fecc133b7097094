"""Whatever the bytes: no parser raises, none stalls."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from probes.headers.authres import parse_authentication_results, parse_received_spf
from probes.headers.dates import parse_time
from probes.headers.dsn import read_bounce
from probes.headers.received import parse_received
from probes.headers.report import read_headers
from probes.headers.scan import decode_words, scan
from probes.headers.trust import TrustRule
from tests.examples import examples

RULES = (
    TrustRule(("mx.example",), below_border=2),
    TrustRule(("",), ("*.example",), internal=("*.internal",), verdicts_anywhere=True, border_repeats=True),
)
LIMIT = 0.1
"""Seconds that any one input may take on an idle machine; the tests allow for a busy one."""

WORDS = st.sampled_from(
    [
        "Received:",
        "Authentication-Results:",
        "ARC-Authentication-Results: i=1;",
        "Received-SPF:",
        "from",
        "by",
        "with",
        "id",
        "for",
        "via",
        ";",
        "=",
        "(",
        ")",
        "((",
        "))",
        '"',
        "\\",
        "\\(",
        ".",
        "/",
        "spf=pass",
        "dkim",
        "dmarc=fail",
        "reason=",
        "header.d=",
        "smtp.mailfrom=",
        "none",
        "mx.example",
        "i=1",
        "[192.0.2.1]",
        "[",
        "]",
        "::1",
        "IPv6:",
        "helo=",
        "HELO ",
        "<a@example.org>",
        "TLSv1.3",
        "cipher=",
        "encrypted",
        "Sat, 21 Nov 2026",
        "23:59:60",
        "-0000",
        "+9999",
        "99:99:99",
        "31 Feb 2026",
        "PM",
        "=?utf-8?B?////?=",
        "=?utf-8?q?=ZZ?=",
        "\r",
        "\n",
        "\r\n ",
        "\n\t",
        "\n",
        "\x00",
        "\xff",
        "é",
        "\u2028",
        "X-Spamd-Result:",
        "[1.0 / 2.0]",
        "SCL:5;",
        "dest:J;",
        "X-Forefront-Antispam-Report:",
        "X-Spam-Status: Yes, score=",
        "tests=",
        "Final-Recipient:",
        "Action: failed",
        "Status: 5.1.1",
        "--b",
        "Content-Type: multipart/report; boundary=b",
        "550 5.1.1",
        ">>> RCPT",
        "{",
        "}",
    ]
)
SOUP = st.lists(WORDS, max_size=80).map(" ".join)
RAW = st.one_of(st.binary(max_size=600), SOUP.map(lambda text: text.encode("utf-8", "replace")))
QUICK = settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@QUICK
@given(RAW)
def test_a_header_of_anything(raw: bytes) -> None:
    scan(raw)
    for rule in RULES:
        report = read_headers(raw, rule)
        assert report.timing.skew_seconds >= 0
        assert all(delay is None or delay >= 0 for delay in report.timing.delays)
        assert all(item.trusted is False for item in report.results) or report.block.border is not None
        _ = report.verdict


@QUICK
@given(RAW)
def test_a_bounce_of_anything(raw: bytes) -> None:
    bounce = read_bounce(raw)
    if bounce is not None:
        assert bounce.recipients


@QUICK
@given(SOUP)
def test_values_of_anything(text: str) -> None:
    for arc in (False, True):
        found = parse_authentication_results(text, arc=arc)
        assert all(one.method == one.method.lower() for one in found.methods)
    parse_received_spf(text)
    parse_received(text)
    parse_time(text)
    decode_words(text)


BOMBS = {
    "open comments": b"Authentication-Results: x; " + b"(" * 200_000,
    "nested comments": b"Authentication-Results: x; " + b"(" * 30_000 + b")" * 30_000 + b" spf=pass",
    "comment pairs": b"Received: from " + b"(a" * 60_000 + b") by x; date",
    "flat comments": (b"Authentication-Results: mx.example; spf=pass " + b"()" * 15_000 + b"\n") * 3,
    "quotations without an end": (
        b"Authentication-Results: mx.example; spf=pass " + b'smtp.mailfrom=a\\"' * 1_800 + b"\n"
    )
    * 3,
    "semicolons": b"Authentication-Results: " + b";" * 250_000,
    "quotes": b"Authentication-Results: x; spf=pass reason=" + b'"' * 200_000,
    "backslashes": b'Authentication-Results: x; spf=pass reason="' + b"\\" * 200_000,
    "dots": b"Authentication-Results: x; spf=pass smtp." + b"." * 200_000,
    "equals": b"Authentication-Results: " + b"a=" * 120_000,
    "equals apart": b"Authentication-Results: x; " + b"a = " * 60_000,
    "blanks": b"Authentication-Results: x;" + b" " * 250_000 + b"spf=pass",
    "properties": b"Authentication-Results: x; spf=pass" + b" smtp.a=b" * 28_000,
    "many headers": b"Authentication-Results: x; spf=pass (c) smtp.a=b\n" * 5_000,
    "many received": b"Received: from a (b [1.2.3.4]) by c with ESMTP id d; Sat, 1 Jan 2000 00:00:00 +0000\n"
    * 3_000,
    "odd received": b"Received: from ((((( by [ for id with via ;;;;; 1:1:1 Jan\n" * 4_000,
    "brackets": b"Received: from a (" + b"[" * 200_000 + b") by c",
    "colons": b"Received: from a ([" + b":" * 200_000 + b"]) by c",
    "digits": b"Received: from a by c; " + b"1" * 200_000,
    "times": b"Received: from a by c; " + b"1:1:1 " * 40_000,
    "at signs": b"Received: from a (" + b"a@" * 100_000 + b") by c",
    "keywords": b"Received: " + b"from by with id for via " * 10_000,
    "encoded words": b"Authentication-Results: " + b"=?utf-8?B?" * 25_000,
    "encoded words apart": b"Authentication-Results: " + b"=?utf-8?q?a?= " * 18_000,
    "fields": b"X: y\n" * 60_000,
    "names": b"a" * 260_000,
    "folds": b"X: y" + b"\n " * 130_000,
    "no field": b"no field at all\n" * 20_000,
    "carriage returns": b"X: y" + b"\r" * 250_000,
    "spam tests": b"X-Spam-Status: Yes, tests=" + b"A_B=1," * 40_000,
    "rspamd": b"X-Spamd-Result: default: False [1 / 2]; " + b"A(0.1)[" * 30_000,
    "microsoft": b"X-Forefront-Antispam-Report: " + b"SCL:5;" * 40_000,
    "spf pairs": b"Received-SPF: pass " + b"a=" * 120_000,
    "spf dots": b"Received-SPF: pass " + b"a." * 120_000,
    "spam tests again": b"X-Spam-Status: Yes, " + b"tests=A_B=1," * 40_000,
    "faults": b"Authentication-Results: x; spf=pass " + b"1:" * 120_000,
    "dotted": b"Authentication-Results: x; " + b"mx.example" * 20_000,
    "closing": b"Authentication-Results: x; spf=pass " + b")" * 250_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_bomb_stalls_the_header_reader(name: str) -> None:
    raw = b"Received: from a by mx.example; Sat, 1 Jan 2000 00:00:00 +0000\n" + BOMBS[name]
    assert _seconds(lambda: read_headers(raw, RULES[0]).verdict) < LIMIT, name


BODIES = {
    "boundaries": b"--b\n" * 200_000,
    "nested": b"--b\nContent-Type: multipart/mixed; boundary=b\n\n" * 10_000,
    "addresses": b"<a@example.org>: 550 5.1.1 no\n" * 30_000,
    "long line": b"a" * 900_000,
    "at": b"a@" * 400_000,
    "codes": b"550 5.1.1 " * 90_000,
    "statuses": b"--b\nContent-Type: message/delivery-status\n\n"
    + b"Final-Recipient: a@b.c\nAction: failed\n\n" * 15_000,
    "tags": b"--b\nContent-Type: text/html\n\n" + b"<a " * 300_000,
    "styles": b"--b\nContent-Type: text/html\n\n" + b"<style>" * 100_000,
    "json": b'{"notificationType":"Bounce","a":' + b"[" * 400_000,
    "headers": b"From: a\n\nTo: b\n" * 40_000,
}


@pytest.mark.parametrize("name", BODIES)
def test_no_bomb_stalls_the_bounce_reader(name: str) -> None:
    raw = (
        b"Return-Path: <>\nFrom: MAILER-DAEMON@example.org\nSubject: failure\n"
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n" + BODIES[name]
    )
    assert _seconds(lambda: read_bounce(raw)) < 5 * LIMIT, name


def _seconds(work: object) -> float:
    """Processor seconds, the best of three: what others do on the machine does not count."""
    assert callable(work)
    best = 1e9
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best
