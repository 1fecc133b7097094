"""G16: whatever goes wrong, no secret is shown, and no credential goes out in clear."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from probes.outcome import Outcome
from tests.fakes.certificates import _authority, server_context
from tests.fakes.imap_server import Peer, mini, scripted
from tests.fakes.smtp_server import FakeSmtp, Script
from tests.guarantees.agents import ROOT, AgentProcess, eventually, free_port, stored
from tests.guarantees.claim import Guarantee, Tally

NAMES = ("RELAY", "IMAP", "WEB", "ZONE", "REFRESH", "CLIENT")
COMMANDS = (
    "check-config",
    "check-config --live",
    "schema",
    "status",
    "status --json",
    "why s0/box0",
    "seeds",
    "probe --json",
    "alerts",
    "blocklist 127.0.0.2",
    "version",
    "pause",
    "resume",
)
PATHS = ("/metrics", "/", "/api/v1/status", "/api/v1/routes/s0/box0", "/routes/s0/box0", "/-/ready")
Tree = dict[str, Any]


def sentinels() -> dict[str, str]:
    """A secret for each place that takes one, each unlike anything else in the world."""
    return {f"SECRET_{name}": f"Sentinel{name}{secrets.token_hex(8)}" for name in NAMES}


def forms(secret: str, user: str = "canary") -> tuple[str, ...]:
    """How a secret may look after it went through mail and web."""
    plain = f"\0{user}\0{secret}".encode()
    encoded = (base64.b64encode(secret.encode()), base64.b64encode(plain))
    return (secret, quote(secret), *(text.decode().rstrip("=") for text in encoded))


def leaks(text: str, hidden: Mapping[str, str]) -> list[str]:
    """Which secrets can be found in the text."""
    return [name for name, secret in hidden.items() if any(form in text for form in forms(secret))]


def ca_file(folder: Path) -> Path:
    """The test authority's certificate."""
    path = folder / "ca.pem"
    path.write_bytes(_authority()[1].public_bytes(serialization.Encoding.PEM))
    return path


def document(folder: Path, smtp: int, imap: int, security: str = "none") -> Tree:
    """A config that has a secret in every place where one can stand."""
    tls = {} if security == "none" else {"ca_file": str(ca_file(folder))}
    way = {"host": "127.0.0.1", "security": security, **tls}
    imap_way = {**way, "port": imap, "timeout": "2s"}
    relay = {**way, "port": smtp, "username": "canary", "password": {"env": "SECRET_RELAY"}, "timeout": "2s"}
    oauth = {"client_id": "id", "client_secret": {"env": "SECRET_CLIENT"}}
    oauth |= {
        "refresh_token": {"env": "SECRET_REFRESH"},
        "token_url": f"http://127.0.0.1:{free_port()}/token",
    }
    seed: Tree = {"provider": "dovecot", "username": "canary", "imap": imap_way}
    often = {**seed, "daily_limit": 10_000_000}
    return {
        "agent": {
            "store": f"sqlite:///{folder}/mailcanary.db",
            "listen": f"127.0.0.1:{free_port()}",
            "token": {"env": "SECRET_WEB"},
            "log_format": "json",
            "log_level": "debug",
        },
        "resolver": {"nameservers": ["127.0.0.1:9"], "timeout": "1s"},
        "senders": {"s0": {"from": "canary@s0.example.org", "relay": relay}},
        "seeds": {
            "box0": {**often, "address": "box0@example.net", "password": {"env": "SECRET_IMAP"}},
            "box1": {**often, "address": "box1@example.net", "oauth2": oauth},
        },
        "bounces": {**seed, "address": "b@example.net", "password": {"env": "SECRET_IMAP"}},
        "routes": [{"every": "400ms", "deadline": "2s", "late_after": "1h"}],
        "limits": {"per_seed_per_day": 10_000_000, "per_provider_per_minute": 100_000},
        "blocklists": {"keys": {"zen.dq.spamhaus.net": {"env": "SECRET_ZONE"}}, "every": "1h"},
    }


def write(folder: Path, tree: Tree) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in tree.items() if v is not None}, sort_keys=False))
    return path


