"""The forms of a round's report, with text in them that wants to break out."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from junitparser import JUnitXml

from agent.forms import FORMS, render
from agent.forms.github import _command, escape, escape_property

EVIL = "a]]>&<script>alert(1)</script>\"'%0A::error::x\r\n|`*_ \x00\x1b[31m\ufffe é"


def report(words: str = EVIL) -> dict[str, Any]:
    def verdict(kind: str, subject: str, outcome: str, cause: str | None) -> dict[str, Any]:
        difference = {
            "what": "dkim",
            "before": "pass",
            "after": EVIL,
            "words": words,
            "severity": "error",
            "fix": "",
        }
        return {
            "kind": kind,
            "subject": subject,
            "outcome": outcome,
            "cause": cause,
            "words": words,
            "differences": [difference] if outcome == "fail" else [],
            "rate": None,
            "header_diff": [f"-subject: {words}", "+subject: b"] if outcome == "fail" else [],
        }

    def canary(seed: str, outcome: str, placement: str) -> dict[str, Any]:
        return {
            "sender": "app",
            "seed": seed,
            "outcome": outcome,
            "placement": placement,
            "category": None,
            "state": "settled",
            "latency_seconds": 1.25,
            "authentication": {"spf": "pass", "dkim": words},
            "stages_seconds": {"connect": 0.1, "tls": 0.2, "data": 0.3},
        }

    return {
        "schema": "mailcanary.round/1",
        "id": "round-1",
        "kind": "probe",
        "by": words,
        "started_at": "2026-11-22T01:00:00.000Z",
        "ended_at": "2026-11-22T01:00:05.000Z",
        "baseline": "last-good",
        "done": True,
        "cancelled": False,
        "outcome": "fail",
        "causes": ["dkim"],
        "verdicts": [
            verdict("route", "app/gmail-1", "fail", "dkim"),
            verdict("route", "app/yahoo-1", "pass", None),
            verdict("route", "app/full-1", "unknown", "held"),
            verdict("sender", "app", "fail", "listing"),
        ],
        "canaries": [canary("gmail-1", "fail", "spam"), canary("yahoo-1", "pass", "inbox")],
        "held": {"app/full-1": "daily limit of the seed"},
        "around": {"app": {"unknown": [words]}},
    }


def test_junit_is_what_its_readers_expect() -> None:
    root = Xml.fromstring(render(report(), "junit").encode())
    assert root.tag == "testsuites"
    (suite,) = root
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases) == 4
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) == 2
    assert int(suite.attrib["errors"]) == len(suite.findall("testcase/error")) == 1
    assert {"name", "time", "timestamp", "hostname", "skipped"} <= set(suite.attrib)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
    for case in cases:
        assert float(case.attrib["time"]) >= 0
        assert case.attrib["classname"].startswith("mailcanary.")
        assert case.attrib["name"]
        assert next(child.tag for child in case) in ("failure", "error", "system-out")
    # Order of the de-facto schema: properties, cases, system-out.
    assert [child.tag for child in suite] == ["properties", *["testcase"] * 4, "system-out"]
    assert "\x00" not in Xml.tostring(root, encoding="unicode")


def test_junit_as_a_reader_of_pipelines_counts_it(tmp_path: Path) -> None:
    file = tmp_path / "mail.xml"
    file.write_text(render(report(), "junit"), encoding="utf-8")
    told = JUnitXml.fromfile(str(file))
    counts = (told.tests, told.failures, told.errors, told.skipped)
    assert counts == (4, 2, 1, 0)
    told.update_statistics()  # counts the cases themselves
    assert (told.tests, told.failures, told.errors, told.skipped) == counts
    (suite,) = told
    results = {(c.classname, c.name): [(type(r).__name__, r.type) for r in c.result] for c in suite}
    assert results == {
        ("mailcanary.app", "gmail-1"): [("Failure", "dkim")],
        ("mailcanary.app", "yahoo-1"): [],
        ("mailcanary.app", "full-1"): [("Error", "held")],
        ("mailcanary.app", "records and listings"): [("Failure", "listing")],
    }
    assert {p.name: p.value for p in suite.properties()}["outcome"] == "fail"


def unescape(text: str) -> str:
    """As the runner of GitHub Actions does (ActionCommand.cs): properties and data."""
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


def test_github_annotations_cannot_be_broken_out_of() -> None:
    lines = render(report(), "github").splitlines()
    assert len(lines) == 4
    for line in lines:
        assert re.match(r"::(error|warning|notice) title=[^:,]*::", line)
    assert unescape(escape(EVIL)) == EVIL
    title = escape_property("a:b,c%d\n")
    assert title == "a%3Ab%2Cc%25d%0A"


def test_github_annotations_are_escaped_as_githubs_own_toolkit_does() -> None:
    """What error(message, {title}) of its core package 3.0.1 wrote for these."""
    assert _command("error", "a:b,c%d\r\n", "x:y,50%\r\nz %0A") == (
        "::error title=a%3Ab%2Cc%25d%0D%0A::x:y,50%25%0D%0Az %250A"
    )


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_the_page_has_no_script_and_asks_for_nothing() -> None:
    page = render(report(), "html")
    tags = _Tags()
    tags.feed(page)
    assert not {"script", "img", "link", "iframe", "object", "form"} & {tag for tag, _ in tags.seen}
    for _, attributes in tags.seen:
        assert not {"src", "href", "onload", "onerror"} & set(attributes)
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert "&lt;script&gt;" in page


def test_markdown_stays_a_table() -> None:
    text = render(report(), "markdown")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 7 for line in table)
    assert "<script>" not in "\n".join(table)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "text"])
def test_a_round_without_a_verdict(form: str) -> None:
    bare = report() | {"verdicts": [], "causes": [], "outcome": None, "cancelled": True}
    assert render(bare, form)


def test_the_terminal_gets_no_control_characters() -> None:
    import io

    from rich.console import Console

    from agent.forms.text import draw

    kept = io.StringIO()
    draw(report(), Console(file=kept, width=200))
    assert "\x1b" not in kept.getvalue()
    assert "dkim" in kept.getvalue()


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_what_is_wrong_around_a_sender_is_never_told_as_pass(form: str) -> None:
    import io

    from rich.console import Console

    from agent.forms.text import draw

    words = "app: nothing to compare with, wrong now: no SPF record"
    one = {**report(words)["verdicts"][3], "outcome": "pass", "cause": None}
    told = report(words) | {"verdicts": [one], "held": {}, "canaries": [], "around": {}, "by": ""}
    kept = io.StringIO()
    if form == "text":
        draw(told, Console(file=kept, width=200))
    else:
        kept.write(render(told, form))
    lines = [line for line in kept.getvalue().splitlines() if words in line]
    assert any("note" in line for line in lines)
    assert not any("pass" in line for line in lines)


def test_the_terminal_tells_what_changed_below_the_table_in_full() -> None:
    import io

    from rich.console import Console

    from agent.forms.text import draw

    words = "dkim pass (s1) -> fail (s2: no key); publish s2._domainkey.a-rather-long-name.example"
    kept = io.StringIO()
    draw(report(words), Console(file=kept, width=80, soft_wrap=True))
    lines = kept.getvalue().splitlines()
    assert f"fail    app/gmail-1: {words}" in lines
    assert f"unknown app/full-1: {words}" in lines
    assert not [line for line in lines if "app/yahoo-1:" in line], "nothing changed there"
