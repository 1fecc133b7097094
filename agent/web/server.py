"""The HTTP server: /metrics, health, reload, the REST API and the pages. Reads the store only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from sqlalchemy.engine import Connection

from agent.config.models import Config
from agent.metrics import Metrics
from agent.reports.agents import AgentStatus, read_agents
from agent.reports.status import read_status
from agent.reports.why import read_why
from agent.store import versions
from agent.store.database import Database
from agent.web import alerts, lookups, pages, probes
from agent.web.body import read_json
from agent.web.guard import SECURITY_HEADERS, guard
from agent.web.patience import write
from probes.clock import Clock
from probes.errors import ConfigError, DataError, StoreError

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BODY_LIMIT = 64 * 1024


class Controls(Protocol):
    """What people may ask of the running agent."""

    async def retry_seed(self, seed: str) -> bool:
        """Tries a mailbox again at once. False where there is no such seed."""

    async def acknowledge(self, key: str, by: str) -> bool:
        """Somebody takes an alert on. False where no such alert is open."""


@dataclass
class WebServices:
    """What the server may touch."""

    config: Callable[[], Config]
    database: Database
    metrics: Metrics
    clock: Clock
    reload: Callable[[], Awaitable[None]]
    ready: Callable[[], str]
    rounds: probes.Rounds
    controls: Controls


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build(services: WebServices) -> web.Application:
    """The application with every route."""
    config = services.config()
    token = config.agent.token.reveal() if config.agent.token else None
    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[guard(token, _names(config))])
    api = _Api(services)
    app.router.add_get("/metrics", api.metrics)
    app.router.add_get("/-/healthy", api.healthy)
    app.router.add_get("/-/ready", api.ready)
    app.router.add_post("/-/reload", api.reload)
    app.router.add_get("/api/v1/status", api.status)
    app.router.add_get("/api/v1/agents", api.agents)
    app.router.add_get("/api/v1/routes/{sender}/{seed}", api.why)
    app.router.add_post("/api/v1/seeds/{seed}/retry", api.retry_seed)
    app.router.add_post("/api/v1/alerts/ack", api.acknowledge)
    probes.add_routes(app, services.rounds, services.clock)
    alerts.add_routes(app, services.config, services.database, services.clock)
    lookups.add_routes(app, services.config, services.database, services.clock)
    pages.add_routes(app, services.config, services.database, services.clock)
    return app


def _names(config: Config) -> frozenset[str]:
    from urllib.parse import urlsplit

    names = {config.agent.listen_host.lower()}
    if config.agent.external_url:
        names.add((urlsplit(config.agent.external_url).hostname or "").lower())
    return frozenset(names)


def _json(data: object, status: int = 200) -> web.Response:
    return web.json_response(data, status=status, dumps=lambda value: json.dumps(value, ensure_ascii=False))


def _problem(status: int, detail: str) -> web.Response:
    return _json({"schema": "mailcanary.problem/1", "detail": detail}, status)


class _Api:
    def __init__(self, services: WebServices) -> None:
        self._services = services

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        pieces = await asyncio.to_thread(lambda: list(self._services.metrics.pieces()))
        response = web.StreamResponse(headers={"Content-Type": METRICS_TYPE} | SECURITY_HEADERS)
        response.content_length = sum(map(len, pieces))
        await response.prepare(request)
        for piece in pieces:
            await write(request, response, piece)
        await response.write_eof()
        return response

    async def healthy(self, _request: web.Request) -> web.Response:
        return web.Response(text="mailcanary is healthy\n")

    async def ready(self, _request: web.Request) -> web.Response:
        missing = self._services.ready()
        if missing:
            return web.Response(text=f"not ready: {missing}\n", status=503)
        return web.Response(text="mailcanary is ready\n")

    async def reload(self, _request: web.Request) -> web.Response:
        try:
            await self._services.reload()
        except ConfigError as error:
            return web.Response(text=f"the old config stays: {error}\n", status=422)
        except StoreError as error:
            return web.Response(text=f"the old config stays: {error}\n", status=503)
        return web.Response(text="reloaded\n")

    async def status(self, _request: web.Request) -> web.Response:
        services = self._services
        config, now = services.config(), services.clock.wall()
        status = await services.database.read(lambda conn: read_status(conn, config, now))
        return _json(status.to_json())

    async def agents(self, _request: web.Request) -> web.Response:
        now = self._services.clock.wall()

        def read(conn: Connection) -> list[AgentStatus]:
            return read_agents(conn, now, versions.active_hash(conn))

        found = await self._services.database.read(read)
        return _json({"schema": "mailcanary.agents/1", "agents": [one.to_json() for one in found]})

    async def why(self, request: web.Request) -> web.Response:
        sender, seed = request.match_info["sender"], request.match_info["seed"]
        config = self._services.config()
        if sender not in config.senders or seed not in config.seeds:
            return _problem(404, f"there is no route {sender}/{seed}")
        events = await self._services.database.read(lambda conn: read_why(conn, sender, seed))
        return _json({"schema": "mailcanary.why/1", "sender": sender, "seed": seed, "events": events})

    async def retry_seed(self, request: web.Request) -> web.Response:
        seed = request.match_info["seed"]
        if not await self._services.controls.retry_seed(seed):
            return _problem(404, f"there is no seed {seed}")
        return _json({"schema": "mailcanary.seed/1", "seed": seed, "retried": True})

    async def acknowledge(self, request: web.Request) -> web.Response:
        try:
            body = await read_json(request)
            key, by = str(body["key"]), str(body.get("by", ""))[:64]
        except (DataError, KeyError, TypeError, AttributeError):
            return _problem(400, "the body is a JSON object with key and by")
        if not await self._services.controls.acknowledge(key, by):
            return _problem(404, f"no alert {key} is open and not yet acknowledged")
        return _json({"schema": "mailcanary.alert/1", "key": key, "acknowledged_by": by})
