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


def sample(size: int = 12_288) -> bytes:
    """A message of that many octets: 6 Received, 2 Authentication-Results, SPF, 2 DKIM, ARC."""
    signature = "A1b2C3d4E5f6G7h8" * 21
    blob = "\r\n ".join(signature[i : i + 72] for i in range(0, len(signature), 72))
    results = (
        "       dkim=pass header.i=@acme.example header.s=s1 header.b=kTb5zQ2m;\r\n"
        "       dkim=pass header.i=@relay.example header.s=k2 header.b=pQ9xT0aa;\r\n"
        "       spf=pass (google.com: domain of bounce@acme.example designates 192.0.2.7 as permitted sender)"
        " smtp.mailfrom=bounce@acme.example;\r\n"
        "       dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=acme.example\r\n"
    )
    lines = [
        "Delivered-To: seed@gmail.example\r\n",
        "X-Google-Smtp-Source: AGHT+IE" + "q7Zb0mYv" * 9 + "\r\n",
        "X-Received: by 2002:a05:7010:e90e:b0:3c5:1d6a:2f30 with SMTP id w14mr1;\r\n"
        "        Sat, 21 Nov 2026 08:15:30 -0800 (PST)\r\n",
        "Received: by 2002:a05:7010:e90e:b0:3c5:1d6a:2f30 with SMTP id w14csp1;\r\n"
        "        Sat, 21 Nov 2026 08:15:31 -0800 (PST)\r\n",
        f"ARC-Seal: i=1; a=rsa-sha256; t=1795277731; cv=none; d=google.com; s=arc-20260605; b={blob}\r\n",
        "ARC-Message-Signature: i=1; a=rsa-sha256; c=relaxed/relaxed; d=google.com; s=arc-20260605;\r\n"
        f"        h=to:subject:message-id:date:from; bh=8mRVn9kXb0Pz4Y=; b={blob}\r\n",
        "ARC-Authentication-Results: i=1; mx.google.com;\r\n" + results,
        "Return-Path: <bounce@acme.example>\r\n",
        "Received: from mail.relay.example (mail.relay.example. [192.0.2.7])\r\n"
        "        by mx.google.com with ESMTPS id d2e1a72fcca58-7a1.12.2026.11.21.08.15.30\r\n"
        "        for <seed@gmail.example>\r\n"
        "        (version=TLS1_3 cipher=TLS_AES_256_GCM_SHA384 bits=256/256);\r\n"
        "        Sat, 21 Nov 2026 08:15:30 -0800 (PST)\r\n",
        "Received-SPF: pass (google.com: domain of bounce@acme.example designates 192.0.2.7 as permitted"
        " sender) client-ip=192.0.2.7;\r\n",
        "Authentication-Results: mx.google.com;\r\n" + results,
    ]
    lines += [
        f"Received: from host{hop}.acme.example (host{hop}.acme.example [198.51.100.{hop + 1}])\r\n"
        "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
        f"\tby host{hop + 1}.acme.example (Postfix) with ESMTPS id 4XyZ{hop}0kTz\r\n"
        f"\tfor <seed@gmail.example>; Sat, 21 Nov 2026 16:15:2{hop} +0000 (UTC)\r\n"
        for hop in range(4)
    ]
    lines += [
        f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain}; s=s1;\r\n"
        f"\th=from:to:subject:date:message-id; bh=8mRVn9kXb0Pz4Y=; b={blob}\r\n"
        for domain in ("acme.example", "relay.example")
    ]
    lines += [
        "From: Acme <noreply@acme.example>\r\n",
        "To: <seed@gmail.example>\r\n",
        "Subject: [mc2abcdefghijklmnop] Your receipt\r\n",
        "Date: Sat, 21 Nov 2026 16:15:19 +0000\r\n",
        "Message-ID: <179527@acme.example>\r\n",
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
    message = sample()

    def ours() -> object:
        return read_headers(message, RULE)

    def default() -> object:
        return email.message_from_bytes(message, policy=email.policy.default).items()

    def compat() -> object:
        return email.message_from_bytes(message).items()

    turns = [(_rate(ours, 120), _rate(default, 8), _rate(compat, 80)) for _ in range(TURNS)]
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


def _rate(call: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        call()
    return times / (time.process_time() - start)


if __name__ == "__main__":
    for one in rows():
        print(one)
