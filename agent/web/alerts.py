"""The API of alerts and silences: what `mailcanary alerts` does, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aiohttp import web
from pydantic_core import PydanticCustomError

from agent.config.fields import read_duration
from agent.config.models import Config
from agent.reports import alerts as reports
from agent.store import incidents, rows
from agent.store.database import Database, Tx
from agent.web.body import read_json
from alerts.muting import Silence
from alerts.settings import Match
from probes.clock import Clock
from probes.errors import DataError

MOST = 500
WORDS = 200
"""Longest comment and name that is kept."""


def add_routes(app: web.Application, config: Callable[[], Config], database: Database, clock: Clock) -> None:
    """Adds GET /api/v1/alerts (?key=, ?all=1), /alerts/history (?key=), and /silences: GET, POST, DELETE."""
    api = _Alerts(config, database, clock)
    app.router.add_get("/api/v1/alerts", api.alerts)
    app.router.add_get("/api/v1/alerts/history", api.history)
    app.router.add_get("/api/v1/silences", api.silences)
    app.router.add_post("/api/v1/silences", api.silence)
    app.router.add_delete("/api/v1/silences/{id}", api.unsilence)


def _json(data: object, status: int = 200) -> web.Response:
    return web.json_response(data, status=status, dumps=lambda value: json.dumps(value, ensure_ascii=False))


def _problem(status: int, detail: str) -> web.Response:
    return _json({"schema": "mailcanary.problem/1", "detail": detail}, status)


class _Alerts:
    def __init__(self, config: Callable[[], Config], database: Database, clock: Clock) -> None:
        self._config = config
        self._database = database
        self._clock = clock

    async def alerts(self, request: web.Request) -> web.Response:
        key = request.query.get("key")
        if key is not None:
            return await self._one(key)
        open_only = request.query.get("all", "0") in ("", "0")
        found = await self._database.read(lambda conn: incidents.alert_rows(conn, open_only=open_only))
        listed = [reports.alert_json(row) for row in found[:MOST]]
        return _json({"schema": "mailcanary.alerts/1", "alerts": listed})

    async def _one(self, key: str) -> web.Response:
        row = await self._database.read(lambda conn: incidents.alert_row(conn, key))
        if row is None:
            return _problem(404, f"there is no alert {key}")
        return _json(reports.alert_whole(row, reports.pages_of(self._config()), self._clock.wall()))

    async def history(self, request: web.Request) -> web.Response:
        key = request.query.get("key")
        found = await self._database.read(lambda conn: incidents.history(conn, key))
        steps = [reports.transition_json(row) for row in found]
        return _json({"schema": "mailcanary.transitions/1", "transitions": steps})

    async def silences(self, _request: web.Request) -> web.Response:
        now = self._clock.wall()
        found = await self._database.read(lambda conn: incidents.active_silences(conn, now))
        listed = [reports.silence_json(silence) for silence in found]
        return _json({"schema": "mailcanary.silences/1", "silences": listed})

    async def silence(self, request: web.Request) -> web.Response:
        try:
            match, seconds, by, comment = _wanted(await read_json(request), self._config())
        except DataError as error:
            return _problem(400, error.detail)
        now = self._clock.wall()

        def add(tx: Tx) -> int:
            tx.defer(rows.EVALUATE)  # what fires is silent at once
            return incidents.add_silence(tx.conn, match, now, now + seconds, by, comment)

        number = await self._database.write(add)
        silence = Silence(str(number), match, now, now + seconds, by, comment)
        return _json(reports.silence_json(silence), 201)

    async def unsilence(self, request: web.Request) -> web.Response:
        number, now = request.match_info["id"], self._clock.wall()
        if not (number.isascii() and number.isdigit() and len(number) < 10):
            return _problem(404, "there is no such silence")

        def end(tx: Tx) -> bool:
            tx.defer(rows.EVALUATE)
            return incidents.expire_silence(tx.conn, int(number), now)

        if not await self._database.write(end):
            return _problem(404, f"there is no silence {number} in force")
        return _json({"schema": "mailcanary.silence/1", "id": int(number), "ended": True})


def _wanted(body: Any, config: Config) -> tuple[Match, float, str, str]:
    """match, seconds, who and why of a new silence. Raises DataError."""
    if not isinstance(body, dict) or not isinstance(body.get("match"), dict):
        raise DataError("the body is a JSON object with match, for, by and comment")
    words = {name: _words(name, value) for name, value in body["match"].items()}
    if unknown := sorted(words.keys() - set(reports.MATCHERS)):
        raise DataError(f"match has no {unknown[0]!r}; it has {', '.join(reports.MATCHERS)}")
    try:
        seconds = read_duration(body.get("for", "1h"))
    except PydanticCustomError as error:
        raise DataError(f"for: {error.message()}") from None
    if not 0 < seconds <= reports.LONGEST_SILENCE:
        raise DataError("for: a silence lasts a year at most")
    by, comment = (str(body.get(name, ""))[:WORDS] for name in ("by", "comment"))
    return reports.read_match(words, config), seconds, by, comment


def _words(name: str, value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) and len(word) <= WORDS for word in value):
        raise DataError(f"match.{name} is a list of short texts")
    return value
