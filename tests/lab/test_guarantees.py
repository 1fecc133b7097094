"""The guarantees on real servers: what tests/guarantees proves at speed, in a small form on the lab."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
import yaml

from agent.store import canaries
from probes.canary.state import Canary, State
from probes.canary.token import NONCE_BYTES, TokenKeys, mint
from probes.outcome import Outcome, Placement
from tests.guarantees.agents import AgentProcess, eventually
from tests.guarantees.agents import stored as stored_rows
from tests.guarantees.test_g01_crash import settle
from tests.lab.agents import lab_agent, write_config
from tests.lab.world import agent_config
from tests.lab.world.lab import Lab
from tests.lab.world.proxy import FaultProxy

pytestmark = pytest.mark.lab
UNLIMITED = {"per_seed_per_day": 10_000_000, "per_provider_per_minute": 100_000, "in_flight": 16}


async def test_on_real_servers_a_lost_250_is_settled_by_the_reader(lab: Lab, tmp_path: Path) -> None:
    relay = lab.relay()
    async with FaultProxy(relay.ip, relay.plain_port) as proxy:
        proxy.eat_final_reply = True
        sender = agent_config.relay_sender(lab, tmp_path, security="none")
        sender["relay"] |= {"host": proxy.host, "port": proxy.port}
        async with lab_agent(lab, tmp_path, deadline="30s", senders={"app": sender}) as agent:
            sent = await agent.send("app", "a")
            assert sent.state in (State.UNCONFIRMED, State.SETTLED)
            canary = await agent.settled(sent)
            assert (canary.placement, canary.outcome, canary.attempts) == (Placement.INBOX, Outcome.PASS, 1)
            assert proxy.eaten == 1
            assert [s.stage for s in lab.delivery_log(canary.message_id)].count("stored") == 1


async def test_on_real_servers_a_copy_is_one_duplicate(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path) as agent:
        canary = await agent.settled(await agent.send("app", "a"))
        address = agent.users["a"].address
        lab.imap("a").deliver(address, "INBOX", copy_of(canary))
        copied = await agent.when(canary, lambda c: c.duplicates > 0)
        assert (copied.duplicates, copied.placement, copied.late) == (1, Placement.INBOX, False)


def copy_of(canary: Canary) -> bytes:
    """A copy as a server that delivers twice would leave it."""
    head = f"From: noreply@sender.test\r\nSubject: [{canary.token}]\r\nMessage-ID: {canary.message_id}\r\n"
    return (head + f"X-Mailcanary-Token: {canary.token}\r\n\r\n{canary.token}\r\n").encode()


# --- G15: identity ------------------------------------------------------------------------------------------


def _flipped(token: str, chance: random.Random) -> str:
    """The token with one character changed to another of the alphabet."""
    at = chance.randrange(len(token))
    other = chance.choice([c for c in "abcdefghijklmnopqrstuvwxyz234567" if c != token[at].lower()])
    return token[:at] + other + token[at + 1 :]


def _forgery(token: str, number: int) -> bytes:
    """A mail that looks like a canary, and says of itself that all is well."""
    head = f"From: noreply@sender.test\r\nTo: seed@example.org\r\nSubject: canary [{token}]\r\n"
    head += f"Message-ID: <forged-{number}@example.org>\r\nX-Mailcanary-Token: {token}\r\n"
    return f"{head}\r\n{token}\r\n".encode()


async def test_tokens_that_are_not_this_mailboxes_are_not_accepted(lab: Lab, tmp_path: Path) -> None:
    """G15: forged, bit-flipped and other mailboxes' tokens, by real mail, beside one true copy at the end."""
    chance = random.Random(15)
    async with lab_agent(lab, tmp_path, deadline="5m") as agent:
        for seed in ("a", "b"):
            lab.policy(seed).rule(agent.users[seed].address, "DISCARD")
        mine, theirs = await agent.send("app", "a"), await agent.send("app", "b")
        others = TokenKeys(1, {1: bytes(32)})
        wrong = [_flipped(mine.token, chance) for _ in range(12)] + [theirs.token]
        for number in range(12):
            secret = chance.randbytes(NONCE_BYTES)
            wrong.append(mint(others, agent="lab", route="app/a", at=time.time() + number, nonce=secret))
        wrong += ["A" * len(mine.token), mine.token[:-1], mine.token[1:], mine.token[::-1], ""]
        box = lab.imap("a")
        for number, token in enumerate(wrong):
            box.deliver(agent.users["a"].address, "INBOX", _forgery(token, number))
        assert len(wrong) == 30
        box.deliver(agent.users["a"].address, "INBOX", copy_of(mine))
        seen = await agent.when(mine, lambda c: c.seen_at is not None)
        assert seen.duplicates == 0
        untouched = agent.get(theirs)
        assert (untouched.seen_at, untouched.outcome, untouched.duplicates) == (None, None, 0)


