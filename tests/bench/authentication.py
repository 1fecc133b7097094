"""How fast a message is evaluated, beside dkimpy and beside the npm package mailauth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import dkim

from probes.authentication.dkim import verify_dkim
from probes.authentication.evaluate import evaluate
from probes.authentication.message import Message
from probes.authentication.sign import sign
from probes.dns import DnsAnswer, DnsStatus
from probes.headers.report import read_headers
from probes.headers.trust import TrustRule
from tests.bench.agreement_cases import Case
from tests.bench.mailauth import mailauth
from tests.bench.row import BenchRow
from tests.fakes.signed_mail import HELO, IP, NOW, SENDER, SignedMail, rsa_pem, signed_mail

#: Runs of each side, in turn; the median counts.
TURNS = 7
TRUST = TrustRule(authserv_ids=("mx.example.net",))


class MemoryResolver:
    """Answers at once, from a dictionary of finished answers."""

    def __init__(self, zone: dict[tuple[str, str], list[str]]) -> None:
        self._answers = {key: DnsAnswer(*key, DnsStatus.OK, tuple(value)) for key, value in zone.items()}

    async def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> DnsAnswer:
        """The answer, or NXDOMAIN."""
        return self._answers.get((name, rdtype)) or DnsAnswer(name, rdtype, DnsStatus.NXDOMAIN)


def rows() -> list[BenchRow]:
    """All figures."""
    return [
        _verify("DKIM verify, RSA-2048, 2 KB", "rsa", 5.0),
        _verify("DKIM verify, ed25519, 2 KB", "ed25519", 2.0),
        *_whole(),
        _sign(),
    ]


def _per_second(work: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - start)


def _row(name: str, pairs: list[tuple[float, float]], peer: str, goal: float | None) -> BenchRow:
    """pairs: ours and theirs per second, turn by turn; within a turn a busy machine slows both."""
    ratio = median(ours / theirs for ours, theirs in pairs)
    figures = median(one[0] for one in pairs), median(one[1] for one in pairs)
    ok = None if goal is None else ratio >= goal
    return BenchRow(name, figures[0], "/s", figures[1], peer, ratio, goal, ok)


def _verify(name: str, kind: str, goal: float) -> BenchRow:
    mail = signed_mail(2_000, arc=False, kinds=(kind,))
    answer = _dkimpy_dns(mail)

    def theirs() -> None:
        assert dkim.verify(mail.message, dnsfunc=answer)

    _per_second(theirs, 3)
    pairs = [(asyncio.run(_verify_many(mail, 400)), _per_second(theirs, 100)) for _ in range(TURNS)]
    return _row(name, pairs, "dkimpy", goal)


async def _verify_many(mail: SignedMail, count: int) -> float:
    resolver = MemoryResolver(mail.zone)
    start = time.perf_counter()
    for _ in range(count):
        (one,) = await verify_dkim(Message(mail.message), resolver, NOW)
        assert one.result == "pass"
    return count / (time.perf_counter() - start)


def _dkimpy_dns(mail: SignedMail) -> Callable[..., bytes]:
    def answer(name: bytes, timeout: float = 5) -> bytes:
        return mail.zone[name.decode().rstrip("."), "TXT"][0].encode()

    return answer


def _whole() -> list[BenchRow]:
    """Our evaluation beside mailauth, then with the reading of the header (which mailauth does not do)."""
    mail = signed_mail()
    pairs, read = [], []
    for _ in range(TURNS):
        alone = asyncio.run(_evaluate_many(mail, 400, header=False))
        theirs = _mailauth(mail, 400)
        if theirs is None:
            name = "whole analysis, 12 KB: SPF, 2 DKIM, ARC, DMARC"
            return [BenchRow(name, alone, "/s", None, "mailauth is not installed", None, 3.0, None)]
        _check_verdicts(theirs)
        pairs.append((alone, theirs["per_second"]))
        read.append((asyncio.run(_evaluate_many(mail, 400, header=True)), theirs["per_second"]))
    return [
        _row("whole analysis, 12 KB: SPF, 2 DKIM, ARC, DMARC", pairs, "mailauth", 3.0),
        _row("the same with hops and results read from the header", read, "mailauth", None),
    ]


async def _evaluate_many(mail: SignedMail, count: int, header: bool) -> float:
    resolver = MemoryResolver(mail.zone)
    await _evaluate(mail, resolver)
    start = time.perf_counter()
    for _ in range(count):
        if header:
            assert len(read_headers(mail.message, TRUST).hops) == 6
        await _evaluate(mail, resolver)
    return count / (time.perf_counter() - start)


async def _evaluate(mail: SignedMail, resolver: MemoryResolver) -> None:
    found = await evaluate(mail.message, ip=IP, helo=HELO, mail_from=SENDER, resolver=resolver, now=NOW)
    results = (found.spf.result, *(one.result for one in found.dkim), found.arc.result, found.dmarc.result)
    assert set(results) == {"pass"}, results


def _mailauth(mail: SignedMail, rounds: int) -> dict[str, Any] | None:
    found = mailauth([Case("all passes", mail.message, mail.zone)], rounds)
    return found[0] if found is not None else None


def _check_verdicts(theirs: dict[str, Any]) -> None:
    """Both must have found the same, or the race is not fair."""
    found = {theirs["spf"], *theirs["dkim"], theirs["arc"], theirs["dmarc"]}
    assert found == {"pass"}, theirs


def _sign() -> BenchRow:
    mail = signed_mail(2_000, arc=False, kinds=())
    pem = rsa_pem("dkim1")

    def ours() -> None:
        sign(mail.message, "example.com", "s", pem, now=NOW)

    def theirs() -> None:
        dkim.sign(
            mail.message, b"s", b"example.com", pem, include_headers=[b"from", b"to", b"subject", b"date"]
        )

    pairs = [(_per_second(ours, 100), _per_second(theirs, 20)) for _ in range(TURNS)]
    return _row("DKIM sign, RSA-2048, 2 KB", pairs, "dkimpy", None)


if __name__ == "__main__":
    for one in rows():
        print(one)
