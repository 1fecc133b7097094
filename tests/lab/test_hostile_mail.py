"""What strangers put into the mailboxes that are read changes no verdict and stops no reader."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.store import canaries
from agent.store.canaries import MOST_HEADERS
from probes.canary.state import State
from probes.canary.token import mint
from tests.lab.agents import lab_agent
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab

VACATION = (
    "From: seed@provider-a.test\r\nSubject: Out of office\r\nAuto-Submitted: auto-replied\r\n\r\n{token}\r\n"
)
COMPLAINT = (
    "From: fbl@provider-a.test\r\n"
    "Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nVersion: 1\r\n\r\n"
    "--b\r\nContent-Type: message/rfc822\r\n\r\nX-Mailcanary-Token: {token}\r\n\r\n--b--\r\n"
)
POISON = (
    "From: MAILER-DAEMON@evil.test\r\nSubject: failure notice\r\n"
    "Content-Type: text/plain; charset={token}\r\n\r\n"
    "<a@b.test>: user unknown\r\n"
)
FAILURE = (
    "From: MAILER-DAEMON@provider-a.test\r\nSubject: Undelivered Mail\r\n"
    "Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
    "Final-Recipient: rfc822; a@provider-a.test\r\nAction: failed\r\nStatus: 5.1.1\r\n"
    "Diagnostic-Code: smtp; 550 5.1.1 \x1b]0;owned\x07<script>alert(1)</script>\r\n\r\n"
    "--b\r\nContent-Type: message/rfc822\r\n\r\nX-Mailcanary-Token: {token}\r\n\r\n--b--\r\n"
)


async def test_strangers_in_the_bounces_mailbox(lab: Lab, tmp_path: Path) -> None:
    """Vacations and complaints are no bounces, a forged token is nobody's, an odd charset stops nothing."""
    async with lab_agent(lab, tmp_path, deadline="90s") as agent:
        lab.policy("a").rule(agent.users["a"].address, "DISCARD")
        canary = await agent.send("app", "a")
        services = agent.app.services
        forged = mint(services.keys, agent="lab", route="app/a", at=services.clock.wall(), nonce=b"x" * 16)

        def post(text: str, token: str) -> None:
            lab.imap("relay").deliver("bounce@sender.test", "INBOX", text.format(token=token).encode())

        for text in (VACATION, COMPLAINT):
            post(text, canary.token)
        for charset in ("idna", "undefined", "punycode"):
            post(POISON, charset)
        post(FAILURE, forged)
        await asyncio.sleep(3.0)
        assert agent.get(canary).state is State.SENT
        post(FAILURE, canary.token)
        told = await agent.settled(canary, 30.0)
        assert told.placement is not None
        assert told.placement.value == "bounced"
        assert "\x1b" not in str(told)
        assert "<script" not in str(told.evidence)


async def test_a_report_that_returns_no_more_than_the_message_id(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, deadline="90s") as agent:
        lab.policy("a").rule(agent.users["a"].address, "DISCARD")
        canary = await agent.send("app", "a")
        report = FAILURE.replace("X-Mailcanary-Token: {token}", f"Message-ID: {canary.message_id}")
        lab.imap("relay").deliver("bounce@sender.test", "INBOX", report.encode())
        told = await agent.settled(canary, 30.0)
        assert told.placement is not None
        assert told.placement.value == "bounced"


async def test_a_token_sent_again_and_again_does_not_fill_the_store(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, deadline="60s") as agent:
        canary = await agent.settled(await agent.send("app", "a"))
        copy = f"X-Mailcanary-Token: {canary.token}\r\nX-Fill: {'z' * 40_000}\r\n\r\nx".encode()
        for _ in range(MOST_HEADERS + 4):
            lab.imap("a").deliver(agent.users["a"].address, "INBOX", copy)
        await agent.when(canary, lambda c: c.duplicates >= MOST_HEADERS + 4, 30.0)
        kept = agent.app.services.database.read_now(lambda conn: canaries.headers(conn, canary.id))
        assert len(kept) == MOST_HEADERS
