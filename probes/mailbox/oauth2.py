"""OAuth2 access tokens for XOAUTH2: refresh-token and client-credentials grants (RFC 6749 sections 6 and
4.4).

A token is renewed at 80 percent of its life, by one request at a time. `invalid_grant` and its kin are
final: nobody asks again until `reset`, since hammering a revoked grant gets applications blocked.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from probes.clock import Clock
from probes.errors import HttpUnavailable, LoginRefused
from probes.mailbox.parse import printable

RENEW_AT: Final = 0.8
"""Share of a token's life after which it is renewed."""
DEFAULT_LIFE: Final = 3_600.0
_FINAL: Final = frozenset(
    (
        "invalid_grant",
        "invalid_client",
        "invalid_scope",
        "unauthorized_client",
        "unsupported_grant_type",
        "access_denied",
    )
)


class FormPost(Protocol):
    """Sends a form and gives back (status, body): probes/http.py behind a small lambda, or a test's own."""

    async def __call__(self, url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        """POST as application/x-www-form-urlencoded, with a deadline and a cap on the body. Raises
        HttpUnavailable where nobody answers; follows no redirect."""


@dataclass(frozen=True, slots=True)
class Provider:
    """The endpoints of one authorisation server. "{tenant}" in a URL is the Microsoft tenant."""

    token_url: str
    device_url: str
    authorize_url: str
    scope: str
    app_scope: str


PROVIDERS: Final[Mapping[str, Provider]] = {
    # developers.google.com: identity/protocols/oauth2, gmail/imap/xoauth2-protocol (2026-11)
    "google": Provider(
        token_url="https://oauth2.googleapis.com/token",
        device_url="https://oauth2.googleapis.com/device/code",
        authorize_url="https://accounts.google.com/o/oauth2/v2/auth",
        scope="https://mail.google.com/",
        app_scope="https://mail.google.com/",
    ),
    # learn.microsoft.com: authenticate an IMAP, POP or SMTP connection using OAuth (2026-11)
    "microsoft": Provider(
        token_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        device_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode",
        authorize_url="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
        scope="https://outlook.office.com/IMAP.AccessAsUser.All "
        "https://outlook.office.com/SMTP.Send offline_access",
        app_scope="https://outlook.office365.com/.default",
    ),
}


@dataclass(frozen=True, slots=True)
class OAuthGrant:
    """What an access token is got with. refresh_token: None means client credentials. scope: "" for the
    server's own choice (a refresh keeps the scopes of the first login)."""

    token_url: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    scope: str = ""

    def form(self, refresh_token: str | None) -> dict[str, str]:
        """The token request."""
        grant = "client_credentials" if refresh_token is None else "refresh_token"
        asked = {
            "grant_type": grant,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "refresh_token": refresh_token,
            "scope": self.scope,
        }
        return {key: value for key, value in asked.items() if value}


@dataclass(frozen=True, slots=True)
class _Held:
    access: str = field(repr=False)
    life: float
    wall: float
    monotonic: float


class OAuthTokens:
    """The access tokens of one grant; shared by all that log in with it.

    on_refresh_token: gets a refresh token that the server has replaced (Microsoft does), to be stored.
    """

    def __init__(
        self,
        grant: OAuthGrant,
        post: FormPost,
        clock: Clock,
        on_refresh_token: Callable[[str], None] | None = None,
    ) -> None:
        self._grant = grant
        self._post = post
        self._clock = clock
        self._on_refresh_token = on_refresh_token
        self._refresh_token = grant.refresh_token
        self._held: _Held | None = None
        self._refused: LoginRefused | None = None
        self._lock = asyncio.Lock()

    @property
    def expires_at(self) -> float | None:
        """Epoch seconds at which the held token ends, None without one."""
        return None if self._held is None else self._held.wall + self._held.life

    def invalidate(self) -> None:
        """The server refused the last token: the next one has to be new."""
        self._held = None

    def reset(self, refresh_token: str | None = None) -> None:
        """Somebody has logged in anew, or wants to try again."""
        self._refused = self._held = None
        self._refresh_token = refresh_token or self._refresh_token

    async def token(self) -> str:
        """A token that is valid now.

        Raises LoginRefused (reason grant-refused) once the grant is refused, HttpUnavailable where no
        answer came and the old token is over.
        """
        async with self._lock:
            if self._held is not None and self._age(self._held) < RENEW_AT * self._held.life:
                return self._held.access
            try:
                self._held = await self._renew()
            except HttpUnavailable:
                if self._held is None or self._age(self._held) >= self._held.life:
                    raise
            return self._held.access

    def _age(self, held: _Held) -> float:
        """Seconds since the token came. A suspended machine stops one clock, an administrator moves the
        other."""
        return max(self._clock.wall() - held.wall, self._clock.monotonic() - held.monotonic)

    async def _renew(self) -> _Held:
        if self._refused is not None:
            raise self._refused
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        try:
            said = await ask(self._post, self._grant.token_url, self._grant.form(self._refresh_token))
        except LoginRefused as error:
            self._refused, self._held = error, None
            raise
        renewed = said.get("refresh_token")
        if isinstance(renewed, str) and self._refresh_token and renewed != self._refresh_token:
            self._refresh_token = renewed
            if self._on_refresh_token is not None:
                self._on_refresh_token(renewed)
        return _Held(str(said["access_token"]), seconds(said.get("expires_in")), wall, monotonic)


def seconds(value: Any, default: float = DEFAULT_LIFE) -> float:
    """A number of seconds as servers write it: 3599 or "3599"."""
    try:
        return max(1.0, min(float(value), 10 * 86_400.0))
    except (TypeError, ValueError):
        return default


async def ask(post: FormPost, url: str, form: Mapping[str, str]) -> dict[str, Any]:
    """One request to a token endpoint; its JSON, which has an access_token.

    Raises LoginRefused for a final refusal (RFC 6749 section 5.2), HttpUnavailable for everything else.
    """
    status, body = await post(url, form)
    said = read_json(body)
    if status == 200 and isinstance(said.get("access_token"), str) and said["access_token"]:
        return said
    error = said.get("error")
    code = printable(str(error).encode(), 60) if isinstance(error, str) else ""
    if status in (400, 401, 403) and code in _FINAL:
        told = printable(str(said.get("error_description", "")).encode(), 200)
        raise LoginRefused(f"OAuth2: {code}: {told}".rstrip(": "), reason="grant-refused", code=code)
    raise HttpUnavailable(f"token endpoint: status {status} {code}".rstrip(), reason="unavailable", code=code)


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object, or an empty one."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
