"""Hypothesis against the targets of hostile.py, from the corpus and the words that parsers know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.guarantees.claim import Tally
from tests.guarantees.hostile import TARGETS

CORPUS = Path(__file__).parents[1] / "data" / "hostile"
STALL = 0.1
"""Seconds of processor time that one input may take."""
ROUND = 100
"""Inputs of one target in a row."""
LARGEST = 64 * 1024
"""Bytes of an input: what is read of one header field at most (probes/headers/scan.py)."""

WORDS = tuple(
    rb"""
    Received: Authentication-Results: ARC-Authentication-Results: ARC-Seal: ARC-Message-Signature:
    Received-SPF: DKIM-Signature: From: Return-Path: Subject: Content-Type: X-Spamd-Result:
    X-Spam-Status: X-Microsoft-Antispam: X-Forefront-Antispam-Report: X-UI-Filterresults:
    X-Apple-Action: X-Pm-Spam-Action: X-Mailcanary-Token: from by with id for via ESMTPS LMTP spf=pass
    dkim=none dmarc=fail reason= header.d= smtp.mailfrom= header.from= none pass fail ( ) (( )) " \ \(
    \" ; ;; = == . / : , < > [ ] { } @ & - + * ~ ? % %{ %{d} %{ir} } i=1; i=99; i= mx.example a.internal
    b.example [192.0.2.1] [IPv6:2001:db8::1] ::1 1.2.3.4 helo= (envelope-from <a@b.c> TLSv1.3 cipher=
    99:99:99 23:59:60 -0000 +9999 31 Feb 2026 Sat, 21 Nov 2026 08:15:30 +0000 PM (UTC) =?utf-8?B?////?=
    =?utf-8?q?=ZZ?= =? ?= True [1.0 / 2.0] SCL:5; SFV:SKN; dest:J; CAT: (null) junk:9 YES score=
    tests=A_B=1, multipart/report; boundary=b --b --b-- message/rfc822 message/delivery-status
    Final-Recipient: rfc822; Action: failed Status: 5.1.1 Diagnostic-Code: smtp; 550 4.7.28 >>> RCPT
    charset=idna base64 v=1; a=rsa-sha256; a=ed25519-sha256; c=relaxed/simple; d=example.com; s=s;
    h=from:to; bh=AAAA; b=AAAA; l=0; x=9; t=1; cv=none; v=spf1 v=DMARC1; v=STSv1; v=TLSRPTv1; v=BIMI1;
    v=DKIM1; k=ed25519; p= p=reject; sp= rua=mailto:a@b rua=https:// pct=0; mode: enforce mx: *.a
    max_age: 1 include: redirect= exists: ip4: ip6: ptr mx exp= all /24 //64 * 1 FETCH (UID BODY[HEADER]
    {3} {99} {0} LIST SEARCH STATUS (UIDNEXT \Junk \Noselect NIL "/" BYE OK NO [LIMIT] &AOk- &- &//-
    INTERNALDATE "21-Nov-2026 08:15:30 +0000" MC1AAAA {"error":"invalid_grant"} [[[[
    """.split()
)
GAPS = (
    b" ",
    b"",
    b"\r\n",
    b"\n",
    b"\r\n ",
    b"\n\t",
    b"\r",
    b"\t",
    b"\x00",
    b"\xff",
    b"\xe2\x80\xa8",
    b"; ",
    b"\r\n\r\n",
)


def samples(target: str) -> list[bytes]:
    """What the corpus has for a target."""
    return [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]


def texts(target: str) -> st.SearchStrategy[bytes]:
    """Words, gaps, repeated words, and pieces of the corpus, in any order; seldom a long run of a few."""
    word = st.sampled_from(WORDS)
    pieces = [word, word, st.sampled_from(GAPS), st.binary(max_size=8)]
    pieces.append(st.builds(lambda one, times: one * times, word, st.sampled_from((2, 40, 2_000))))
    if known := samples(target):
        pieces.append(st.builds(_cut, st.sampled_from(known), st.integers(0, 400), st.integers(1, 400)))
    plain = st.lists(st.one_of(pieces), max_size=60).map(b" ".join).map(_tightened)
    return st.one_of(
        *[plain] * 11, st.builds(_run, st.lists(word, max_size=6), _FEW, st.lists(word, max_size=2))
    )


_FEW = st.lists(st.one_of(st.sampled_from(WORDS), st.sampled_from(GAPS)), min_size=1, max_size=3)


def _run(before: list[bytes], few: list[bytes], behind: list[bytes]) -> bytes:
    """A few words again and again, so that what takes the square of its length shows. Half as large as an
    input may be: most targets read it twice."""
    start, end, one = b" ".join(before), b" ".join(behind), b"".join(few)
    room = LARGEST // 2 - len(start) - len(end) - 2
    return start + b" " + (one * (room // max(1, len(one))))[:room] + b" " + end


def _cut(sample: bytes, start: int, size: int) -> bytes:
    return sample[start % (len(sample) + 1) :][:size]


def _tightened(text: bytes) -> bytes:
    """A gap stands alone, without the blanks that have joined it on."""
    text = text[:LARGEST]
    for gap in GAPS[2:]:
        text = text.replace(b" " + gap + b" ", gap)
    return text


def seconds(read: Callable[[bytes], None], raw: bytes) -> float:
    """Processor time of one reading; the best of three where it seems to stall: a busy machine slows it."""
    best = float("inf")
    for _ in range(3):
        start = time.thread_time()
        read(raw)
        best = min(best, time.thread_time() - start)
        if best < STALL:
            break
    return best


def fuzz(target: str, start: int, tally: Tally, rounds: int = ROUND) -> None:
    """One row of inputs for a target; what fails is noted, shrunk by Hypothesis."""

    @seed(start)
    @settings(
        max_examples=rounds,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),  # to explain it traces every line, which takes its time
    )
    @given(texts(target))
    def attack(raw: bytes) -> None:
        tally.trials += 1
        spent = seconds(TARGETS[target], raw)
        tally.figures["s of the slowest input"] = max(spent, tally.figures.get("s of the slowest input", 0.0))
        assert spent < STALL, f"{spent:.3f} s"

    try:
        attack()
    except Exception as error:  # whatever it is, it is the finding
        tally.check(False, f"{target}, seed {start}: {type(error).__name__} {error} {_falsifying(error)}")


def _falsifying(error: Exception) -> str:
    return " ".join(getattr(error, "__notes__", ()))[:2_000]


def seeds(number: int) -> Iterator[tuple[str, int]]:
    """Targets in turn, each with a seed of its own, without an end."""
    count = number * 1_000_000
    while True:
        for target in TARGETS:
            yield target, count
            count += 1
