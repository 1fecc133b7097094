"""`mailcanary login SEED` at a login server on loopback: both flows, and what is wrong beforehand."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import yaml

from agent.cli import main
from probes.clock import SystemClock


class Server(BaseHTTPRequestHandler):
    """Gives a device code, says once that the person is not ready, then gives the tokens."""

    asked: list[dict[str, list[str]]]

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.asked.append({"path": [self.path], **form})
        status, body = 200, '{"access_token": "a", "refresh_token": "the-refresh-token", "expires_in": 3600}'
        if self.path == "/device":
            body = '{"device_code": "d", "user_code": "ABCD-EFGH", "interval": 0.05, "expires_in": 30, '
            body += '"verification_uri": "https://login.example/device"}'
        elif len(self.asked) == 2 and form["grant_type"][0].endswith("device_code"):
            status, body = 400, '{"error": "authorization_pending"}'
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    asked: list[dict[str, list[str]]] = []
    found = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Server,), {"asked": asked}))
    threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{found.server_address[1]}", asked
    found.shutdown()


def config(folder: Path, url: str, **seed: Any) -> str:
    oauth2 = {"client_id": "app", "token_url": f"{url}/token", "refresh_token": {"file": "box.token"}}
    document = {
        "senders": {"app": {"from": "a@acme.example", "relay": {"host": "127.0.0.1", "security": "none"}}},
        "seeds": {
            "box": {
                "provider": "generic",
                "address": "b@acme.example",
                "imap": {"host": "127.0.0.1"},
                "oauth2": oauth2,
            }
            | seed
        },
    }
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def test_by_device_code(
    server: tuple[str, list[dict[str, list[str]]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_once(_self: SystemClock, _seconds: float) -> None:
        """Between two questions lies a second, whatever the server says."""

    monkeypatch.setattr(SystemClock, "sleep", at_once)
    url, asked = server
    argv = ["--config", config(tmp_path, url), "login", "box", "--device-url", f"{url}/device"]
    assert main(argv) == 0
    token = tmp_path / "box.token"
    assert token.read_text() == "the-refresh-token"
    assert token.stat().st_mode & 0o777 == 0o600
    told = capsys.readouterr().out
    assert "https://login.example/device" in told
    assert "ABCD-EFGH" in told
    assert "the-refresh-token" not in told
    assert [request["path"] for request in asked] == [["/device"], ["/token"], ["/token"]]
    assert main(argv) == 0, "a later login replaces the token"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".box")] == []


def test_by_browser(
    server: tuple[str, list[dict[str, list[str]]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = server

    def browse(text: str, **_: Any) -> None:
        if "authorize?" not in text:
            return
        query = parse_qs(urlsplit(text.split()[-1]).query)
        back = {"code": "the-code", "state": query["state"][0]}
        target = f"{query['redirect_uri'][0]}?{urlencode(back)}"
        threading.Thread(target=lambda: urllib.request.urlopen(target, timeout=5).read()).start()

    monkeypatch.setattr("builtins.print", browse)
    argv = ["login", "box", "--flow", "browser", "--authorize-url", f"{url}/authorize"]
    assert main(["--config", config(tmp_path, url), *argv]) == 0
    assert (tmp_path / "box.token").read_text() == "the-refresh-token"
    assert asked[0]["code"] == ["the-code"]


@pytest.mark.parametrize(
    ("seed", "name", "says"),
    [
        ({}, "nobody", "there is no seed 'nobody'; there are: box"),
        ({"oauth2": {"client_id": "x", "client_secret": {"env": "X"}}}, "box", "refresh_token: {file:"),
        ({}, "box", "give --device-url"),
    ],
)
def test_what_is_missing(
    seed: dict[str, Any], name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", config(tmp_path, "http://127.0.0.1:9", **seed), "login", name]) == 2
    assert says in capsys.readouterr().err
