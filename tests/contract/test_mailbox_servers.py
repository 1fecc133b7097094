"""The same reader against two more servers: Debian's Cyrus (in a private root) and pymap."""

from __future__ import annotations

import asyncio
import imaplib
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from probes.mailbox.access import Password, Security
from probes.mailbox.model import Role
from tests.fakes import cyrus
from tests.fakes.dovecot import free_port, open_folder, wait_for_port
from tests.fakes.mailbox_owner import canary, reading, until


@pytest.fixture(scope="module")
def cyrus_server() -> Iterator[cyrus.Cyrus]:
    packages = cyrus.unpacked()
    if packages is None:
        pytest.skip("Debian's Cyrus packages cannot be fetched here")
    with open_folder() as folder, cyrus.running(packages, folder) as server:
        yield server


async def test_cyrus_login_folders_idle_scan_and_delete(cyrus_server: cyrus.Cyrus) -> None:
    tls = ssl.create_default_context(cafile=str(cyrus_server.root / "cert.pem"))
    given = {
        "host": "localhost",
        "security": Security.TLS,
        "tls": tls,
        "timeout": 5.0,
        "connect_timeout": 8.0,
    }
    async with reading(cyrus_server.tls_port, access=given, provider="cyrus") as (reader, owner):
        await until(lambda: owner.readable)
        assert ("Spam", Role.JUNK) in [(folder.name, folder.role) for folder in owner.scans[0].folders]
        owner.expect(b"AAA", b"BBB", b"CCC", deadline=2.0)
        for token, folder in (("AAA", "INBOX"), ("BBB", "Spam"), ("CCC", "Archive")):
            await asyncio.to_thread(cyrus_server.append, "seed", canary(token), folder)
        await until(lambda: owner.found(b"AAA"))
        reader.kick()
        await until(lambda: len(owner.scans) > 1)
        assert {message.folder: message.role for message in owner.seen} == {
            "INBOX": Role.INBOX,
            "Spam": Role.JUNK,
            "Archive": Role.OTHER,
        }
        assert owner.missing == []
        where = [(message.folder, message.uidvalidity, message.uid) for message in owner.seen]
        assert await reader.delete(where) == 3


@pytest.fixture(scope="module")
def pymap_port() -> Iterator[int]:
    port = free_port()
    command = [
        str(Path(sys.executable).with_name("pymap")),
        "--no-service",
        "managesieve",
        "--no-service",
        "admin",
    ]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--no-tls", "dict", "--demo-data"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for_port(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def test_pymap_login_idle_scan_and_delete(pymap_port: int) -> None:
    def append(token: str, folder: str) -> None:
        client = imaplib.IMAP4("127.0.0.1", pymap_port, timeout=10)
        client.login("demouser", "demopass")
        assert client.append(folder, "", "", canary(token))[0] == "OK"
        client.shutdown()

    given = {"username": "demouser", "credential": Password("demopass"), "timeout": 5.0}
    async with reading(pymap_port, access=given) as (reader, owner):
        await until(lambda: owner.readable)
        owner.expect(b"AAA", b"BBB", deadline=1.5)
        await asyncio.to_thread(append, "AAA", "INBOX")
        await asyncio.to_thread(append, "BBB", "Sent")
        await until(lambda: owner.found(b"AAA"))
        reader.kick()
        await until(lambda: len(owner.scans) > 1)
        assert {message.folder: message.role for message in owner.seen} == {
            "INBOX": Role.INBOX,
            "Sent": Role.OTHER,
        }
        assert owner.missing == []
        where = [(message.folder, message.uidvalidity, message.uid) for message in owner.seen]
        assert await reader.delete(where) == 2