async def run(command: str, config: Path, env: Mapping[str, str]) -> str:
    """Everything a command writes."""
    argv = (sys.executable, "-m", "agent", "--config", str(config), *command.split())
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=ROOT, env={**os.environ, **env}, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), 40.0)
    except TimeoutError:
        process.kill()
        said, _ = await process.communicate()
    return f"$ {command}\n{said.decode(errors='replace')}"


@asynccontextmanager
async def echoing(hidden: Mapping[str, str]) -> AsyncIterator[tuple[int, int]]:
    """Servers that refuse every login and repeat the secret they were given: (SMTP port, IMAP port)."""
    relay, imap_secret = (" ".join(forms(hidden[name])) for name in ("SECRET_RELAY", "SECRET_IMAP"))
    script = Script({"AUTH": f"535 5.7.8 no: {relay}\r\n".encode()}, starttls=False)
    refusal = f"NO [AUTHENTICATIONFAILED] {imap_secret}".encode()
    async with FakeSmtp(script) as smtp, mini(refuse_login=refusal) as imap:
        yield smtp.port, imap.port


def dump(folder: Path) -> str:
    """Everything in the store."""
    with closing(sqlite3.connect(folder / "mailcanary.db")) as store:
        return "\n".join(store.iterdump())


async def pages(config: Path, token: str) -> str:
    """What the web shows to one who may look, and to one who may not."""
    listen = yaml.safe_load(config.read_text())["agent"]["listen"]
    texts = []
    async with aiohttp.ClientSession() as session:
        for headers in ({"Authorization": f"Bearer {token}"}, {"Authorization": f"Bearer no{token}"}):
            for path in (
                "/metrics",
                "/",
                "/api/v1/status",
                "/api/v1/routes/s0/box0",
                "/routes/s0/box0",
                "/-/ready",
            ):
                async with session.get(f"http://{listen}{path}", headers=headers) as reply:
                    texts.append(await reply.text())
    return "\n".join(texts)


async def part(folder: Path, number: int) -> Tally:
    """An agent and every command against servers that refuse and repeat, then bad files; all output is
    searched."""
    hidden = sentinels()
    tally = Tally(trials=len(hidden))
    said: dict[str, str] = {}
    async with echoing(hidden) as (smtp, imap):
        config = write(folder, document(folder, smtp, imap))
        agent = AgentProcess(config, env=hidden)
        try:
            await agent.start()
            await eventually(lambda: len(stored(folder)) > 2, 30.0, agent.log)
            await asyncio.sleep(2.0)
            said["pages"] = await pages(config, hidden["SECRET_WEB"])
            for command in COMMANDS:
                said[command] = await run(command, config, hidden)
            await agent.stop()
        finally:
            await agent.close()
        said["log"] = agent.log()
    said["store"] = dump(folder)
    said |= await bad_files(folder / "bad", hidden)
    for where, text in said.items():
        tally.check(not leaks(text, hidden), f"{where}: {leaks(text, hidden)}")
    tally.figures = {"outputs searched": len(said)}
    return tally


async def bad_files(folder: Path, hidden: Mapping[str, str]) -> dict[str, str]:
    """Config files that are wrong where a secret stands."""
    secret = hidden["SECRET_RELAY"]
    plain = document(folder.parent, 1, 1)
    plain["senders"]["s0"]["relay"]["password"] = secret
    wrong_key = document(folder.parent, 1, 1)
    wrong_key["senders"]["s0"]["relay"]["password"] = {"envv": secret}
    listed = document(folder.parent, 1, 1)
    listed["seeds"]["box0"]["password"] = [secret]
    typo = document(folder.parent, 1, 1)
    typo["senders"]["s0"]["relay"]["passwort"] = secret
    store = document(folder.parent, 1, 1)
    store["agent"]["store"] = f"postgresql://u:{secret}@127.0.0.1/x"
    said = {}
    for name, tree in {
        "plain": plain,
        "key": wrong_key,
        "list": listed,
        "typo": typo,
        "store": store,
    }.items():
        config = write(folder / name, tree)
        for command in ("check-config", "run"):
            said[f"{name} {command}"] = await run(command, config, hidden)
    return said


