"""Tokens: renewed at 80 percent of life, by one request at a time, and a refused grant is final."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from probes.clock import FakeClock
from probes.errors import HttpUnavailable, LoginRefused
from probes.mailbox.first_login import Application, device_login, loopback_login
from probes.mailbox.oauth2 import PROVIDERS, OAuthGrant, OAuthTokens


class Endpoint:
    """Answers from a list, the last for ever."""

    def __init__(self, *answers: tuple[int, dict[str, Any]] | Exception) -> None:
        self.answers = list(answers)
        self.forms: list[dict[str, str]] = []
        self.urls: list[str] = []

    async def __call__(self, url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        self.urls.append(url)
        self.forms.append(dict(form))
        await asyncio.sleep(0)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer[0], json.dumps(answer[1]).encode()


def good(token: str = "a1", **more: Any) -> tuple[int, dict[str, Any]]:
    return 200, {"access_token": token, "expires_in": 1000} | more


GRANT = OAuthGrant("https://t.example.net/token", "id", "s3cret", "r3fresh")


async def test_renewed_at_80_percent_of_life() -> None:
    clock, endpoint = FakeClock(), Endpoint(good("a1"), good("a2"))
    tokens = OAuthTokens(GRANT, endpoint, clock)
    assert await tokens.token() == "a1"
    await clock.advance(799)
    assert await tokens.token() == "a1"
    await clock.advance(2)
    assert await tokens.token() == "a2"
    assert endpoint.forms[0] == {
        "grant_type": "refresh_token",
        "client_id": "id",
        "client_secret": "s3cret",
        "refresh_token": "r3fresh",
    }


async def test_a_wall_jump_counts_as_age() -> None:
    clock = FakeClock()
    tokens = OAuthTokens(GRANT, Endpoint(good("a1"), good("a2")), clock)
    await tokens.token()
    clock.jump(900)
    assert await tokens.token() == "a2"


async def test_single_flight() -> None:
    endpoint = Endpoint(good())
    tokens = OAuthTokens(GRANT, endpoint, FakeClock())
    assert set(await asyncio.gather(*(tokens.token() for _ in range(50)))) == {"a1"}
    assert len(endpoint.forms) == 1


async def test_invalid_grant_is_final_until_reset() -> None:
    refusal = (400, {"error": "invalid_grant", "error_description": "Token has been revoked."})
    endpoint = Endpoint(refusal, good())
    tokens = OAuthTokens(GRANT, endpoint, FakeClock())
    for _ in range(5):
        with pytest.raises(LoginRefused, match="revoked") as caught:
            await tokens.token()
        assert caught.value.facts["reason"] == "grant-refused"
    assert len(endpoint.forms) == 1
    tokens.reset("n3w")
    assert await tokens.token() == "a1"
    assert endpoint.forms[-1]["refresh_token"] == "n3w"


async def test_a_passing_fault_uses_the_old_token_while_it_lives() -> None:
    clock = FakeClock()
    tokens = OAuthTokens(GRANT, Endpoint(good(), (503, {}), HttpUnavailable("x"), (429, {})), clock)
    await tokens.token()
    await clock.advance(850)
    assert await tokens.token() == "a1"
    assert await tokens.token() == "a1"
    await clock.advance(200)
    with pytest.raises(HttpUnavailable):
        await tokens.token()


async def test_a_rotated_refresh_token_is_kept() -> None:
    kept: list[str] = []
    endpoint, clock = Endpoint(good(refresh_token="r2"), good("a2")), FakeClock()
    tokens = OAuthTokens(GRANT, endpoint, clock, kept.append)
    await tokens.token()
    await clock.advance(900)
    await tokens.token()
    assert kept == ["r2"]
    assert endpoint.forms[-1]["refresh_token"] == "r2"


async def test_client_credentials_and_invalidate() -> None:
    endpoint = Endpoint(good("a1"), good("a2"))
    scope = PROVIDERS["microsoft"].app_scope
    tokens = OAuthTokens(OAuthGrant("https://t.example.net", "id", "s", scope=scope), endpoint, FakeClock())
    assert await tokens.token() == "a1"
    tokens.invalidate()
    assert tokens.expires_at is None
    assert await tokens.token() == "a2"
    assert endpoint.forms[0]["grant_type"] == "client_credentials"
    assert endpoint.forms[0]["scope"] == scope


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b"{", b'{"access_token": 5}', b'{"access_token": ""}', b"[" * 100_000]
)
async def test_answers_without_sense_are_unavailable(body: bytes) -> None:
    async def post(url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        return 200, body

    with pytest.raises(HttpUnavailable):
        await OAuthTokens(GRANT, post, FakeClock()).token()


def test_secrets_stay_out_of_repr() -> None:
    assert "s3cret" not in repr(GRANT)
    assert "r3fresh" not in repr(GRANT)


async def test_device_login() -> None:
    started = 200, {"device_code": "d", "user_code": "ABCD", "verification_uri": "https://x/", "interval": 5}
    wait = 400, {"error": "authorization_pending"}
    slow = 400, {"error": "slow_down"}
    endpoint, clock, shown = Endpoint(started, wait, slow, good(refresh_token="r9")), FakeClock(), []
    login = asyncio.create_task(
        device_login(
            endpoint,
            clock,
            Application("id", "mail"),
            "https://d/",
            "https://t/",
            lambda *told: shown.append(told),
        )
    )
    for _ in range(6):
        await clock.advance(5)
    assert await asyncio.wait_for(login, 1) == "r9"
    assert shown == [("https://x/", "ABCD")]


async def test_device_login_denied() -> None:
    started = 200, {"device_code": "d", "user_code": "ABCD", "verification_url": "https://x/", "interval": 1}
    endpoint, clock = Endpoint(started, (400, {"error": "access_denied"})), FakeClock()
    login = asyncio.create_task(
        device_login(endpoint, clock, Application("id", "mail"), "https://d/", "https://t/", lambda *_: None)
    )
    for _ in range(3):
        await clock.advance(5)
    with pytest.raises(LoginRefused, match="access_denied"):
        await asyncio.wait_for(login, 1)


async def test_loopback_login_takes_only_its_own_state() -> None:
    shown: asyncio.Queue[str] = asyncio.Queue()
    endpoint = Endpoint(good(refresh_token="r7"))
    login = asyncio.create_task(
        loopback_login(
            endpoint, Application("id", "mail"), "https://a/", "https://t/", shown.put_nowait, timeout=5
        )
    )
    query = parse_qs(urlsplit(await shown.get()).query)
    port = urlsplit(query["redirect_uri"][0]).port

    async def come_back(text: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /?{text} HTTP/1.1\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer

    assert b"404" in await come_back("code=evil&state=guess")
    assert b"200" in await come_back(f"code=c0de&state={query['state'][0]}")
    assert await asyncio.wait_for(login, 2) == "r7"
    assert endpoint.forms[0]["code"] == "c0de"
    assert endpoint.forms[0]["code_verifier"]
