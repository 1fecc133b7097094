"""OAuth2 token sources for mailboxes and relays, one a credential so that refreshes are shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import urlencode

from agent.config.mail import OAuth2
from agent.runner.means import Means
from alerts.http import HttpPoster
from probes.errors import ConfigError
from probes.mailbox.oauth2 import PROVIDERS, FormPost, OAuthGrant, OAuthTokens

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
    on_refresh_token: Callable[[str], None] | None = None,
) -> OAuthTokens:
    """The tokens of one grant. provider: whose endpoints to use where the config names none.

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
    return OAuthTokens(grant, form_post(means.poster), means.clock, on_refresh_token)