PROMISE = "secrets shown in any output while everything fails"
GUARANTEE = Guarantee("G16", PROMISE, "secrets", 30, len(NAMES), part)


@pytest.mark.timeout(400)  # a busy machine
async def test_no_secret_is_shown_while_everything_fails(tmp_path: Path) -> None:
    tally = await part(tmp_path, 1)
    print(tally.line(GUARANTEE.promise, GUARANTEE.unit))
    assert not tally.failures, "; ".join(tally.failures)


# --- hostile TLS --------------------------------------------------------------------------------------------

INJECT = b"250 2.0.0 injected\r\n235 2.7.0 welcome\r\n"
SMTP_SERVERS: dict[str, tuple[str, Script]] = {
    "strips STARTTLS": ("starttls", Script(starttls=False)),
    "refuses STARTTLS": ("starttls", Script({"STARTTLS": b"454 4.7.0 not now\r\n"}, tls=server_context())),
    "injects": ("starttls", Script(behind_starttls=INJECT, tls=server_context())),
    "speaks rubbish": ("starttls", Script(tls_garbage=b"\x16\x03\x01rubbish", tls=server_context())),
    "expired": ("starttls", Script(tls=server_context("expired"))),
    "wrong name": ("starttls", Script(tls=server_context("wrong-name"))),
    "expired, implicit": ("tls", Script(implicit_tls=True, tls=server_context("expired"))),
    "wrong name, implicit": ("tls", Script(implicit_tls=True, tls=server_context("wrong-name"))),
    "no TLS at all": ("tls", Script()),
}


async def _preauth(peer: Peer) -> None:
    await peer.send(b"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN] you are in")
    while True:
        line = await peer.line()
        await peer.send(line.split(b" ")[0] + b" OK done")


async def _stripped(peer: Peer) -> None:
    await peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready")
    while True:
        line = await peer.line()
        await peer.send(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN", line.split(b" ")[0] + b" OK done")


async def _injecting(peer: Peer) -> None:
    await peer.send(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] ready")
    while True:
        line = await peer.line()
        tag = line.split(b" ")[0]
        await peer.raw(
            tag + b" OK go\r\n* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] injected\r\n" + tag + b" OK in\r\n"
        )


@pytest.mark.parametrize("name", list(SMTP_SERVERS))
async def test_a_hostile_relay_gets_no_credential_in_clear(tmp_path: Path, name: str) -> None:
    from tests.guarantees.agents import app_on, rows_of, send

    hidden = sentinels()
    security, script = SMTP_SERVERS[name]
    async with FakeSmtp(script) as smtp:
        tree = document(tmp_path, smtp.port, 1, security)
        with pytest.MonkeyPatch.context() as patch:
            for variable, secret in hidden.items():
                patch.setenv(variable, secret)
            async with app_on(write(tmp_path, tree)) as app:
                await send(app, seeds=["box0"])
                await eventually(
                    lambda: any(c.outcome is not None for c in rows_of(app)), 20.0, lambda: "never ended"
                )
                (canary,) = rows_of(app)
        assert leaks(bytes(smtp.clear).decode("latin-1"), hidden) == []
        assert b"AUTH" not in bytes(smtp.clear).upper()
        assert smtp.messages == []
        assert canary.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("script", [_preauth, _stripped, _injecting], ids=["PREAUTH", "strips", "injects"])
async def test_a_hostile_mailbox_server_gets_no_credential_in_clear(tmp_path: Path, script: Any) -> None:
    from tests.guarantees.agents import app_on

    hidden = sentinels()
    async with scripted(script) as server:
        tree = document(tmp_path, 1, server.port, "starttls")
        with pytest.MonkeyPatch.context() as patch:
            for variable, secret in hidden.items():
                patch.setenv(variable, secret)
            async with app_on(write(tmp_path, tree)) as app:
                await eventually(lambda: len(server.peers) >= 2, 20.0, lambda: "nobody came")
                await asyncio.sleep(0.5)
                assert not app.mailboxes.readable("box0")
        said = b"\n".join(line for peer in server.peers for line in peer.got).decode("latin-1")
        assert leaks(said, hidden) == []
        assert "LOGIN" not in said.upper()
        assert "AUTHENTICATE" not in said.upper()
