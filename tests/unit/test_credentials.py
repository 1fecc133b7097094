"""OAuth2 credentials of the config: what the server replaces is kept, and when a token ends is told."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from structlog.testing import capture_logs

from agent.config.load import load
from agent.config.models import Config
from agent.runner.credentials import oauth_tokens
from agent.runner.mailboxes import Mailboxes, preset_of
from agent.runner.means import Means
from probes.clock import FakeClock


class Poster:
    """A token endpoint that replaces the refresh token each time."""

    def __init__(self) -> None:
        self.asked = 0

    async def post(self, url: str, **_: Any) -> Any:
        self.asked += 1
        body = {"access_token": "a", "refresh_token": f"new-{self.asked}", "expires_in": 3600}
        return SimpleNamespace(status=200, body=json.dumps(body).encode())


def config(folder: Path, secret: dict[str, str], imap: dict[str, Any] | None = None) -> Config:
    seed = {
        "provider": "outlook",
        "address": "a@outlook.com",
        "oauth2": {"client_id": "app", "refresh_token": secret},
        "imap": imap or {},
    }
    sender = {"from": "a@acme.example", "relay": {"host": "127.0.0.1", "security": "none"}}
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump({"senders": {"app": sender}, "seeds": {"box": seed}}))
    return load(path)


def means(poster: Poster) -> Means:
    return cast(Means, SimpleNamespace(poster=poster, clock=FakeClock()))


async def test_a_replaced_refresh_token_is_kept_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "box.token"
    file.touch(mode=0o600)
    file.write_text("old")
    settings = config(tmp_path, {"file": "box.token"}).seeds["box"].oauth2
    assert settings is not None
    tokens = oauth_tokens(settings, "microsoft", means(Poster()))
    assert await tokens.token() == "a"
    assert file.read_text() == "new-1"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert settings.refresh_token is not None
    assert settings.refresh_token.reveal() == "new-1"


async def test_one_that_cannot_be_kept_is_told_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOX_TOKEN", "old")
    settings = config(tmp_path, {"env": "BOX_TOKEN"}).seeds["box"].oauth2
    assert settings is not None
    with capture_logs() as logs:
        assert await oauth_tokens(settings, "microsoft", means(Poster())).token() == "a"
    assert [line["log_level"] for line in logs] == ["warning"]
    assert "new-1" not in str(logs)


async def test_when_a_token_ends_is_told_by_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_TOKEN", "old")
    settings = config(tmp_path, {"env": "BOX_TOKEN"}).seeds["box"].oauth2
    assert settings is not None
    outside = means(Poster())
    tokens = oauth_tokens(settings, "microsoft", outside)
    boxes = Mailboxes(cast(Any, outside), cast(Any, None))
    boxes._running = cast(Any, {"box": SimpleNamespace(credential=tokens)})
    assert boxes.token_ends() == []
    await tokens.token()
    assert boxes.token_ends() == [(("box",), outside.clock.wall() + 3600)]


def test_every_habit_of_a_preset_can_be_overridden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOX_TOKEN", "old")
    imap = {
        "authserv_ids": ["MX.example"], "border": ["*.Example"], "below_border": 3, "internal": ["x.Example"],
        "poll": "7s", "idle": False, "bursts": True, "junk_required": False,
    }  # fmt: skip
    found = preset_of(config(tmp_path, {"env": "BOX_TOKEN"}, imap).seeds["box"])
    assert (found.poll_seconds, found.idle, found.noop_bursts) == (7.0, False, True)
    assert found.junk_required is False
    trust = found.trust
    assert (trust.authserv_ids, trust.border) == (("mx.example",), ("*.example",))
    assert (trust.internal, trust.below_border) == (("x.example",), 3)
