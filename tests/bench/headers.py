"""Header reading beside the standard library's, in turn: trust the ratios, not the figures."""

from __future__ import annotations

import email
import email.policy
import statistics
import time
from collections.abc import Callable

from probes.headers.report import read_headers
from probes.headers.trust import TrustRule
from tests.bench.row import BenchRow

RULE = TrustRule(("mx.google.com",), ("mx.google.com",), below_border=2)
TURNS = 25
MESSAGES = 500


def sample(number: int, size: int = 12_288) -> bytes:
    """A message of that many octets: 6 Received, 2 Authentication-Results, SPF, 2 DKIM, ARC. number: no two
    are alike in identifiers, times, signatures and the bounce address, as no two canaries are."""
    digits = f"{number:04}"
    clock = f"{15 + number % 40}"
    path = f"bounce+{digits}@acme.example"
    signature = f"A1b2C3d4E5f6{digits}" * 21
    blob = "\r\n ".join(signature[i : i + 72] for i in range(0, len(signature), 72))
    results = (
        f"       dkim=pass header.i=@acme.example header.s=s1 header.b=kT{digits}2m;\r\n"
        f"       dkim=pass header.i=@relay.example header.s=k2 header.b=pQ{digits}aa;\r\n"
        f"       spf=pass (google.com: domain of {path} designates 192.0.2.7 as permitted sender)"
        f" smtp.mailfrom={path};\r\n"
        "       dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=acme.example\r\n"
    )
    lines = [
        "Delivered-To: seed@gmail.example\r\n",
        "X-Google-Smtp-Source: AGHT+IE" + "q7Zb0mYv" * 9 + "\r\n",
        f"X-Received: by 2002:a05:7010:e90e:b0:3c5:1d6a:2f30 with SMTP id w{digits}mr1;\r\n"
        f"        Sat, 21 Nov 2026 08:{clock}:30 -0800 (PST)\r\n",
        f"Received: by 2002:a05:7010:e90e:b0:3c5:1d6a:2f30 with SMTP id w{digits}csp1;\r\n"
        f"        Sat, 21 Nov 2026 08:{clock}:31 -0800 (PST)\r\n",
        f"ARC-Seal: i=1; a=rsa-sha256; t=1795277731; cv=none; d=google.com; s=arc-20260605; b={blob}\r\n",
        "ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=google.com; s=arc-20260605;\r\n"
        f"        h=to:subject:message-id:date:from; bh=8mRVn9{digits}z4Y=; b={blob}\r\n",
        "ARC-Authentication-Results: i=1; mx.google.com;\r\n" + results,
        f"Return-Path: <{path}>\r\n",
        "Received: from mail.relay.example (mail.relay.example. [192.0.2.7])\r\n"
        f"        by mx.google.com with ESMTPS id d2e1a72f{digits}-7a1.12.2026.11.21.08.15.30\r\n"
        "        for <seed@gmail.example>\r\n"
        "        (version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256);\r\n"
        f"        Sat, 21 Nov 2026 08:{clock}:30 -0800 (PST)\r\n",
        f"Received-SPF: pass (google.com: domain of {path} designates 192.0.2.7 as permitted"
        " sender) client-ip=192.0.2.7;\r\n",
        "Authentication-Results: mx.google.com;\r\n" + results,
    ]
    lines += [
        f"Received: from host{hop}.acme.example (host{hop}.acme.example [198.51.100.{hop + 1}])\r\n"
        "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
        f"\tby host{hop + 1}.acme.example (Postfix) with ESMTPS id 4Xy{digits}{hop}kTz\r\n"
        f"\tfor <seed@gmail.example>; Sat, 21 Nov 2026 16:{clock}:2{hop} +0000 (UTC)\r\n"
        for hop in range(4)
    ]
    lines += [
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s=s1;\r\n"
        f"\th=from:to:subject:date:message-id; bh=8mRVn9{digits}z4Y=; b={blob}\r\n"
        for domain in ("acme.example", "relay.example")
    ]
    lines += [
        "From: Acme <noreply@acme.example>\r\n",
        "To: <seed@gmail.example>\r\n",
        f"Subject: [mc2abcdefghijkl{digits}] Your receipt\r\n",
        f"Date: Sat, 21 Nov 2026 16:{clock}:19 +0000\r\n",
        f"Message-ID: <179527{digits}@acme.example>\r\n",
        "Reply-To: Acme <help@acme.example>\r\n",
        "List-Unsubscribe: <https://acme.example/u/179527>, <mailto:u-179527@acme.example>\r\n",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
        "Feedback-ID: 179527:receipt:acme\r\n",
        "X-Mailer: acme-mailer 4.1\r\n",
        "MIME-Version: 1.0\r\n",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "\r\n",
    ]
    head = "".join(lines).encode()
    return head + b"A line of an ordinary body, neither long nor short.\r\n" * ((size - len(head)) // 53 + 1)


def rows() -> list[BenchRow]:
    """Ours beside policy.default (all fields read) and compat32 (read only), in turn, by the processor's
    clock."""
    messages = [sample(number) for number in range(MESSAGES)]

    def ours(message: bytes) -> object:
        report = read_headers(message, RULE)
        return report, report.verdict  # all that `inspect` shows of a header

    def default(message: bytes) -> object:
        return email.message_from_bytes(message, policy=email.policy.default).items()

    def compat(message: bytes) -> object:
        return email.message_from_bytes(message).items()

    def rate(call: Callable[[bytes], object], turn: int, times: int) -> float:
        some = [messages[(turn * times + number) % MESSAGES] for number in range(times)]
        start = time.process_time()
        for message in some:
            call(message)
        return times / (time.process_time() - start)

    turns = [(rate(ours, n, 120), rate(default, n, 8), rate(compat, n, 80)) for n in range(TURNS)]
    return [
        _row([(mine, slow) for mine, slow, _ in turns], "email.policy.default", 20.0),
        _row([(mine, plain) for mine, _, plain in turns], "compat32, read only", 1.0),
    ]


def _row(pairs: list[tuple[float, float]], peer: str, goal: float) -> BenchRow:
    """pairs: ours and theirs, turn by turn: the ratio within a turn is what a busy machine leaves."""
    ratio = statistics.median(mine / theirs for mine, theirs in pairs)
    mine, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    name = "headers of a 12 KB message, all parsed"
    return BenchRow(name, mine, "messages/s", theirs, peer, ratio, goal, ratio >= goal)


if __name__ == "__main__":
    for one in rows():
        print(one)
