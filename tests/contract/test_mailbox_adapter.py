"""Every defect that was measured in bare aioimaplib, cured: against a scripted server."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import sys
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from probes.errors import LoginRefused, MailboxUnavailable
from probes.mailbox.access import MailboxAccess, Password, Security
from probes.mailbox.commands import CommandRefused
from probes.mailbox.imap import ImapSession
from tests.fakes.certificates import client_context, server_context
from tests.fakes.imap_server import Peer, Script, scripted

SECRET = "s3ntinel-Pa55word"
ACCESS = MailboxAccess(
    "127.0.0.1", 0, "user", Password(SECRET), Security.NONE, timeout=1.0, connect_timeout=2.0
)


class Token:
    """A token source that counts."""

    def __init__(self, text: str = "s3ntinel-t0ken") -> None:
        self.text = text
        self.invalidated = 0

    async def token(self) -> str:
        return self.text

    def invalidate(self) -> None:
        self.invalidated += 1

    def reset(self) -> None:
        pass


@asynccontextmanager
async def opened(script: Script, access: MailboxAccess = ACCESS, tls: ssl.SSLContext | None = None) -> Any:
    """A session with a server that plays the script."""
    async with scripted(script, tls) as server:
        news = asyncio.Event()
        session = ImapSession(replace(access, port=server.port), news.set)
        session.server = server
        session.woken = news
        try:
            await session.open()
            yield session
        finally:
            session.abort("test over", "stopped")


def after_login(more: Callable[[Peer], Awaitable[None]], capabilities: bytes = b"IMAP4rev1 IDLE") -> Script:
    async def script(peer: Peer) -> None:
        await peer.log_in(capabilities)
        await more(peer)

    return script


def fetch_line(number: int, body: bytes, head: bytes = b"") -> bytes:
    date = b'INTERNALDATE "21-Nov-2026 10:00:00 +0000" RFC822.SIZE 9'
    items = b"%sUID %d %s BODY[HEADER] {%d}\r\n%s" % (head, number, date, len(body), body)
    return b"* %d FETCH (%s)\r\n" % (number, items)


async def test_thousands_of_fetch_lines_do_not_recurse() -> None:
    async def more(peer: Peer) -> None:
        await peer.examine(exists=5000, uidnext=5001)
        await peer.expect(b"FETCH")
        await peer.raw(b"".join(fetch_line(n, b"X: y\r\n\r\n") for n in range(1, 5001)))
        await peer.ok()

    async with opened(after_login(more)) as session:
        await session.examine("INBOX")
        came = await session.fetch("1:*", "HEADER", 1000)
    assert [one.uid for one in came] == list(range(1, 5001))


@pytest.mark.parametrize("chunk", [0, 1, 7])
async def test_message_text_never_reads_as_protocol(chunk: int) -> None:
    body = b"Subject: x\r\n* BYE gone\r\nA1 OK no\r\n) FLAGS (\\Seen)\r\n+ go\r\n* 9 EXISTS\r\nY: {3}\r\n\r\n"

    async def more(peer: Peer) -> None:
        await peer.examine()
        await peer.expect(b"FETCH")
        await peer.raw(fetch_line(1, body, b'X-GM-LABELS ("a)b(" "q\\"(" {3}\r\n)((\\Important) '), chunk)
        await peer.ok()
        await peer.expect(b"NOOP")
        await peer.ok()

    async with opened(after_login(more)) as session:
        await session.examine("INBOX")
        (one,) = await session.fetch("1", "HEADER", 1000)
        assert one.data == body
        assert session.exists == 1
        await session.noop()


async def test_a_lost_connection_wakes_a_waiting_command() -> None:
    async def more(peer: Peer) -> None:
        await peer.expect(b"NOOP")

    async with opened(after_login(more)) as session:
        with pytest.raises(MailboxUnavailable) as caught:
            await session.noop()
    assert caught.value.facts["reason"] == "connection-lost"


@pytest.mark.parametrize("bye", [True, False])
@pytest.mark.parametrize("tls", [True, False])
async def test_idle_is_woken_by_bye_and_by_loss(bye: bool, tls: bool) -> None:
    async def more(peer: Peer) -> None:
        await peer.examine()
        await peer.expect(b"IDLE")
        await peer.send(b"+ idling")
        await asyncio.sleep(0.05)
        if bye:
            await peer.send(b"* BYE [UNAVAILABLE] restarting")
            await asyncio.sleep(1)

    access = replace(ACCESS, security=Security.TLS, tls=client_context()) if tls else ACCESS
    async with opened(after_login(more), access, server_context() if tls else None) as session:
        await session.examine("INBOX")
        await session.idle()
        session.woken.clear()
        async with asyncio.timeout(2):
            await session.woken.wait()
        assert session.fault is not None
        assert session.fault.facts["reason"] == ("unavailable" if bye else "connection-lost")
        with pytest.raises(MailboxUnavailable):
            await session.done()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("hurry", [True, False])
async def test_idle_is_renewed_without_waiting_and_can_end_meanwhile(at_once: bool, hurry: bool) -> None:
    async def more(peer: Peer) -> None:
        await peer.examine()
        await peer.expect(b"IDLE")
        await peer.send(b"+ idling")
        tag = peer.tag
        await peer.expect(b"DONE")
        await asyncio.sleep(0.05)
        await peer.send(tag + b" OK ended")
        if at_once or not hurry:
            await peer.expect(b"IDLE")
            await peer.send(b"+ idling")
            tag = peer.tag
            await peer.expect(b"DONE")
            await peer.send(tag + b" OK ended")
        await peer.expect(b"NOOP")
        await peer.ok()

    async with opened(after_login(more)) as session:
        await session.examine("INBOX")
        await session.idle()
        session.renew_idle(1.0, at_once)
        if not hurry:
            await asyncio.sleep(0.2)
            assert session.idling
        await session.done()
        await session.noop()
        assert session.fault is None


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_idle_that_is_not_renewed_ends_the_session(at_once: bool) -> None:
    async def more(peer: Peer) -> None:
        await peer.examine()
        await peer.expect(b"IDLE")
        await peer.send(b"+ idling")
        await peer.reader.read(1000)
        await asyncio.sleep(1)

    async with opened(after_login(more)) as session:
        await session.examine("INBOX")
        await session.idle()
        session.woken.clear()
        session.renew_idle(0.1, at_once)
        async with asyncio.timeout(2):
            await session.woken.wait()
        assert session.fault.facts["reason"] == "timeout"


async def test_examine_allows_fetch_and_a_failed_one_does_not() -> None:
    async def more(peer: Peer) -> None:
        await peer.examine()
        await peer.expect(b"FETCH")
        await peer.ok()
        await peer.expect(b"EXAMINE")
        await peer.send(peer.tag + b" NO [NONEXISTENT] gone")

    async with opened(after_login(more)) as session:
        await session.examine("INBOX")
        assert await session.fetch("1", "HEADER", 100) == []
        with pytest.raises(CommandRefused) as caught:
            await session.examine("Junk")
        assert caught.value.facts["reason"] == "folder-gone"
        with pytest.raises(MailboxUnavailable, match="not allowed"):
            await session.fetch("1", "HEADER", 100)


@pytest.mark.parametrize("initial", [True, False])
@pytest.mark.parametrize("mechanism", [b"XOAUTH2", b"OAUTHBEARER"])
async def test_an_oauth_error_challenge_is_answered(initial: bool, mechanism: bytes) -> None:
    challenge = b64encode(json.dumps({"status": "401", "schemes": "bearer"}).encode())

    async def script(peer: Peer) -> None:
        await peer.send(b"* OK [CAPABILITY IMAP4rev1 AUTH=%s%s] hi" % (mechanism, b" SASL-IR" * initial))
        line = await peer.expect(b"AUTHENTICATE " + mechanism)
        if not initial:
            await peer.send(b"+ ")
            line = await peer.line()
        assert b"s3ntinel-t0ken" in b64decode(line.split()[-1])
        await peer.send(b"+ " + challenge)
        assert await peer.line() in (b"", b"AQ==")
        await peer.send(peer.tag + b" NO [AUTHENTICATIONFAILED] bad token")

    token = Token()
    with pytest.raises(LoginRefused, match="status 401") as caught:
        async with opened(script, replace(ACCESS, credential=token)):
            pass
    assert caught.value.facts["reason"] == "login-refused"
    assert token.invalidated == 1
    assert "s3ntinel" not in str(caught.value)


async def test_star_space_inside_data_is_kept() -> None:
    async def more(peer: Peer) -> None:
        await peer.expect(b"LIST")
        await peer.ok(b'* LIST () "/" "a* b"')

    async with opened(after_login(more)) as session:
        assert [entry.name for entry in await session.list_folders()] == ["a* b"]


@pytest.mark.parametrize("name", ['we"ird\\name', "with space", "(paren) {5}", "*", "", "caf\xc3\xa9"])
async def test_folder_and_user_names_are_quoted(name: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"* OK [CAPABILITY IMAP4rev1] hi")
        line = await peer.expect(b"LOGIN")
        assert line.endswith(b' LOGIN "us\\"er" "pa\\\\ss"')
        await peer.ok()
        await peer.expect(b"CAPABILITY")
        await peer.ok(b"* CAPABILITY IMAP4rev1")
        line = await peer.expect(b"EXAMINE")
        if line.endswith(b"{5}") and b'"' not in line:
            await peer.send(b"+ go")
            assert (await peer.line()) == name.encode("latin-1")
        else:
            assert line.endswith(b' "' + name.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"')
        await peer.ok(b"* 0 EXISTS", b"* OK [UIDVALIDITY 7] ok", b"* OK [UIDNEXT 1] ok")

    async with opened(script, replace(ACCESS, username='us"er', credential=Password("pa\\ss"))) as session:
        assert (await session.examine(name)).uidvalidity == 7


async def test_a_line_break_in_a_name_is_not_sent_as_a_command() -> None:
    async def more(peer: Peer) -> None:
        line = await peer.expect(b"EXAMINE")
        assert line.endswith(b"{18}")
        await peer.send(peer.tag + b" NO no such folder")

    async with opened(after_login(more)) as session:
        with pytest.raises(CommandRefused):
            await session.examine("x\r\nA9 DELETE INBOX")
        assert not any(line.startswith(b"A9") for line in session.server.peers[0].got)


async def test_a_password_beyond_ascii_goes_as_a_literal() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"* OK [CAPABILITY IMAP4rev1] hi")
        assert (await peer.expect(b"LOGIN")).endswith(b"{4}")
        await peer.send(b"+ go")
        assert await peer.line() == b"user {8}"
        await peer.send(b"+ go")
        assert await peer.line() == "gehéim!".encode()
        await peer.ok()
        await peer.expect(b"CAPABILITY")
        await peer.ok(b"* CAPABILITY IMAP4rev1")

    async with opened(script, replace(ACCESS, credential=Password("gehéim!"))):
        pass


async def test_special_use_is_asked_for_and_flags_are_read_without_it() -> None:
    async def more(peer: Peer) -> None:
        line = await peer.expect(b"LIST")
        assert line.endswith(b'LIST "" "*" RETURN (SPECIAL-USE)')
        await peer.ok(b'* LIST (\\HasNoChildren \\Junk) "/" Spam')

    async with opened(after_login(more, b"IMAP4rev1 SPECIAL-USE LIST-EXTENDED")) as session:
        (entry,) = await session.list_folders()
    assert "\\junk" in entry.flags


async def test_search_names_no_charset() -> None:
    async def more(peer: Peer) -> None:
        await peer.examine()
        assert b"CHARSET" not in await peer.expect(b"SEARCH")
        await peer.ok(b"* SEARCH 3 1", b"* SEARCH 2")

    async with opened(after_login(more)) as session:
        await session.examine("INBOX")
        assert await session.search("SINCE", "21-Nov-2026") == [1, 2, 3]


async def test_cancelling_a_command_aborts_the_connection() -> None:
    closed = asyncio.Event()

    async def more(peer: Peer) -> None:
        await peer.expect(b"NOOP")
        assert not await peer.reader.read(10)
        closed.set()

    async with opened(after_login(more)) as session:
        waiting = asyncio.create_task(session.noop())
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        async with asyncio.timeout(2):
            await closed.wait()
        with pytest.raises(MailboxUnavailable):
            await session.noop()


async def test_a_command_has_a_deadline_and_then_the_session_is_over() -> None:
    async def more(peer: Peer) -> None:
        await peer.expect(b"NOOP")
        await peer.reader.read(10)

    async with opened(after_login(more), replace(ACCESS, timeout=0.2)) as session:
        with pytest.raises(MailboxUnavailable) as caught:
            await session.noop()
        assert caught.value.facts["reason"] == "timeout"
        assert session.fault is not None


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"* BYE [UNAVAILABLE] later", "unavailable"),
        (b"* BYE [LIMIT] too many", "limited"),
        (b"* NO what", "unavailable"),
        (b"220 smtp.example.net ESMTP", "protocol-error"),
        (b"", "timeout"),
    ],
)
async def test_a_bad_greeting_does_not_hang(greeting: bytes, reason: str) -> None:
    async def script(peer: Peer) -> None:
        if greeting:
            await peer.send(greeting)
        await peer.reader.read(10)

    with pytest.raises(MailboxUnavailable) as caught:
        async with opened(script, replace(ACCESS, connect_timeout=0.3)):
            pass
    assert caught.value.facts["reason"] == reason


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def more(peer: Peer) -> None:
        await peer.examine()
        await peer.expect(b"FETCH")
        await peer.raw(fetch_line(1, b"Subject: s3ntinel-subject\r\n\r\n"))
        await peer.ok()

    with caplog.at_level(logging.DEBUG):
        logging.getLogger("aioimaplib").setLevel(logging.DEBUG)
        async with opened(after_login(more)) as session:
            await session.examine("INBOX")
            await session.fetch("1", "HEADER", 100)
            assert SECRET not in repr(session.access)
    assert "s3ntinel" not in caplog.text


@pytest.mark.parametrize("announced", [b"{1048577}", b"{99999999999}", b"~{5000000}"])
async def test_a_literal_beyond_the_cap_ends_the_session(announced: bytes) -> None:
    async def more(peer: Peer) -> None:
        await peer.examine()
        await peer.expect(b"FETCH")
        await peer.send(b"* 1 FETCH (BODY[] " + announced)
        await peer.reader.read(10)

    async with opened(after_login(more)) as session:
        await session.examine("INBOX")
        with pytest.raises(MailboxUnavailable, match="literal") as caught:
            await session.fetch("1", "", 100)
    assert caught.value.facts["reason"] == "protocol-error"


async def test_an_endless_line_ends_the_session() -> None:
    async def more(peer: Peer) -> None:
        await peer.expect(b"NOOP")
        await peer.raw(b"* OK " + b"x" * 1_100_000)
        await peer.reader.read(10)

    async with opened(after_login(more)) as session:
        with pytest.raises(MailboxUnavailable, match="line") as caught:
            await session.noop()
    assert caught.value.facts["reason"] == "protocol-error"


async def test_free_text_that_ends_like_a_literal_announces_nothing() -> None:
    async def more(peer: Peer) -> None:
        await peer.expect(b"NOOP")
        await peer.ok(b"* OK see {5}", b"* NO [ALERT] almost full {12}", text=b"fine {7}")
        await peer.expect(b"NOOP")
        await peer.ok()

    async with opened(after_login(more)) as session:
        await session.noop()
        await session.noop()


@pytest.mark.parametrize("answer", [b"ZZ9 OK done", b"no sense", b"+ go on"])
async def test_answers_to_nothing_end_the_session(answer: bytes) -> None:
    async def more(peer: Peer) -> None:
        await peer.expect(b"NOOP")
        await peer.send(answer)
        await peer.reader.read(10)

    async with opened(after_login(more)) as session:
        with pytest.raises(MailboxUnavailable) as caught:
            await session.noop()
    assert caught.value.facts["reason"] == "protocol-error"


# TLS


STARTTLS = replace(ACCESS, security=Security.STARTTLS, tls=client_context())


async def upgrade(peer: Peer) -> None:
    """The server's side of STARTTLS."""
    await peer.expect(b"STARTTLS")
    await peer.ok()
    await peer.writer.start_tls(server_context())


