"""The web server of an MTA-STS policy (RFC 8461), with the certificate it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.fakes import certificates
from tests.lab.world.lab import Lab

LAST_BYTES = "9.2"
"""Of its address in the lab's block."""


@asynccontextmanager
async def policy_host(lab: Lab, domain: str, answer: Callable[[], web.Response]) -> AsyncIterator[None]:
    """Serves mta-sts.DOMAIN on port 443, and publishes the record that leads there."""
    name, address = f"mta-sts.{domain}", f"127.{100 + lab.layout.slot}.{LAST_BYTES}"
    lab.dns.set(name, "A", address)
    lab.dns.set(f"_mta-sts.{domain}", "TXT", "v=STSv1; id=1")
    app = web.Application()

    async def serve(_: web.Request) -> web.Response:
        return answer()

    app.router.add_get("/.well-known/mta-sts.txt", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        context = certificates.server_context_for(name)
        await web.TCPSite(runner, address, 443, ssl_context=context).start()
        yield
    finally:
        await runner.cleanup()


def policy(*hosts: str, mode: str = "enforce") -> str:
    """A policy file."""
    lines = ["version: STSv1", f"mode: {mode}", *(f"mx: {host}" for host in hosts), "max_age: 1209600"]
    return "\r\n".join(lines) + "\r\n"


def authorities(lab: Lab, folder: Path) -> str:
    """The authorities of the lab and of the tests in one file."""
    path = folder / "authorities.pem"
    path.write_bytes(lab.ca_file.read_bytes() + certificates.authority_pem())
    return str(path)
