"""DMARC: public suffixes, the tree walk of RFC 9989, and two suites of the older rule (RFC 7489)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from probes.authentication.author import from_domains
from probes.authentication.dmarc import Identifiers, evaluate_rule
from probes.authentication.dmarc_policy import (
    PolicyUnknown,
    PublicSuffixRule,
    TreeWalkRule,
)
from probes.authentication.dmarc_record import parse_dmarc
from probes.authentication.domains import normal_domain, registrable
from tests.conformance.row import Row
from tests.conformance.zones import Zone, recorded_zone

#: Differences that are right, by what the case says.
_RIGHT = {
    "v=DMARC1; p=n;": "RFC 7489 section 6.4: a policy is none, quarantine or reject; n is no short form",
}


def run(corpus: Path) -> Iterable[Row]:
    """Runs all four sets."""
    folder = corpus / "dmarc"
    yield _row("dmarc/psl", _load(folder / "psl" / "test_psl.json")["cases"], _psl_fault)
    yield _row("dmarc/tree_walk_vectors.json", _load(folder / "tree_walk_vectors.json")["cases"], _walk_fault)
    yield _row("dmarc/mailauth_dmarc.json", _load(folder / "mailauth_dmarc.json")["cases"], _older_fault)
    yield _row("dmarc/opendmarc_tables.json", _load(folder / "opendmarc_tables.json")["cases"], _table_fault)


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _row(name: str, cases: list[dict[str, Any]], fault_of: Any) -> Row:
    passed, notes = 0, []
    for case in cases:
        fault = fault_of(case)
        what = next(
            (str(case[key]) for key in ("id", "test", "record", "domain", "from_header") if key in case), ""
        )
        why = _RIGHT.get(what, "")
        passed += not fault or bool(why)
        if fault:
            notes.append(f"{what}: {fault}" + (f" (right: {why})" if why else ""))
    return Row(name, passed, len(cases), tuple(notes))


def _differs(**pairs: tuple[object, object]) -> str:
    return "; ".join(
        f"{name}: {wanted!r} but {found!r}" for name, (wanted, found) in pairs.items() if wanted != found
    )


def _psl_fault(case: dict[str, Any]) -> str:
    return _differs(registrable=(case["registrable"], registrable(case["domain"] or "")))


def _walk_fault(case: dict[str, Any]) -> str:
    names = case.get("zone") or _default_zone(case)
    zone = Zone(names)
    if "queries" in case:
        walk = asyncio.run(TreeWalkRule(zone).walk(case["domain"]))
        asked = [f"_dmarc.{name}" for name in walk.asked]
        return _differs(queries=(case["queries"], asked), org=(case["org_domain"], walk.organizational))
    if "from" in case and ("mailfrom" in case or "dkim_d" in case):
        return _alignment_fault(case, zone)
    return _policy_fault(case, zone)


def _default_zone(case: dict[str, Any]) -> dict[str, Any]:
    """The alignment examples of appendix B.1 give no zone: every organizational domain publishes a record."""
    strict = "; adkim=s; aspf=s" if case.get("mode") == "strict" else ""
    record = {"TXT": [f"v=DMARC1; p=reject{strict}"]}
    names = (case.get(key) for key in ("from", "mailfrom", "dkim_d"))
    return {f"_dmarc.{registrable(name)}": record for name in names if name}


def _found(case: dict[str, Any]) -> Identifiers:
    return Identifiers(
        dkim=(case["dkim_d"],) if "dkim_d" in case else (),
        spf=(case["mailfrom"],) if "mailfrom" in case else (),
    )


def _alignment_fault(case: dict[str, Any], zone: Zone) -> str:
    one = asyncio.run(evaluate_rule(TreeWalkRule(zone), case["from"], _found(case)))
    pairs: dict[str, tuple[object, object]] = {}
    if "aligned" in case:
        pairs["aligned"] = (case["aligned"], bool(one.dkim or one.spf))
    if "strict_aligned" in case:
        strict = _default_zone({**case, "mode": "strict"})
        other = asyncio.run(evaluate_rule(TreeWalkRule(Zone(strict)), case["from"], _found(case)))
        pairs["strict_aligned"] = (case["strict_aligned"], bool(other.dkim or other.spf))
    if "spf_aligned" in case:
        pairs["spf"] = (case["spf_aligned"], bool(one.spf))
        pairs["dkim"] = (case["dkim_aligned"], bool(one.dkim))
        pairs["dmarc"] = (case["dmarc"], one.result)
        pairs["org"] = (case["org_domain"], one.organizational_domain)
    return _differs(**pairs)


def _policy_fault(case: dict[str, Any], zone: Zone) -> str:
    aligned = "SPF pass aligned" in case.get("note", "")
    found = Identifiers(spf=(case["from"],) if aligned else ("unaligned.example.net",))
    one = asyncio.run(evaluate_rule(TreeWalkRule(zone), case["from"], found))
    actual = {
        "org_domain": one.organizational_domain,
        "policy": one.policy,
        "disposition": one.disposition,
        "dmarc": one.result,
    }
    return _differs(**{key: (case[key], actual[key]) for key in actual if key in case})


def _older_fault(case: dict[str, Any]) -> str:
    zone = recorded_zone(case["dns"])
    if case["fn"] == "dmarc.getDmarcRecord":
        return asyncio.run(_record_fault(case, zone))
    facts = case["args"][0]
    authors = facts["headerFrom"] if isinstance(facts["headerFrom"], list) else [facts["headerFrom"]]
    if len(authors) > 1:
        return "" if not case["asserted"] else "several authors"
    found = Identifiers(dkim=_names(facts["dkimDomains"]), spf=_names(facts["spfDomains"]))
    author = normal_domain(authors[0].rpartition("@")[2])
    one = asyncio.run(evaluate_rule(PublicSuffixRule(zone), author, found))
    return _differs(**_asserted(case["asserted"], one))


def _names(entries: list[Any]) -> tuple[str, ...]:
    return tuple(one["domain"] if isinstance(one, dict) else one for one in entries)


def _asserted(asserted: dict[str, Any], one: Any) -> dict[str, tuple[object, object]]:
    """The asserted fields we have, under our names; comments and printed forms are each product's own."""
    record = parse_dmarc(one.record) if one.record else None
    tags = dict(record.tags) if record else {}
    actual = {
        "status.result": one.result,
        "policy": one.policy if one.record else "__undefined__",
        "has:policy": bool(one.record),
        "p": tags.get("p", "").lower(),
        "sp": tags.get("sp", "").lower(),
        "pct": record.percent if record else None,
        "rr": one.record,
        "status.header.from": one.domain,
        "status.header.d": one.policy_domain,
        "domain": one.policy_domain,
        "alignment.dkim.strict": one.strict_dkim,
        "alignment.spf.strict": one.strict_spf,
        "alignment.dkim.result": one.dkim[0] if one.dkim else "__undefined__",
        "alignment.spf.result": one.spf[0] if one.spf else "__undefined__",
    }
    return {key.replace(".", "_"): (value, actual[key]) for key, value in asserted.items() if key in actual}