def _forged_results(lab: Lab, seed: str, number: int) -> bytes:
    """Header fields by which a mail says of itself that it passed, as the provider would."""
    there = lab.provider(seed)
    name = (there.authserv_ids[0], there.mx_host, there.mx_host.upper(), "sender.test")[number % 4]
    says = f"{name}; spf=pass smtp.mailfrom=sender.test; dkim=pass header.d=sender.test; "
    says += "dmarc=pass header.from=sender.test"
    border = f"Received: from x ([192.0.2.1]) by {there.mx_host}; Sat, 21 Nov 2026 08:15:30 +0000\r\n"
    forms = (
        f"Authentication-Results: {says}\r\n",
        f"Authentication-Results: {says}\r\n{border}",
        f"{border}Authentication-Results: {says}\r\n",
        f"authentication-results:{says}\r\nARC-Authentication-Results: i=1; {says}\r\n",
        f"Authentication-Results: (a comment) {says}\r\n" * 3,
    )
    return forms[number % len(forms)].encode()


async def test_a_mail_that_vouches_for_itself_is_not_believed(lab: Lab, tmp_path: Path) -> None:
    """G15: 30 canaries with forged Authentication-Results, their real SPF and DKIM broken."""
    plain = b"Subject: [{{token}}]\r\nContent-Type: text/plain\r\n\r\n{{token}}\r\n"
    senders = {}
    for number in range(15):
        template = tmp_path / f"forged{number}.eml"
        template.write_bytes(_forged_results(lab, "ab"[number % 2], number) + plain)
        senders[f"f{number}"] = agent_config.relay_sender(lab, tmp_path) | {"template": str(template)}
    lab.dkim.break_("sender.test")
    lab.spf.break_("sender.test")
    async with lab_agent(lab, tmp_path, deadline="60s", senders=senders) as agent:
        round_id = await agent.app.rounds.start(list(senders), [])
        report = await agent.app.rounds.wait(round_id, 60.0)
        assert report is not None
        database = agent.app.services.database
        found = database.read_now(lambda conn: canaries.of_round(conn, round_id))
        assert len(found) == 30
        assert all(canary.seen_at is not None for canary in found)
        passed = [
            (canary.route, method)
            for canary in found
            for method in ("spf", "dkim", "dmarc")
            if canary.verdicts.get(method) == "pass"
        ]
        assert passed == []


# --- G1: killed on real servers -----------------------------------------------------------------------------


async def test_killed_on_real_servers_nothing_is_lost(lab: Lab, tmp_path: Path) -> None:
    """G1: three kills between two providers; every message the servers stored is known, and once."""
    routes = [{"every": "1s", "deadline": "20s", "late_after": "1h"}]
    path, _ = write_config(lab, tmp_path, routes=routes, limits=UNLIMITED)
    document = yaml.safe_load(path.read_text())
    for seed in document["seeds"].values():
        seed["daily_limit"] = 10_000_000
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    agent = AgentProcess(path)
    try:
        for turn in range(3):
            await agent.start()
            wanted = len(stored_rows(tmp_path)) + 8
            await eventually(lambda w=wanted: len(stored_rows(tmp_path)) >= w, 30.0, agent.log)  # type: ignore[misc]
            await asyncio.sleep(0.1 * turn)
            await agent.kill()
        found = await settle(agent, tmp_path)
    finally:
        await agent.close()
    assert len(found) >= 24
    for canary in found:
        copies = [step for step in lab.delivery_log(canary.message_id) if step.stage == "stored"]
        assert len(copies) <= 1, canary
        assert (canary.placement is Placement.INBOX) == (len(copies) == 1), canary
        assert canary.duplicates == 0
        assert canary.placement is not Placement.MISSING
