"""OAuth2 token sources for mailboxes and relays, one a credential so that refreshes are shared."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import structlog

from agent.config.mail import OAuth2
from agent.runner.means import Means
from agent.secrets import Secret, write_secret
from alerts.http import HttpPoster
from probes.errors import ConfigError
from probes.mailbox.oauth2 import PROVIDERS, FormPost, OAuthGrant, OAuthTokens

log = structlog.get_logger("credentials")

TIMEOUT = 20.0
FORM = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}


def form_post(poster: HttpPoster) -> FormPost:
    """Posts forms through the house's one HTTP client."""

    async def post(url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        reply = await poster.post(url, body=urlencode(form).encode(), headers=FORM, timeout=TIMEOUT)
        return reply.status, reply.body

    return post


def oauth_tokens(
    settings: OAuth2,
    provider: str | None,
    means: Means,
) -> OAuthTokens:
    """The tokens of one grant. provider: whose endpoints to use where the config names none. A refresh token
    that the server replaces (Microsoft does) goes into the file that the old one came from.

    Raises ConfigError where no token endpoint is known.
    """
    known = PROVIDERS.get(provider or "")
    url = settings.token_url or (known.token_url if known else None)
    if url is None:
        raise ConfigError("oauth2 needs a token_url: the provider's is not known")
    refresh = settings.refresh_token.reveal() if settings.refresh_token else None
    default_scope = known.app_scope if known and refresh is None else ""
    grant = OAuthGrant(
        token_url=url.replace("{tenant}", settings.tenant or "common"),
        client_id=settings.client_id,
        client_secret=settings.client_secret.reveal() if settings.client_secret else None,
        refresh_token=refresh,
        scope=" ".join(settings.scope) or default_scope,
    )
    return OAuthTokens(grant, form_post(means.poster), means.clock, partial(keep, settings.refresh_token))


def keep(secret: Secret | None, renewed: str) -> None:
    """Stores a refresh token in place of the old one; where that cannot be, the log says so."""
    if secret is None or secret.kind != "file":
        log.warning("the server has replaced the refresh token, and only a file can keep the new one")
        return
    try:
        write_secret(Path(secret.name), renewed)
    except ConfigError as error:
        log.error("the server has replaced the refresh token, and it cannot be kept", error=str(error))
