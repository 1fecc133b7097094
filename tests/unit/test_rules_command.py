"""`mailcanary rules`: one side pages, not both and not none."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli import main
from tests.promtool import promtool

CONFIG = """
senders: {app: {from: a@acme.example, relay: {host: smtp.acme.example, security: tls}}}
seeds: {g: {provider: gmail, address: s@gmail.com, password: {env: SEED}}}
"""
RECEIVERS = "alerts: {receivers: {chat: {slack: {url: {env: HOOK}}}}}\n"
MAIL, OWN = "alert: MailcanaryDeliveryBurn", "alert: MailcanaryDown"


@pytest.mark.parametrize(
    ("receivers", "pager", "pages", "said"),
    [
        ("", "auto", True, ""),
        (RECEIVERS, "auto", False, ""),
        ("", "prometheus", True, ""),
        (RECEIVERS, "prometheus", True, "people are told twice"),
        ("", "agent", False, "nobody tells of mail"),
        (RECEIVERS, "agent", False, ""),
    ],
)
def test_who_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], receivers: str, pager: str, pages: bool, said: str
) -> None:
    config = tmp_path / "mail.yaml"
    config.write_text(CONFIG + receivers)
    assert main(["--config", str(config), "rules", "--pager", pager]) == 0
    told = capsys.readouterr()
    assert (MAIL in told.out) == pages
    assert OWN in told.out
    assert said in told.err
    assert bool(told.err) == bool(said)
    rules = tmp_path / "rules.yml"
    rules.write_text(told.out)
    assert "SUCCESS" in promtool("check", "rules", rules)
