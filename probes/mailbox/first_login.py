"""The first OAuth2 login of a seed, once, with a person: device code (RFC 8628) or loopback redirect (RFC
8252).

Google allows the mail scope in the loopback flow only; Microsoft allows both. What comes out is a refresh
token.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from probes.clock import Clock
from probes.errors import HttpUnavailable, LoginRefused
from probes.mailbox.oauth2 import FormPost, ask, read_json, seconds

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_DONE: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nYou can close this page.\n"
)
_NO: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Application:
    """The registered application that asks for access."""

    client_id: str
    scope: str
    client_secret: str | None = field(default=None, repr=False)

    def form(self, **more: str) -> dict[str, str]:
        """A request's form with the application's own fields."""
        secret = {"client_secret": self.client_secret} if self.client_secret else {}
        return {"client_id": self.client_id, **secret, **more}


async def device_login(
    post: FormPost,
    clock: Clock,
    application: Application,
    device_url: str,
    token_url: str,
    show: Callable[[str, str], None],
) -> str:
    """Shows (address, code) to the person and waits until access was given; returns the refresh token.

    Raises LoginRefused when it was denied or the code ran out, HttpUnavailable when nobody answers.
    """
    status, body = await post(device_url, {"client_id": application.client_id, "scope": application.scope})
    said = read_json(body)
    where = said.get("verification_uri") or said.get("verification_url")  # Google's older spelling
    if status != 200 or not isinstance(said.get("device_code"), str) or not isinstance(where, str):
        raise HttpUnavailable(f"device endpoint: status {status}")
    show(where, str(said.get("user_code", "")))
    form = application.form(grant_type=DEVICE_GRANT, device_code=said["device_code"])
    return refresh_token(await _poll(post, clock, token_url, form, said))


async def _poll(
    post: FormPost, clock: Clock, token_url: str, form: Mapping[str, str], said: Mapping[str, Any]
) -> dict[str, Any]:
    """RFC 8628 section 3.5: slow_down adds five seconds for good."""
    pause = seconds(said.get("interval"), 5.0)
    end = clock.monotonic() + seconds(said.get("expires_in"), 900.0)
    while clock.monotonic() < end:
        await clock.sleep(pause)
        try:
            return await ask(post, token_url, form)
        except HttpUnavailable as error:
            code = error.facts.get("code")
            if code == "expired_token":
                break
            if code == "slow_down" or code not in ("authorization_pending",):
                pause += 5.0
    raise LoginRefused("OAuth2: the code ran out before it was used", reason="grant-refused")


async def loopback_login(
    post: FormPost,
    application: Application,
    authorize_url: str,
    token_url: str,
    show: Callable[[str], None],
    timeout: float = 600.0,
) -> str:
    """Shows an address to open, and waits on 127.0.0.1 for the browser to come back; returns the refresh
    token.

    Uses PKCE (RFC 7636) and a state value. Raises LoginRefused when access was denied or nobody came.
    """
    verifier, state = secrets.token_urlsafe(64), secrets.token_urlsafe(24)
    answer: asyncio.Future[dict[str, list[str]]] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda r, w: _serve(r, w, state, answer), "127.0.0.1", 0, limit=16_384
    )
    redirect = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    try:
        show(f"{authorize_url}?{urlencode(_question(application, redirect, verifier, state))}")
        async with asyncio.timeout(timeout):
            came = await answer
    except TimeoutError:
        raise LoginRefused("OAuth2: nobody came back from the login page", reason="grant-refused") from None
    finally:
        server.close()
    code = came.get("code", [""])[0]
    if not code:
        raise LoginRefused(f"OAuth2: {came.get('error', ['no code'])[0][:80]}", reason="grant-refused")
    form = application.form(
        grant_type="authorization_code", code=code, redirect_uri=redirect, code_verifier=verifier
    )
    return refresh_token(await ask(post, token_url, form))


def _question(application: Application, redirect: str, verifier: str, state: str) -> dict[str, str]:
    digest = hashlib.sha256(verifier.encode()).digest()
    return {
        "client_id": application.client_id,
        "response_type": "code",
        "redirect_uri": redirect,
        "scope": application.scope,
        "state": state,
        "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        "access_type": "offline",
        "prompt": "consent",
    }


async def _serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    state: str,
    answer: asyncio.Future[dict[str, list[str]]],
) -> None:
    """One request: only one that brings our state back counts."""
    try:
        async with asyncio.timeout(10):
            line = await reader.readline()
            words = line.decode("latin-1").split(" ")
            query = parse_qs(urlsplit(words[1]).query) if len(words) == 3 and words[0] == "GET" else {}
            ours = secrets.compare_digest(query.get("state", [""])[0].encode(), state.encode())
            writer.write(_DONE if ours else _NO)
            await writer.drain()
        if ours and not answer.done():
            answer.set_result(query)
    except (TimeoutError, OSError, ValueError):
        pass
    finally:
        writer.close()


def refresh_token(said: Mapping[str, Any]) -> str:
    """The refresh token in a token endpoint's answer."""
    token = said.get("refresh_token")
    if not isinstance(token, str) or not token:
        raise LoginRefused(
            "OAuth2: no refresh token was given; is offline access asked for?", reason="grant-refused"
        )
    return token