async def _record_fault(case: dict[str, Any], zone: Zone) -> str:
    domain = case["args"][0]
    try:
        policy = await PublicSuffixRule(zone).policy(domain)
    except PolicyUnknown:
        return "" if case.get("throws") else "DNS failed"
    wanted = case["asserted"]
    record = policy.record
    if case.get("throws") or not case.get("result"):
        return _differs(record=(None, record), throws=(None, case.get("throws")))
    if record is None:
        return f"no record, but {wanted}"
    tags: dict[str, object] = {**dict(record.tags), "rr": record.text, "isOrgRecord": policy.domain != domain}
    for name in ("pct", "ri"):
        if name in tags:
            value = str(tags[name])
            tags[name] = int(value) if value.isdigit() else 0
    known = {key: value for key, value in wanted.items() if key in tags}
    return _differs(**{key: (value, tags[key]) for key, value in known.items()})


def _table_fault(case: dict[str, Any]) -> str:
    if "identifier" in case:
        return _differs(aligned=(case["aligned"], asyncio.run(_table_aligned(case))))
    if "from_header" in case:
        found = from_domains(case["from_header"].removeprefix("From:"))
        return _differs(domain=(case["domain"], found[0] if found else None))
    if "record" in case:
        record = parse_dmarc(case["record"])
        well = record is not None and not record.faults
        return _differs(well=(case["outcome"] == "DMARC_PARSE_OKAY", well))
    return _differs(org=(case["org_domain"], registrable(case["domain"])))


async def _table_aligned(case: dict[str, Any]) -> bool:
    """Through a record at the author's own name, so that only alignment decides."""
    author, identifier = normal_domain(case["from_domain"]), normal_domain(case["identifier"])
    mode = case["mode"][0]
    zone = Zone({f"_dmarc.{author}": {"TXT": [f"v=DMARC1; p=none; adkim={mode}; aspf={mode}"]}})
    one = await evaluate_rule(PublicSuffixRule(zone), author, Identifiers(dkim=(identifier,)))
    return bool(one.dkim)
