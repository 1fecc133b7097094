"""JUnit XML: a test case a route and a sender. fail is a failure, unknown an error ("could not tell")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as Xml

from agent.forms.cells import clean, headline, rows


def render(report: Mapping[str, Any]) -> str:
    """The report as JUnit XML, UTF-8."""
    table = {row.route: row for row in rows(report)}
    cases = [v for v in report["verdicts"] if v["kind"] == "route"] or [
        {
            "kind": "route",
            "subject": r,
            "outcome": "unknown",
            "cause": None,
            "words": row.words,
            "differences": [],
        }
        for r, row in table.items()
    ]
    cases += [v for v in report["verdicts"] if v["kind"] == "sender"]
    seconds = sum(row.latency or 0.0 for row in table.values())
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(v["outcome"] == "fail" for v in cases)),
        "errors": str(sum(v["outcome"] == "unknown" for v in cases)),
        "time": f"{seconds:.3f}",
    }
    root = Xml.Element("testsuites", {"name": "mailcanary", **counts})
    about = {"timestamp": report["started_at"].partition(".")[0].rstrip("Z"), "hostname": "mailcanary"}
    suite = Xml.SubElement(root, "testsuite", {"name": "mailcanary probe", "skipped": "0", **about, **counts})
    properties = Xml.SubElement(suite, "properties")
    for name in ("id", "outcome", "baseline"):
        Xml.SubElement(properties, "property", {"name": name, "value": clean(report.get(name) or "")})
    for verdict in cases:
        _case(suite, verdict, table)
    Xml.SubElement(suite, "system-out").text = clean(headline(report))
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _case(suite: Xml.Element, verdict: Mapping[str, Any], table: Mapping[str, Any]) -> None:
    subject = clean(verdict["subject"])
    sender, _, seed = subject.partition("/")
    row = table.get(verdict["subject"])
    case = Xml.SubElement(
        suite,
        "testcase",
        {
            "classname": f"mailcanary.{sender}",
            "name": seed or "records and listings",
            "time": f"{row.latency if row and row.latency is not None else 0.0:.3f}",
        },
    )
    words = clean(verdict["words"])
    if verdict["outcome"] == "pass":
        Xml.SubElement(case, "system-out").text = words
        return
    kind = "failure" if verdict["outcome"] == "fail" else "error"
    attributes = {"message": words[:500], "type": clean(verdict["cause"] or verdict["outcome"])}
    found = Xml.SubElement(case, kind, attributes)
    lines = [words, *(clean(d["words"]) for d in verdict["differences"])]
    lines += [clean(line) for line in verdict.get("header_diff", ())]
    found.text = "\n".join(lines)
