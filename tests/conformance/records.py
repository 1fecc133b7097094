"""Record texts: mox (MTA-STS, TLS-RPT, DMARC) and checkdmarc (SPF, DMARC, BIMI, MTA-STS, TLS-RPT)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from probes.authentication.spf_record import SpfSyntaxError, parse_record
from probes.dns import DnsStatus, StaticResolver
from probes.errors import DataError
from probes.outcome import Severity
from probes.records.spf import SpfSurvey, survey_spf
from probes.records.sts_policy import parse_sts_policy
from probes.records.text import is_dmarc_uri, parse_bimi, parse_sts_record, parse_tls_rpt, read_dmarc
from tests.conformance.row import Row
from tests.conformance.tally import RIGHT, tally

Reader = Callable[[str], object]

#: Where the standard and a case part: the case's text, and why ours is right.
_RIGHT = {
    "v=DMARC1; sp=reject; p=reject": "RFC 9989 section 4.7: only v= has its place, p= may stand anywhere",
    "v=TLSRPTv1; rua=mailto:a@example.com; rua=mailto:b@example.com": "RFC 8460 section 3: one or more "
    "fields, each of which may be rua= (the set of mox has it as valid)",
    "v=BIMI1; xyz=foo": "BIMI draft section 4.2: unknown tags are ignored",
    "badkey: badvalue": "RFC 8461 section 3.2: a policy may have fields that nobody knows yet",
    "mode: enforce\r\nmode: testing": "RFC 8461 section 3.2: of a field that stands twice the first counts",
}


def run(corpus: Path) -> Iterable[Row]:
    """Runs both sets."""
    mox = _load(corpus / "records" / "mox_records.json")["tables"]
    yield tally("records/mox", ((c["input"], _mox_fault(name, c)) for name, cs in mox.items() for c in cs))
    cases = _load(corpus / "records" / "checkdmarc_records.json")["cases"]
    yield tally("records/checkdmarc", ((f"{c['fn']} {c['args']}", _check_fault(c)) for c in cases))


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _dmarc_usable(text: str) -> object:
    if not read_dmarc(text).usable:
        raise DataError("not applied")
    return None


_MOX: dict[str, Reader] = {
    "mta_sts_txt_record": parse_sts_record,
    "mta_sts_policy": parse_sts_policy,
    "tlsrpt_txt_record": parse_tls_rpt,
    "dmarc_record": _dmarc_usable,
}


def _mox_fault(table: str, case: dict[str, Any]) -> str:
    valid = _error(_MOX[table], case["input"]) is None
    return _explained(case["input"], "" if valid == case["valid"] else f"{table}: valid is {valid}")


def _error(reader: Reader, text: str) -> str | None:
    try:
        reader(text)
    except (DataError, SpfSyntaxError) as error:
        return str(error) or type(error).__name__
    return None


def _explained(text: str, fault: str) -> str:
    why = next((why for key, why in _RIGHT.items() if key in text), "")
    return RIGHT + why if fault and why else fault


def _check_fault(case: dict[str, Any]) -> str:
    name, text = case["fn"].rpartition(".")[2], case["args"][0]
    judge = {
        "parse_spf_record": _spf_fault,
        "parse_dmarc_record": _dmarc_fault,
        "parse_dmarc_report_uri": lambda c: _same(
            c, None if is_dmarc_uri(c["args"][0]) else "not an address"
        ),
        "parse_bimi_record": lambda c: _same(c, _error(parse_bimi, c["args"][0])) or _bimi_fault(c),
        "parse_mta_sts_record": lambda c: _same(c, _error(parse_sts_record, c["args"][0])) or _id_fault(c),
        "parse_mta_sts_policy": lambda c: (
            _same(c, _error(parse_sts_policy, c["args"][0])) or _policy_fault(c)
        ),
        "parse_smtp_tls_reporting_record": lambda c: (
            _same(c, _error(parse_tls_rpt, c["args"][0])) or _rpt_fault(c)
        ),
    }[name]
    return _explained(text, judge(case))


def _same(case: dict[str, Any], error: str | None) -> str:
    """Whether both call it wrong, or both do not."""
    if "raises" in case:
        return "" if error is not None else f"{case['raises'][0]} is not found"
    return f"called wrong: {error}" if error is not None else ""


def _differs(case: dict[str, Any], **pairs: tuple[object, object]) -> str:
    if "raises" in case:
        return ""
    return "; ".join(
        f"{n}: {wanted!r} but {found!r}" for n, (wanted, found) in pairs.items() if wanted != found
    )


def _bimi_fault(case: dict[str, Any]) -> str:
    if "raises" in case:
        return ""
    found, tags = parse_bimi(case["args"][0]), case["result"]["tags"]
    return _differs(
        case,
        l=(tags.get("l", {}).get("value"), found.location),
        lps=(tags.get("lps", {}).get("value", []), list(found.prefixes)),
        avp=(tags.get("avp", {}).get("value", "brand"), found.avatar),
    )


def _id_fault(case: dict[str, Any]) -> str:
    if "raises" in case:
        return ""
    return _differs(case, id=(case["result"]["tags"]["id"], parse_sts_record(case["args"][0])))


def _policy_fault(case: dict[str, Any]) -> str:
    if "raises" in case:
        return ""
    wanted, found = case["result"]["policy"], parse_sts_policy(case["args"][0])
    return _differs(
        case,
        mode=(wanted["mode"], found.mode),
        max_age=(wanted["max_age"], found.max_age),
        mx=(wanted["mx"], list(found.hosts)),
    )


def _rpt_fault(case: dict[str, Any]) -> str:
    if "raises" in case:
        return ""
    return _differs(case, rua=(case["result"]["tags"]["rua"]["value"], list(parse_tls_rpt(case["args"][0]))))


def _dmarc_fault(case: dict[str, Any]) -> str:
    found = read_dmarc(case["args"][0])
    fault = _same(
        case, None if found.usable and not found.faults else "; ".join(found.faults) or "not applied"
    )
    if fault or "raises" in case or found.record is None:
        return fault
    tags = {name: tag["value"] for name, tag in case["result"]["tags"].items()}
    record = found.record
    below = record.subdomain_policy or record.policy
    return _differs(
        case,
        p=(tags["p"], record.policy),
        sp=(tags["sp"], below),
        np=(tags["np"], record.missing_policy or below),
        adkim=(tags["adkim"] == "s", record.strict_dkim),
        aspf=(tags["aspf"] == "s", record.strict_spf),
        psd=(tags["psd"], record.psd),
        t=(tags["t"] == "y", record.testing),
        rua=(len(tags.get("rua", [])), len(record.reports_to)),
        ruf=(len(tags.get("ruf", [])), len(record.failures_to)),
    )


def _spf_fault(case: dict[str, Any]) -> str:
    text, domain = case["args"][0].strip('"'), case["args"][1]
    zone = {(name, "TXT"): [text] for name in {domain, *case["kwargs"].get("recursion", [])}}
    found = asyncio.run(survey_spf(domain, StaticResolver(zone, DnsStatus.NXDOMAIN)))
    broken = [f.what for f in found.findings if f.severity is Severity.ERROR and not f.unknown]
    own = _own_faults(found)
    fault = _same(case, "; ".join(own) if own else None)
    if fault or "raises" in case:
        return fault and f"{fault} {broken}"
    wanted = case["result"]
    record = parse_record(text)
    ends = [m for m in record.mechanisms if m.name == "all"]
    return _differs(
        case,
        dns_lookups=(wanted["dns_lookups"], found.lookups),
        void_dns_lookups=(wanted["void_dns_lookups"], found.voids),
        all=(wanted["parsed"]["all"], ends[0].result if ends else "neutral"),
        mechanisms=(
            [m["mechanism"] for m in wanted["parsed"]["mechanisms"]],
            [m.name for m in record.mechanisms if m.name != "all"],
        ),
    )


def _own_faults(found: SpfSurvey) -> list[str]:
    """What is wrong with the record itself, as against what its names lead to."""
    return [f.what for f in found.findings if f.code in ("spf-syntax", "spf-loop", "spf-several")]
