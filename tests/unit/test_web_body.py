"""JSON bodies that no client in good order sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agent.web.body import read_json
from agent.web.guard import SECURITY_HEADERS, guard
from probes.errors import DataError

JSON = {"Content-Type": "application/json"}


async def client() -> TestClient[web.Request, web.Application]:
    async def post(request: web.Request) -> web.Response:
        try:
            return web.json_response(await read_json(request))
        except DataError as error:
            return web.Response(text=error.detail, status=400)

    app = web.Application(client_max_size=64 * 1024, middlewares=[guard(None, frozenset())])
    app.router.add_post("/", post)
    started = TestClient(TestServer(app))
    await started.start_server()
    return started


@pytest.mark.parametrize("body", [{"a": [1, "b", None, {"c": "\u00e9\U0001f600"}]}, [], "x", 1])
async def test_a_proper_body_is_read(body: Any) -> None:
    async with await client() as http:
        answer = await http.post("/", json=body)
        assert (answer.status, await answer.json()) == (200, body)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff",
        b"[" * 60_000,
        b'{"count": ' + b"9" * 5000 + b"}",
        json.dumps({"by": "\ud800"}).encode(),
        json.dumps([{"\udfff": 1}]).encode(),
        json.dumps({"by": "a\0"}).encode(),
        json.dumps([{"\0": 1}]).encode(),
    ],
)
async def test_what_the_store_could_not_keep_is_refused(body: bytes) -> None:
    async with await client() as http:
        assert (await http.post("/", data=body, headers=JSON)).status == 400


async def test_a_charset_that_nobody_knows_is_refused() -> None:
    async with await client() as http:
        headers = {"Content-Type": "application/json; charset=bogus"}
        assert (await http.post("/", data=b"{}", headers=headers)).status == 400


async def test_errors_forbid_scripts_too() -> None:
    async with await client() as http:
        for answer in (
            await http.get("/nothing"),
            await http.put("/"),
            await http.post("/", data=b"x" * 70_000),
        ):
            assert answer.status in (404, 405, 400, 413)
            for name, value in SECURITY_HEADERS.items():
                assert answer.headers[name] == value


async def test_a_request_that_names_no_host_is_refused_without_asking_the_dns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import asyncio
    import socket

    def never() -> str:
        raise AssertionError("the DNS was asked")

    monkeypatch.setattr(socket, "getfqdn", never)
    async with await client() as http:
        reader, writer = await asyncio.open_connection(http.host, http.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert b" 421 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
