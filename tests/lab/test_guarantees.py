"""The guarantees on real servers: what tests/guarantees proves at speed, in a small form on the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from probes.canary.state import Canary, State
from probes.outcome import Outcome, Placement
from tests.lab.agents import lab_agent
from tests.lab.world import agent_config
from tests.lab.world.lab import Lab
from tests.lab.world.proxy import FaultProxy

pytestmark = pytest.mark.lab


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
