"""Who may ask the web: names, origins, tokens."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agent.web.guard import SECURITY_HEADERS, guard, host_allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:9465", True),
        ("localhost:9465", True),
        ("LOCALHOST", True),
        ("[::1]:9465", True),
        ("::1", True),
        ("127.9.9.9", True),
        ("canary.acme.example", True),
        ("canary.acme.example:443", True),
        ("CANARY.acme.example", True),
        ("evil.example", False),
        ("evil.example:9465", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("canary.acme.example.evil.example", False),
        ("10.0.0.1", False),
        ("", False),
        ("[::ffff:10.0.0.1]", False),
        ("2130706433", False),
        ("[::1]evil.example", False),
        ("[::1]:9465.evil.example", False),
        ("127.0.0.1:9465@evil.example", False),
    ],
)
def test_the_host_header_must_name_this_agent(host: str, allowed: bool) -> None:
    assert host_allowed(host, frozenset({"canary.acme.example"})) is allowed


async def client(token: str | None = None) -> TestClient[web.Request, web.Application]:
    async def ok(_request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application(middlewares=[guard(token, frozenset())])
    app.router.add_get("/", ok)
    app.router.add_post("/", ok)
    started = TestClient(TestServer(app))
    await started.start_server()
    return started


async def test_a_foreign_host_is_misdirected() -> None:
    async with await client() as web_client:
        assert (await web_client.get("/", headers={"Host": "evil.example"})).status == 421
        assert (await web_client.get("/")).status == 200


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_other_sites_may_not_post(headers: dict[str, str]) -> None:
    async with await client() as web_client:
        assert (await web_client.post("/", headers=headers)).status == 403
        assert (await web_client.get("/", headers=headers)).status == 200
        assert (await web_client.post("/")).status == 200


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong", "Bearer ", "bearer right", "Basic cmlnaHQ=", "right"]
)
async def test_without_the_token_nothing_is_told(given: str | None) -> None:
    async with await client("right") as web_client:
        headers = {"Authorization": given} if given else {}
        answer = await web_client.get("/", headers=headers)
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await web_client.get("/", headers={"Authorization": "Bearer right"})).status == 200


async def test_every_answer_forbids_scripts_and_frames() -> None:
    async with await client("right") as web_client:
        for headers in ({}, {"Authorization": "Bearer right"}):
            answer = await web_client.get("/", headers=headers)
            for name, value in SECURITY_HEADERS.items():
                assert answer.headers[name] == value
