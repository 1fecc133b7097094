"""The reader against Debian's Dovecot: logins, folders, IDLE, bursts, and faults of a real server."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from probes.clock import SystemClock
from probes.mailbox.access import Password, Security
from probes.mailbox.model import Reason, Role
from probes.mailbox.oauth2 import OAuthGrant, OAuthTokens
from tests.fakes.dovecot import Dovecot, open_folder, running
from tests.fakes.mailbox_owner import canary, reading, until

pytestmark = pytest.mark.skipif(not shutil.which("dovecot"), reason="Debian's dovecot-imapd is not installed")


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with open_folder() as folder, running(folder) as server:
        yield server


@pytest.fixture
def user(dovecot: Dovecot) -> str:
    return dovecot.add_user()


def access(dovecot: Dovecot, user: str, **more: Any) -> dict[str, Any]:
    given = {"username": user, "security": Security.TLS, "tls": dovecot.client_tls(), "host": "localhost"}
    return given | {"timeout": 2.0} | more


async def deliver(dovecot: Dovecot, user: str, token: str, folder: str = "INBOX") -> None:
    await asyncio.to_thread(dovecot.deliver, user, canary(token), folder)


@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
async def test_login_scan_idle_and_delete(dovecot: Dovecot, user: str, security: Security) -> None:
    port = dovecot.tls_port if security is Security.TLS else dovecot.port
    async with reading(port, access=access(dovecot, user, security=security)) as (reader, owner):
        await until(lambda: owner.readable)
        assert {folder.name: folder.role for folder in owner.scans[0].folders} == {
            "INBOX": Role.INBOX,
            "Junk": Role.JUNK,
        }
        owner.expect(b"AAA", b"BBB", b"CCC", deadline=1.5)
        await deliver(dovecot, user, "AAA")
        await until(lambda: owner.found(b"AAA"))
        await deliver(dovecot, user, "BBB", "Junk")
        await deliver(dovecot, user, "CCC", "Archive")
        reader.kick()
        await until(lambda: len(owner.scans) > 1)
        assert {message.role for message in owner.seen} == {Role.INBOX, Role.JUNK, Role.OTHER}
        assert owner.missing == []
        where = [(message.folder, message.uidvalidity, message.uid) for message in owner.seen]
        assert await reader.delete(where) == 3
    assert not dovecot.doveadm("search", "-u", user, "ALL").strip()


async def test_wrong_password(dovecot: Dovecot, user: str) -> None:
    given = access(dovecot, user, credential=Password("wrong"))
    async with reading(dovecot.tls_port, factor=500, access=given) as (_, owner):
        await until(lambda: owner.reason is Reason.LOGIN_REFUSED)


@pytest.mark.parametrize("good", [True, False])
async def test_xoauth2(dovecot: Dovecot, user: str, good: bool) -> None:
    token = f"minted-{user}"
    if good:
        dovecot.tokens[user] = token

    async def post(url: str, form: Any) -> tuple[int, bytes]:
        return 200, b'{"access_token": "%s", "expires_in": 3600}' % token.encode()

    tokens = OAuthTokens(OAuthGrant("http://x/", "id", refresh_token="r"), post, SystemClock())
    given = access(dovecot, user, credential=tokens)
    async with reading(dovecot.tls_port, access=given) as (_, owner):
        if good:
            await until(lambda: owner.readable)
        else:
            await until(lambda: owner.reason is Reason.LOGIN_REFUSED)
            assert "status" in owner.states[-1].detail
            assert token not in owner.states[-1].detail


async def test_bursts_know_far_sooner_than_idle(dovecot: Dovecot, user: str) -> None:
    """Dovecot tells IDLE half a second late; the ratio of the two in one run is what counts."""
    delays: dict[bool, list[float]] = {True: [], False: []}
    async with reading(dovecot.tls_port, access=access(dovecot, user)) as (reader, owner):
        await until(lambda: owner.readable)
        for number in range(10):
            burst, token = number % 2 == 0, f"T{number}X"
            owner.expect(token.encode(), deadline=60, burst=5.0 if burst else 0.0)
            reader.kick()
            await asyncio.sleep(0.6)
            await deliver(dovecot, user, token)
            delivered = owner.clock.monotonic()
            await until(lambda token=token: owner.found(token.encode()))
            delays[burst].append(max(0.0, owner.found(token.encode())[0].seen_monotonic - delivered))
    assert statistics.median(delays[True]) <= statistics.median(delays[False]) / 5


async def test_sixty_canaries_at_once(dovecot: Dovecot, user: str) -> None:
    async with reading(dovecot.tls_port, access=access(dovecot, user)) as (reader, owner):
        await until(lambda: owner.readable)
        tokens = [f"TOK{number}X" for number in range(60)]
        owner.expect(*(token.encode() for token in tokens), deadline=60)
        for token in tokens:
            await deliver(dovecot, user, token)
        reader.scan_now()
        await until(lambda: all(owner.found(token.encode()) for token in tokens))
        assert len(owner.seen) == 60
