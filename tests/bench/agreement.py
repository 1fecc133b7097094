"""How many verdicts of ours and of mailauth are the same, on mail that passes, fails and breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from probes.authentication.evaluate import evaluate
from probes.dns import StaticResolver
from tests.bench.agreement_cases import Case, cases
from tests.bench.mailauth import mailauth
from tests.bench.row import BenchRow

NAME = "the same as mailauth's, on mail that passes, fails and breaks"
OURS, THEIRS, NOBODY = "ours is right", "theirs is right", "no rule"
#: Where the two differ: method, our word, theirs, who is right and by what, in which messages.
DIFFERENT = (
    (
        ("dkim", "fail", "neutral"),
        f"{OURS}: what was tested and did not verify is fail (RFC 8601 section 2.7.1)",
        "dkim: the body is not what was signed|dkim and spf: nothing holds|arc: two sets, changed behind them"
        "|arc: two sets, the second says cv=fail|dkim: ed25519, broken, and RSA"
        "|dkim: three, the middle one broken",
    ),
    (
        ("dkim", "fail", "neutral"),
        f"{NOBODY}: expired is PERMFAIL (RFC 6376 section 6.1.1), for which RFC 8601 has no word of its own",
        "dkim: expired",
    ),
    (
        ("dkim", "fail", "neutral"),
        f"{OURS}: rsa-sha1 is a permanent failure (RFC 8301 section 3.1)",
        "dkim: rsa-sha1",
    ),
    (
        ("dkim", "permerror", "neutral"),
        f"{OURS}: no usable key is PERMFAIL (RFC 6376 section 6.1.2), nothing mends it: permerror",
        "dkim: the key is revoked|dkim: the key is unreadable|dkim: the key is of another kind"
        "|dkim: the key is of a later version|dkim: the key's name is nxdomain|dkim: the key's name is nodata"
        "|dkim: neither key is there",
    ),
    (
        ("dkim", "permerror", "pass"),
        f"{OURS}: the verifier MUST ignore such a key (RFC 6376 section 3.6.1, s= and h=)",
        "dkim: the key is for another service|dkim: the key is for another hash",
    ),
    (
        ("dkim", "pass", "neutral"),
        f"{NOBODY}: several records at a key's name have undefined results (RFC 6376 section 3.6.2.2)",
        "dkim: the key beside an SPF record",
    ),
    (
        ("dkim", "permerror", "neutral"),
        f"{NOBODY}: PERMFAIL in RFC 6376 section 6.1.1; RFC 8601 section 2.7.1 has neutral for bad syntax",
        "dkim: d= of somebody else|dkim: no bh=",
    ),
    (
        ("dkim", "permerror", "fail"),
        f"{OURS}: a required tag is missing (RFC 6376 section 6.1.1)",
        "dkim: no v=",
    ),
    (
        ("dkim", "permerror", "none"),
        f"{OURS}: the message is signed, which is not none (RFC 8601 section 2.7.1)",
        "dkim: no such canonical form",
    ),
    (
        ("arc", "temperror", "fail"),
        f"{THEIRS} by the letter (RFC 8617 section 4.4 has no temperror); ours says that nothing is known",
        "arc: the key's name is servfail",
    ),
    (
        ("dmarc", "fail", "pass"),
        f"{OURS}: strict alignment wants the same domain (RFC 9989 section 4.7, adkim= and aspf=)",
        "dmarc: the record is strict",
    ),
    (
        ("dmarc", "permerror", "none"),
        f"{NOBODY}: several author domains end it, and no word is laid down (RFC 9989 section 5.3.1)",
        "dkim: a second From|dmarc: two authors",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of both sides' words on one message."""

    case: str
    method: str
    ours: str
    theirs: str

    @property
    def reason(self) -> str:
        """Who is right, and why; "" where nobody has looked yet."""
        words = (self.method, self.ours, self.theirs)
        return next(
            (why for key, why, names in DIFFERENT if key == words and self.case in names.split("|")), ""
        )


def rows() -> list[BenchRow]:
    """One row: verdicts that are the same, of all; met where every other one is explained."""
    found = verdicts()
    if found is None:
        return [BenchRow(NAME, 0, "verdicts", None, "mailauth is not installed", None, None, None)]
    different = [one for one in found if one.ours != one.theirs]
    same = len(found) - len(different)
    known = all(one.reason for one in different)
    return [BenchRow(NAME, same, "verdicts", len(found), "all of both", same / len(found), None, known)]


def verdicts() -> list[Verdict] | None:
    """Every verdict of both sides; None where mailauth is not there."""
    known = list(cases())
    theirs = mailauth(known)
    if theirs is None:
        return None
    return [
        Verdict(case.name, *one)
        for case, found in zip(known, theirs, strict=True)
        for one in _pairs(asyncio.run(_evaluate(case)), found)
    ]


async def _evaluate(case: Case) -> dict[str, list[str]]:
    found = await evaluate(
        case.message,
        ip=case.ip,
        helo=case.helo,
        mail_from=case.sender,
        resolver=StaticResolver(case.zone),
        now=time.time(),  # mailauth lets signatures expire by the machine's clock
    )
    return {
        "spf": [found.spf.result],
        "dkim": [one.result for one in found.dkim] or ["none"],
        "arc": [found.arc.result],
        "dmarc": [found.dmarc.result],
    }


def _pairs(ours: dict[str, list[str]], theirs: dict[str, object]) -> Iterator[tuple[str, str, str]]:
    for method, mine in ours.items():
        other = theirs[method]
        words = other if isinstance(other, list) else [other]
        for one, two in zip(mine, words, strict=True):
            yield method, one, two


if __name__ == "__main__":
    told = verdicts() or []
    for verdict in told:
        if verdict.ours != verdict.theirs:
            print(f"{verdict.case}: {verdict.method}={verdict.ours}, not {verdict.theirs}; {verdict.reason}")
    for row in rows():
        print(row)
