"""The guarded fetch: nothing on the inside is reached, whatever it is called; caps, types, redirects, TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest
from aiohttp import web

from probes.dns import DnsStatus, StaticResolver
from probes.errors import HttpUnavailable
from probes.http import Fetcher, Limits, is_outside
from tests.fakes.certificates import client_context, server_context

INSIDE = """
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.254 127.0.0.1 127.255.255.255 169.254.0.1
169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.170 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1
198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
:: ::1 ::2 ::7f00:1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::1 64:ff9b:1:ffff::8.8.8.8 100::1
2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:db8::1 2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe::1
3fff::1 fc00::1 fd00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1 ff02::1 ff0e::1
""".split()

HOSTS = """
2130706433 017700000001 0x7f000001 0x7f.1 127.1 127.0.1 0177.0.0.1 0x7f.0.0.1 127.0.0.1. 10.1 169.254.43518
1.2.3.4.5 0 00 0.0 localhost.0x0 256.256.256.256 127.0.0.01 [::1] [::ffff:7f00:1] [fe80::1] 127.0.0.1 10.0.0.1
""".split()

URLS = """
http://a.example/ ftp://a.example/ file:///etc/passwd https:///x https://user@a.example/ https://u:p@a.example/
https://a.example:22/ https://a.example:99999/ https://a.example\\@b.example/ https://a%2eexample/ gopher://a
https://ä.example/ //a.example/ a.example https://[::1/ https://a.example:x/
""".split()


@pytest.mark.parametrize("address", INSIDE)
async def test_no_name_leads_inside(address: str) -> None:
    assert not is_outside(ip_address(address))
    rdtype = "AAAA" if ":" in address else "A"
    resolver = StaticResolver({("a.example", rdtype): [address], ("b.example", "A"): ["8.8.8.8", "10.0.0.1"]})
    for name in ("a.example", "b.example"):
        with pytest.raises(HttpUnavailable) as caught:
            await Fetcher(resolver).fetch(f"https://{name}/")
        assert caught.value.facts["reason"] == "inside"


@pytest.mark.parametrize("host", HOSTS)
async def test_no_number_leads_inside(host: str) -> None:
    with pytest.raises(HttpUnavailable) as caught:
        await Fetcher(StaticResolver({})).fetch(f"https://{host}/")
    assert caught.value.facts["reason"] in ("inside", "bad-url")


@pytest.mark.parametrize("url", [*URLS, "https://a.example/ x", "https://a.example/\r\nX: y", "\x00"])
async def test_only_plain_https_urls(url: str) -> None:
    with pytest.raises(HttpUnavailable) as caught:
        await Fetcher(StaticResolver({("a.example", "A"): ["8.8.8.8"]})).fetch(url)
    assert caught.value.facts["reason"] == "bad-url"


def test_the_outside_is_outside() -> None:
    for text in ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"):
        assert is_outside(ip_address(text)), text


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[tuple[Fetcher, str]]:
    """An HTTPS server on loopback under the name mx.example.net, and a fetcher that may reach it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context())
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    resolver = StaticResolver({("mx.example.net", "A"): ["127.0.0.1"], ("b.example", "A"): ["127.0.0.1"]})
    try:
        yield (
            Fetcher(resolver, allow_loopback=True, context=client_context()),
            f"https://mx.example.net:{port}",
        )
    finally:
        await runner.cleanup()


def text(body: str, **more: object) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=body, **more)  # type: ignore[arg-type]

    return handler


async def reason(fetcher: Fetcher, url: str, limits: Limits | None = None) -> object:
    with pytest.raises(HttpUnavailable) as caught:
        await fetcher.fetch(url, limits)
    return caught.value.facts["reason"]


async def test_a_plain_fetch() -> None:
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        return web.Response(text="version: STSv1", headers={"X-One": "1"})

    async with serving(handler) as (fetcher, url):
        found = await fetcher.fetch(url + "/p?q=1", Limits(content_types=("text/plain",)))
    assert (found.status, found.body, found.content_type) == (200, b"version: STSv1", "text/plain")
    assert found.headers["x-one"] == "1"
    assert found.address == "127.0.0.1"
    assert seen[0].headers["Host"].startswith("mx.example.net:")
    assert seen[0].headers["Accept-Encoding"] == "identity"


async def test_a_form_is_posted() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(dict(await request.post()))

    async with serving(handler) as (fetcher, url):
        found = await fetcher.fetch(url, method="POST", data={"grant_type": "refresh_token"})
    assert b"refresh_token" in found.body


async def test_size_type_and_time_are_capped() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x")
            await asyncio.sleep(0.02)
        return response

    async def zipped(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"\x1f\x8b" + bytes(100), headers={"Content-Encoding": "gzip"})

    async with serving(text("x" * 100_000)) as (fetcher, url):
        assert await reason(fetcher, url) == "too-large"
        assert await reason(fetcher, url, Limits(content_types=("application/json",))) == "content-type"
    async with serving(slow) as (fetcher, url):
        assert await reason(fetcher, url, Limits(seconds=0.3)) == "timeout"
    async with serving(zipped) as (fetcher, url):
        assert await reason(fetcher, url) == "content-type"


async def test_redirects_are_an_answer_unless_asked_for() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        target = {
            "/1": "/2",
            "/loop": "/loop",
            "/out": "https://10.0.0.1/",
            "/down": "http://mx.example.net/",
            "/odd": "https://[",
        }
        path = request.path
        if path in target:
            return web.Response(status=302, headers={"Location": target[path]})
        return web.Response(text=request.headers.get("Authorization", "none"))

    async with serving(handler) as (fetcher, url):
        assert (await fetcher.fetch(url + "/1")).status == 302
        found = await fetcher.fetch(url + "/1", Limits(redirects=2), headers={"Authorization": "secret"})
        assert found.body == b"none"
        assert await reason(fetcher, url + "/loop", Limits(redirects=3)) == "redirect"
        assert await reason(fetcher, url + "/out", Limits(redirects=3)) == "inside"
        assert await reason(fetcher, url + "/down", Limits(redirects=3)) == "bad-url"
        assert await reason(fetcher, url + "/odd", Limits(redirects=3)) == "bad-url"


async def test_the_certificate_is_verified() -> None:
    async with serving(text("x")) as (fetcher, url):
        assert await reason(fetcher, url.replace("mx.example.net", "b.example")) == "tls"
        strict = Fetcher(fetcher.resolver, allow_loopback=True, context=ssl.create_default_context())
        assert await reason(strict, url) == "tls"


async def test_dns_and_connection_failures() -> None:
    resolver = StaticResolver({("a.example", "A"): DnsStatus.SERVFAIL, ("c.example", "A"): ["127.0.0.1"]})
    fetcher = Fetcher(resolver, allow_loopback=True)
    assert await reason(fetcher, "https://a.example/") == "dns"
    assert await reason(fetcher, "https://none.example/") == "dns"
    assert await reason(fetcher, "https://c.example:9/") == "connection"


async def test_an_error_shows_no_secret() -> None:
    with pytest.raises(HttpUnavailable) as caught:
        await Fetcher(StaticResolver({})).fetch("https://user:sentinel@a.example/p?token=sentinel")
    assert "sentinel" not in str(caught.value) + repr(caught.value.facts)
