"""Who may ask: the Host and Origin rules against DNS rebinding and cross-site requests, and the token."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from probes.errors import StoreError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


_PORT = re.compile(r":\d{0,5}\Z")


def host_allowed(host: str, allowed: frozenset[str]) -> bool:
    """Whether a Host header names this agent: a loopback name or address, or a configured name."""
    name = _PORT.sub("", host) if host.startswith("[") or host.count(":") == 1 else host
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    name = name.lower()
    if name in allowed or name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def guard(token: str | None, hosts: frozenset[str]) -> Callable[..., Awaitable[web.StreamResponse]]:
    """The middleware. token: required of every request where set; hosts: names besides loopback."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _refusal(request, token, hosts)
        if refusal is not None:
            status, text = refusal
            raise _refuse(status, text)
        try:
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(SECURITY_HEADERS)
            raise
        except StoreError as error:
            raise _refuse(503, f"the store is away: {error.detail or error}") from None
        if not response.prepared:  # one that was streamed has set them itself
            response.headers.update(SECURITY_HEADERS)
        return response

    return middleware


def _refusal(request: web.Request, token: str | None, hosts: frozenset[str]) -> tuple[int, str] | None:
    host = request.headers.get("Host", "")  # request.host would ask the DNS for a name of our own, and wait
    if not host_allowed(host, hosts):
        return 421, "this agent does not go by that name; set agent.external_url"
    if "%00" in request.raw_path:
        return 400, "no address of this agent has a NUL"
    if request.method not in ("GET", "HEAD"):
        origin = request.headers.get("Origin")
        if origin is not None and origin != f"{request.scheme}://{host}":
            return 403, "requests from other origins are refused"
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return 403, "requests from other sites are refused"
    if token is not None and not _bearer(request, token):
        return 401, "a bearer token is needed: Authorization: Bearer ..."
    return None


def _bearer(request: web.Request, token: str) -> bool:
    given = request.headers.get("Authorization", "")
    return hmac.compare_digest(given.encode("utf-8", "replace"), f"Bearer {token}".encode())


def _refuse(status: int, text: str) -> web.HTTPException:
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        401: web.HTTPUnauthorized,
        403: web.HTTPForbidden,
        421: web.HTTPMisdirectedRequest,
        503: web.HTTPServiceUnavailable,
    }
    error = kinds[status](text=text + "\n")
    error.headers.update(SECURITY_HEADERS)
    if status == 401:
        error.headers["WWW-Authenticate"] = "Bearer"
    return error