async def test_starttls_forgets_what_was_said_before() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"* OK [CAPABILITY IMAP4rev1 STARTTLS AUTH=LIES IDLE] hi")
        await upgrade(peer)
        await peer.expect(b"CAPABILITY")
        await peer.ok(b"* CAPABILITY IMAP4rev1")
        await peer.expect(b"LOGIN")
        await peer.ok()
        await peer.expect(b"CAPABILITY")
        await peer.ok(b"* CAPABILITY IMAP4rev1")

    async with opened(script, STARTTLS) as session:
        assert not session.can("IDLE")


async def _plain_only(peer: Peer, capabilities: bytes, refuse: bytes) -> None:
    await peer.send(b"* OK [CAPABILITY " + capabilities + b"] hi")
    await peer.expect(b"STARTTLS")
    await peer.send(peer.tag + refuse)
    assert not await peer.reader.read(1000)


@pytest.mark.parametrize("refuse", [b" NO sorry", b" BAD what"])
async def test_starttls_is_required(refuse: bytes) -> None:
    with pytest.raises(MailboxUnavailable) as caught:
        async with opened(lambda peer: _plain_only(peer, b"IMAP4rev1", refuse), STARTTLS):
            pass
    assert caught.value.facts["reason"] == "tls-failed"


@pytest.mark.parametrize(
    "injected", [b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n", b"* 1 EXI", b"A9 OK more\r\n", b"* OK {5}\r\n"]
)
async def test_data_behind_the_starttls_answer_is_refused(injected: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi")
        await peer.expect(b"STARTTLS")
        await peer.raw(peer.tag + b" OK go\r\n" + injected)
        assert SECRET.encode() not in await peer.reader.read(1000)

    with pytest.raises(MailboxUnavailable) as caught:
        async with opened(script, STARTTLS):
            pass
    assert caught.value.facts["reason"] == "tls-failed"


async def test_preauth_before_tls_is_refused() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] welcome")
        assert not await peer.reader.read(1000)

    with pytest.raises(MailboxUnavailable, match="PREAUTH") as caught:
        async with opened(script, STARTTLS):
            pass
    assert caught.value.facts["reason"] == "tls-failed"


@pytest.mark.parametrize("kind", ["expired", "wrong-name"])
@pytest.mark.parametrize("security", [Security.TLS, Security.STARTTLS])
async def test_bad_certificates_get_no_credential(kind: str, security: Security) -> None:
    async def script(peer: Peer) -> None:
        if security is Security.STARTTLS:
            await peer.send(b"* OK [CAPABILITY IMAP4rev1 STARTTLS] hi")
            await peer.expect(b"STARTTLS")
            await peer.ok()
            await peer.writer.start_tls(server_context(kind))
        assert SECRET.encode() not in await peer.reader.read(1000)

    access = replace(STARTTLS, security=security)
    with pytest.raises(MailboxUnavailable) as caught:
        async with opened(script, access, server_context(kind) if security is Security.TLS else None):
            pass
    assert caught.value.facts["reason"] == "tls-failed"
    assert "certificate" in caught.value.detail.lower()


async def test_plaintext_where_tls_is_due() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"* OK [CAPABILITY IMAP4rev1] hi")
        assert SECRET.encode() not in await peer.reader.read(1000)

    with pytest.raises(MailboxUnavailable) as caught:
        async with opened(script, replace(STARTTLS, security=Security.TLS)):
            pass
    assert caught.value.facts["reason"] in ("tls-failed", "connect-failed")


async def test_nobody_listens() -> None:
    session = ImapSession(replace(ACCESS, port=1), lambda: None)
    with pytest.raises(MailboxUnavailable) as caught:
        await session.open()
    assert caught.value.facts["reason"] == "connect-failed"
