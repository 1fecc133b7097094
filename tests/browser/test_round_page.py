"""The report of a round as a file, in a real browser: it runs no script and asks for nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.forms import render
from tests.unit.test_forms import report

pytestmark = pytest.mark.browser


def test_the_page_in_chromium(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    sync_api = pytest.importorskip("playwright.sync_api")
    if chromium is None:
        pytest.skip("there is no chromium here")
    page_file = tmp_path / "round.html"
    page_file.write_text(render(report(), "html"), encoding="utf-8")
    asked: list[str] = []
    complaints: list[str] = []
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(page_file.as_uri())
        assert page.locator("table").count() == 3
        assert page.locator("script").count() == 0
        assert "did we break mail?" in page.locator("h1").inner_text()
        browser.close()
    assert asked == [page_file.as_uri()]
    assert complaints == []
