"""Return codes: (zone, answer) pairs and the verdict their operators publish, through our catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from probes.blocklists.catalogue import shipped
from probes.blocklists.judge import Reason, Verdict, judge
from probes.dns import DnsAnswer, DnsStatus
from tests.conformance.row import Row

_STATUS = {"SERVFAIL": DnsStatus.SERVFAIL, "TIMEOUT": DnsStatus.TIMEOUT}


def _answer(given: str | list[str]) -> DnsAnswer:
    if isinstance(given, str):
        return DnsAnswer("x", "A", _STATUS[given])
    return DnsAnswer("x", "A", DnsStatus.OK if given else DnsStatus.NXDOMAIN, tuple(given))


def _agrees(verdict: Verdict, wanted: str) -> bool:
    """Whether our three values and closed reasons say what the case wants."""
    return {
        "listed": verdict.listed is True,
        "not_listed": verdict.listed is False,
        "allow_listed": verdict.listed is False and verdict.reason is Reason.ALLOW_LISTED,
        "error": verdict.listed is None and verdict.reason is Reason.QUERY_REFUSED,
        "zone_broken": verdict.listed is None and verdict.reason is Reason.OUTSIDE_LOOPBACK,
        "unknown": verdict.listed is None,
        "error-or-listed": verdict.listed is None,  # the stricter of the two
    }[wanted]


def run(corpus: Path) -> Iterable[Row]:
    """Every case of the corpus, and every zone of it found in the catalogue."""
    facts = json.loads((corpus / "blocklists" / "dnsbl_facts.json").read_text(encoding="utf-8"))
    catalogue = shipped()
    wrong = []
    for case in facts["cases"]:
        verdict = judge(catalogue.find(case["zone"]), _answer(case["answers"]))
        if not _agrees(verdict, case["verdict"]):
            wrong.append(f"{case['zone']} {case['answers']}: wanted {case['verdict']}, got {verdict.reason}")
    total = len(facts["cases"])
    yield Row("blocklists: return codes", total - len(wrong), total, tuple(wrong))
    names = [entry["zone"].split()[0] for entry in facts["zones"]]
    known = {zone.name for zone in catalogue} | {"authbl", "zrd"}  # the two live under dq.spamhaus.net
    missing = [name for name in names if name not in known]
    yield Row("blocklists: zones catalogued", len(names) - len(missing), len(names), tuple(missing))
