"""What servers and strangers say cannot move a terminal's cursor, nor end in its markup."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import structlog

from agent import logs
from agent.commands import why
from agent.inspection import text

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[red]x"


def shown(out: str) -> bool:
    return not any(char in out for char in "\x1b\x07\x9b\u202e")


@pytest.mark.parametrize("kind", ["canary", "record changed"])
def test_why_prints_no_control_characters(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    canary = {
        "outcome": "fail",
        "placement": "rejected",
        "state": "settled",
        "latency_seconds": None,
        "late": False,
        "reason": HOSTILE,
        "authentication": {"dkim": HOSTILE},
        "evidence": [{"kind": "smtp-reply", "text": HOSTILE}],
    }
    event: dict[str, Any] = {"at": 0.0, "kind": kind, "title": HOSTILE, "canary": canary}
    why._show(event)
    out = capsys.readouterr().out
    assert shown(out)
    assert "[red]x" in out


def test_inspect_prints_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_lines", lambda facts: iter([facts["subject"]]))
    assert shown(text.render({"subject": HOSTILE}))


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_keeps_no_control_characters(
    form: Literal["text", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    logs.configure(form)
    try:
        structlog.get_logger().warning("mailbox", reason=HOSTILE.replace(" ", ""), times=2)
    finally:
        structlog.reset_defaults()
    err = capsys.readouterr().err
    assert "mailbox" in err
    assert shown(err.replace("\x1b[0m", ""))
