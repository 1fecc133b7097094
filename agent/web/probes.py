"""Rounds over HTTP: POST starts one (Idempotency-Key), GET waits or streams, DELETE cancels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol

from aiohttp import web
from pydantic_core import PydanticCustomError

from agent.config.fields import read_duration
from agent.runner.rounds import MOST_CANARIES, Order
from agent.web.body import can_be_kept, read_json
from agent.web.guard import SECURITY_HEADERS
from agent.web.patience import write
from alerts.pace import Pace
from probes.clock import Clock
from probes.errors import DataError

LONGEST_POLL = 60.0
PER_MINUTE = 6.0
"""Rounds that may be started, after a burst of ten."""
MOST_RUNNING = 20
MOST_WAITING = 60
"""Requests that may wait for rounds at the same time: each reads the store once a second."""
LONGEST_DEADLINE = 86400.0
KINDS = frozenset({"probe", "before", "after", "watch"})


class Rounds(Protocol):
    """What the API needs of the runner to serve `mailcanary probe` and `mailcanary change`."""

    async def order(self, order: Order) -> str:
        """Starts a round and returns its id, or goes on with that of its key. Raises DataError."""

    async def wait(self, round_id: str, seconds: float) -> dict[str, Any] | None:
        """The round as JSON, once it has ended or the time is over; None where there is no such round."""

    async def cancel(self, round_id: str) -> bool:
        """Ends it without a verdict. False where it is not running."""

    @property
    def running(self) -> int:
        """How many rounds have not ended."""


def add_routes(app: web.Application, rounds: Rounds, clock: Clock) -> None:
    """Adds the API to the application."""
    api = _Probes(rounds, clock)
    app.router.add_post("/api/v1/probes", api.start)
    app.router.add_get("/api/v1/probes/{round}", api.show)
    app.router.add_get("/api/v1/probes/{round}/events", api.events)
    app.router.add_delete("/api/v1/probes/{round}", api.cancel)


def problem(status: int, detail: str, **headers: str) -> web.Response:
    """An error as JSON."""
    return _json({"schema": "mailcanary.problem/1", "detail": detail}, status, headers)


def _json(data: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    dumps: Callable[[object], str] = lambda value: json.dumps(value, ensure_ascii=False)  # noqa: E731
    return web.json_response(data, status=status, headers=headers, dumps=dumps)


class _Probes:
    def __init__(self, rounds: Rounds, clock: Clock) -> None:
        self._rounds = rounds
        self._clock = clock
        self._pace = Pace(PER_MINUTE)
        self._waiting = 0

    async def start(self, request: web.Request) -> web.Response:
        try:
            body = await read_json(request) if request.can_read_body else {}
            order = read_order(body, request.headers.get("Idempotency-Key"))
        except DataError as error:
            return problem(400, error.detail)
        now = self._clock.monotonic()
        if not self._pace.free(now) or self._rounds.running >= MOST_RUNNING:
            wait = str(int(60.0 / PER_MINUTE) + 1)
            return problem(429, f"too many rounds: at most {PER_MINUTE:g} a minute", **{"Retry-After": wait})
        self._pace.take(now)
        try:
            round_id = await self._rounds.order(order)
        except DataError as error:
            return problem(400, error.detail)
        location = {"Location": f"/api/v1/probes/{round_id}"}
        return _json({"schema": "mailcanary.round/1", "id": round_id}, 202, location)

    async def show(self, request: web.Request) -> web.Response:
        try:
            seconds = min(float(request.query.get("wait", "0")), LONGEST_POLL)
        except ValueError:
            return problem(400, "wait is a number of seconds")
        if self._waiting >= MOST_WAITING:
            return _busy()
        self._waiting += 1
        try:
            found = await self._rounds.wait(request.match_info["round"], max(0.0, seconds))
        finally:
            self._waiting -= 1
        return _json(found) if found is not None else problem(404, "there is no such round")

    async def cancel(self, request: web.Request) -> web.Response:
        round_id = request.match_info["round"]
        if await self._rounds.wait(round_id, 0.0) is None:
            return problem(404, "there is no such round")
        if not await self._rounds.cancel(round_id):
            return problem(409, "the round has ended")
        return _json({"schema": "mailcanary.round/1", "id": round_id, "cancelled": True})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: `progress` each second, `done` at the end."""
        if self._waiting >= MOST_WAITING:
            return _busy()
        self._waiting += 1
        try:
            return await self._stream(request, request.match_info["round"])
        finally:
            self._waiting -= 1

    async def _stream(self, request: web.Request, round_id: str) -> web.StreamResponse:
        found = await self._rounds.wait(round_id, 0.0)
        if found is None:
            return problem(404, "there is no such round")
        headers = {"Content-Type": "text/event-stream; charset=utf-8"} | SECURITY_HEADERS
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            while found is not None and not found["done"]:
                await write(request, response, _event("progress", found["progress"] | {"id": round_id}))
                found = await self._rounds.wait(round_id, 1.0)
            if found is not None:
                await write(request, response, _event("done", found))
            await response.write_eof()
        except ConnectionResetError:
            pass  # whoever listened has left
        return response


def _busy() -> web.Response:
    return problem(429, f"{MOST_WAITING} requests wait for rounds already", **{"Retry-After": "5"})


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def read_order(body: object, key: str | None) -> Order:
    """A round as a JSON body asks for it. Raises DataError."""
    if not isinstance(body, dict):
        raise DataError("the body is a JSON object")
    unknown = set(body) - {"senders", "seeds", "providers", "count", "deadline", "baseline", "kind", "by"}
    if unknown:
        raise DataError(f"unknown: {', '.join(sorted(map(str, unknown)))}")
    if key and not can_be_kept(key):
        raise DataError("Idempotency-Key is text")
    count = body.get("count", 1)
    if not isinstance(count, int) or isinstance(count, bool):
        raise DataError("count is a whole number")
    if not 1 <= count <= MOST_CANARIES:
        raise DataError(f"count is 1 to {MOST_CANARIES}")
    kind = body.get("kind", "probe")
    if kind not in KINDS:
        raise DataError(f"kind is one of {', '.join(sorted(KINDS))}")
    return Order(
        senders=_names(body, "senders"),
        seeds=_names(body, "seeds"),
        providers=_names(body, "providers"),
        count=count,
        deadline=_deadline(body.get("deadline")),
        baseline=_text(body, "baseline", 64),
        kind=kind,
        who=_text(body, "by", 128),
        key=key[:128] if key else None,
    )


def _deadline(value: object) -> float | None:
    if value is None:
        return None
    try:
        seconds = read_duration(value)
    except PydanticCustomError as error:
        raise DataError(f"deadline: {error}") from None
    if not 1.0 <= seconds <= LONGEST_DEADLINE:
        raise DataError(f"deadline is 1 s to {LONGEST_DEADLINE:g} s")
    return seconds


def _text(body: dict[str, Any], name: str, most: int) -> str:
    value = body.get(name) or ""
    if not isinstance(value, str) or len(value) > most:
        raise DataError(f"{name} is text of at most {most} characters")
    return value


def _names(body: dict[str, Any], key: str) -> list[str]:
    value = body.get(key, [])
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise DataError(f"{key} is a list of names")
    return list(value)
