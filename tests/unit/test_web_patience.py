"""Whoever says or reads nothing is hung up on, and what is no HTTP leaves no traceback in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientConnectionResetError, web

from agent.web import patience
from agent.web.body import read_json
from agent.web.guard import guard
from probes.errors import DataError, StoreError

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to an application that reads JSON at POST, never stops writing at GET /flood, and has no
    store at GET /store."""

    async def post(request: web.Request) -> web.Response:
        try:
            return web.json_response(await read_json(request))
        except DataError as error:
            return web.Response(text=error.detail, status=400)

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await patience.write(request, response, bytes(1 << 20))

    async def store(_request: web.Request) -> web.Response:
        raise StoreError("the disk is full")

    app = web.Application(middlewares=[guard(None, frozenset())])
    app.router.add_post("/", post)
    app.router.add_get("/flood", flood)
    app.router.add_get("/store", store)
    runner = patience.runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0], limit=1024)
    try:
        yield reader, writer
    finally:
        writer.close()
        await runner.cleanup()


@pytest.mark.parametrize("said", [b"", b"GET / HT", HEAD])
async def test_a_request_that_never_ends_is_hung_up_on(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "IDLE", 0.2)
    async with connected() as (reader, writer):
        writer.write(said)
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_a_connection_too_many_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "MOST", 1)
    async with connected() as (reader, writer):
        for _ in range(2):  # the first goes on being served
            writer.write(b"GET /store HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 503 " in await asyncio.wait_for(reader.readline(), 30)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readline()
            other, hung_up = await asyncio.open_connection(*writer.get_extra_info("peername")[:2])
            assert await asyncio.wait_for(other.read(), 30) == b""
            hung_up.close()


async def test_a_body_that_never_comes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SENDING", 0.1)
    monkeypatch.setattr(patience, "LINGERING", 0.1)
    async with connected() as (reader, writer):
        writer.write(HEAD + b'\r\n{"a"')
        assert b" 400 " in await asyncio.wait_for(reader.readline(), 30)


async def test_an_answer_that_nobody_reads_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "READING", 0.1)
    cut = asyncio.Event()
    write = patience.write

    async def watched(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        try:
            await write(request, response, data)
        except ConnectionResetError:
            cut.set()
            raise

    monkeypatch.setattr(patience, "write", watched)
    async with connected() as (_reader, writer):
        writer.write(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asyncio.wait_for(cut.wait(), 30)
    assert not [record for record in caplog.records if record.exc_info]


async def test_who_hangs_up_before_the_answer_leaves_no_traceback(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A scraper whose time is up while the exposition is made."""
    failed = asyncio.Event()
    prepare = web.StreamResponse.prepare

    async def late(response: web.StreamResponse, request: web.BaseRequest) -> object:
        while request.transport is not None and not request.transport.is_closing():
            await asyncio.sleep(0.01)
        try:
            return await prepare(response, request)
        except ClientConnectionResetError:
            failed.set()
            raise

    monkeypatch.setattr(web.StreamResponse, "prepare", late)
    async with connected() as (_reader, writer):
        writer.write(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await writer.drain()
        writer.transport.abort()
        await asyncio.wait_for(failed.wait(), 30)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b" 400 "),
        (b"\x16\x03\x01\x02\r\n\r\n", b" 400 "),
        (HEAD + b"Content-Encoding: gzip\r\n\r\nno gzip..", b" 400 "),
        (b"GET /x?key=%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 400 "),
        (b"GET /store HTTP/1.1\r\nHost: localhost\r\n\r\n", b" 503 "),
    ],
)
async def test_a_bad_request_or_a_dead_store_has_a_status_and_no_traceback(
    said: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with connected() as (reader, writer):
        writer.write(said)
        assert status in await asyncio.wait_for(reader.readline(), 30)
    assert not [record for record in caplog.records if record.exc_info]
