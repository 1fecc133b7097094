"""Every alert can be acted on alone; every kind has its runbook page and its advice."""

from __future__ import annotations

import re

import pytest

from alerts import runbooks
from alerts.causes import Scope, ScopeKind
from alerts.lifecycle import Alert, Member
from alerts.settings import AlertKind
from alerts.texts import Pages, advice, clean, sections, title

NOW = 1_800_000_000.0


@pytest.mark.parametrize("kind", list(AlertKind))
def test_each_kind_has_a_page_with_all_parts(kind: AlertKind) -> None:
    page = runbooks.page(kind)
    assert page is not None
    heads = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert [h.partition(" by ")[0].partition(" (")[0] for h in heads] == [
        "What it means",
        "Confirm",
        "Likely causes",
        "Fix",
        "Silence",
    ]
    assert page.count("```") >= 4, "commands to copy"
    assert "mailcanary alerts silence" in page


def test_no_other_page_can_be_asked_for() -> None:
    for name in ("", "../settings", "missing.md", "nothing"):
        assert runbooks.page(name) is None


@pytest.mark.parametrize(
    ("kind", "scope"), [(k, s) for k in AlertKind for s in ScopeKind if k.own is (s is ScopeKind.OWN)]
)
def test_every_alert_says_all_that_is_needed(kind: AlertKind, scope: ScopeKind) -> None:
    name = {"sender-provider": "app/gmail", "route": "app/gmail-1", "own": f"{kind}/x", "all": ""}.get(
        scope, "app"
    )
    member = Member(kind, NOW - 600, "app", "gmail-1", "gmail", "", "fact")
    alert = Alert(
        "k", kind, Scope(scope, name), NOW - 600, members={"m": member}, senders=3, seeds=2, providers=2
    )
    told = dict(sections(alert, Pages(), NOW))
    assert set(told) == {
        "What",
        "Since",
        "Evidence",
        "Likely cause",
        "Next step",
        "Runbook",
        "Silence",
        "Agent",
    }
    assert "{" not in "".join(told.values())
    assert "10 min" in told["Since"]
    assert title(alert, "trigger").startswith("[FIRING ")


def test_advice_is_whole() -> None:
    for name, entry in advice().items():
        assert set(entry) == {"title", "cause", "next"}, name
        assert entry["cause"]
        assert entry["next"]
    for kind in AlertKind:
        if kind.own:
            assert kind in advice()


def test_clean_keeps_scripts_and_drops_tricks() -> None:
    assert clean("a\u202eb\x00c\u2066d") == "a b c d"
    assert clean("\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \U0001f600\n") == (
        "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \U0001f600\n"
    )
