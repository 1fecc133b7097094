"""The report of a round as a file, in a real browser: it runs no script and asks for nothing."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.forms import render
from tests.unit.test_forms import report

pytestmark = pytest.mark.browser

COMMAND = (
    *("chromium-headless-shell", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--window-size=1200,1500"),
)


@dataclass(frozen=True)
class Opened:
    """A page as the browser holds it, what it asked for besides itself, and what its console says."""

    document: str
    asked: frozenset[str]
    console: list[str]
    picture: bytes


def opened(page: Path) -> Opened:
    """Opens a file in Chromium. Fails where there is none: `make test` installs it."""
    folder = page.parent
    files = [f"--user-data-dir={folder}/profile", f"--log-net-log={folder}/net.json"]
    command = [*COMMAND, *files, f"--screenshot={folder}/page.png", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    events = json.loads((folder / "net.json").read_text())["events"]
    asked = frozenset(event["params"]["url"] for event in events if "url" in event.get("params", {}))
    lines = done.stderr.decode(errors="replace").splitlines()
    console = [line for line in lines if ":CONSOLE:" in line]
    return Opened(done.stdout.decode(), asked, console, (folder / "page.png").read_bytes())


def test_the_page_in_chromium(tmp_path: Path) -> None:
    page = tmp_path / "round.html"
    page.write_text(render(report(), "html"), encoding="utf-8")
    seen = opened(page)
    assert "<script" not in seen.document
    assert seen.document.count("<table") == 3
    assert "did we break mail?" in seen.document
    assert (seen.asked, seen.console) == (frozenset(), [])
    assert len(seen.picture) > 50_000  # an empty page is a tenth of that


def test_a_script_and_a_request_would_be_seen(tmp_path: Path) -> None:
    page = tmp_path / "other.html"
    page.write_text('<img src="https://elsewhere.example/p.png"><p>a</p><script>console.log("ran")</script>')
    seen = opened(page)
    assert "<script" in seen.document
    assert seen.asked == {"https://elsewhere.example/p.png"}
    assert len(seen.console) == 1
