"""Every `mailcanary ...` that an alert or a runbook tells people to type is a command that exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from agent.cli import parser
from alerts import runbooks
from alerts.causes import Scope, ScopeKind
from alerts.lifecycle import Alert, Member
from alerts.settings import AlertKind
from alerts.texts import Pages, advice, sections

NAMES = {"sender": "app", "seed": "gmail-1", "provider": "gmail", "route": "app/gmail-1", "subject": "x"}


def in_pages() -> Iterator[tuple[str, str]]:
    """Lines to copy, and commands between backticks, of every runbook."""
    for name in runbooks.names():
        page = runbooks.page(name) or ""
        yield from ((name, line) for line in re.findall(r"^mailcanary .*$", page, re.MULTILINE))
        prose = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
        yield from ((name, command) for command in re.findall(r"`(mailcanary [^`]*)`", prose))


def in_advice() -> Iterator[tuple[str, str]]:
    """Commands between backticks of every next step."""
    for name, entry in advice().items():
        text = f"{entry['cause']} {entry['next']}".format_map({**NAMES, "senders": "app"})
        yield from ((name, command) for command in re.findall(r"`(mailcanary [^`]*)`", text))
        assert "mailcanary " not in re.sub(r"`[^`]*`", "", text), f"{name}: a command without backticks"


def in_alerts() -> Iterator[tuple[str, str]]:
    """What the alert itself tells, with a hostile key."""
    alert = Alert("mailcanary/mail/route:a b/$(x)", AlertKind.SPAM, Scope(ScopeKind.ROUTE, "a/b"), 0.0)
    alert.members["a/b"] = Member(AlertKind.SPAM, 0.0, "a", "b", "p")  # type: ignore[index]
    told = dict(sections(alert, Pages(), 60.0))
    yield "runbook", told["Runbook"]
    yield "silence", told["Silence"]
    yield "digest", "mailcanary alerts list"


@pytest.mark.parametrize(("place", "command"), [*in_pages(), *in_advice(), *in_alerts()])
def test_it_can_be_typed(place: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(command.replace("...", "why"), comments=True)
    assert words[0] == "mailcanary"
    try:
        args = parser().parse_args(words[1:])
    except SystemExit:
        pytest.fail(f"{place}: {command}: {capsys.readouterr().err}")
    assert callable(args.run)
