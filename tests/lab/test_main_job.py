"""The main job on real mail: what the agent says of each canary is what the lab's own logs say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from probes.canary.state import Canary, State
from probes.outcome import Outcome, Placement
from tests.lab.agents import lab_agent
from tests.lab.world.lab import GTUBE, Lab

pytestmark = pytest.mark.lab
PASSED = {"spf": "pass", "dkim": "pass", "dmarc": "pass"}


def stored(lab: Lab, canary: Canary) -> list[str]:
    """The folders in which the lab's Dovecot says it stored the canary."""
    return [step.folder for step in lab.delivery_log(canary.message_id) if step.stage == "stored"]


def stages(lab: Lab, canary: Canary) -> list[str]:
    """What the lab's own logs say happened to the canary."""
    return [step.stage for step in lab.delivery_log(canary.message_id)]


@pytest.mark.parametrize("seed", ["a", "b"])
@pytest.mark.parametrize("sender", ["app", "bulk", "direct"])
async def test_a_good_canary_lands_in_the_inbox(lab: Lab, tmp_path: Path, sender: str, seed: str) -> None:
    async with lab_agent(lab, tmp_path) as agent:
        canary = await agent.settled(await agent.send(sender, seed))
        assert (canary.placement, canary.outcome) == (Placement.INBOX, Outcome.PASS)
        assert dict(canary.verdicts) | PASSED == dict(canary.verdicts)
        assert stored(lab, canary) == ["INBOX"]
        assert canary.accepted is not None
        assert canary.latency is not None
        assert canary.latency >= 0
        expected = {"connect", "ehlo", "mail", "rcpt", "data"}
        expected |= {"dns"} if sender == "direct" else {"tls", "auth"}
        assert expected <= set(canary.stages)


async def test_gtube_goes_to_junk(lab: Lab, tmp_path: Path) -> None:
    template = tmp_path / "gtube.eml"
    template.write_bytes(
        b"Subject: a test of the filter [{{token}}]\r\nContent-Type: text/plain\r\n\r\n"
        + GTUBE.encode()
        + b"\r\n{{token}}\r\n"
    )
    from tests.lab.world import agent_config

    sender = agent_config.relay_sender(lab, tmp_path) | {"template": str(template)}
    async with lab_agent(lab, tmp_path, senders={"app": sender}) as agent:
        for seed in ("a", "b"):
            canary = await agent.settled(await agent.send("app", seed))
            assert (canary.placement, canary.outcome, canary.reason) == (
                Placement.SPAM,
                Outcome.FAIL,
                "spam",
            )
            assert stored(lab, canary) == ["Junk"]


async def test_broken_dkim_and_spf_under_quarantine_go_to_junk_with_dmarc_fail(
    lab: Lab, tmp_path: Path
) -> None:
    async with lab_agent(lab, tmp_path) as agent:
        lab.dkim.break_("sender.test")
        lab.spf.break_("sender.test")
        for seed in ("a", "b"):
            canary = await agent.settled(await agent.send("app", seed))
            assert (canary.placement, canary.outcome) == (Placement.SPAM, Outcome.FAIL)
            assert canary.verdicts["dmarc"] == "fail"
            assert canary.verdicts["dkim"] not in ("pass", "none")
            assert stored(lab, canary) == ["Junk"]


async def test_a_4xx_is_deferred_and_placed_with_the_same_token(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("probes.canary.track.RETRY_DELAYS", (1.0,))
    async with lab_agent(lab, tmp_path, deadline="30s") as agent:
        address = agent.users["a"].address
        lab.policy("a").rule(address, "451 4.7.1 greylisted, come back")
        sent = await agent.send("direct", "a")
        assert sent.state is State.DEFERRED
        assert sent.reply is not None
        assert (sent.reply.code, sent.reply.enhanced, sent.reply.meaning) == (451, "4.7.1", "greylisted")
        lab.policy("a").clear(address)
        canary = await agent.settled(sent)
        assert (canary.placement, canary.outcome) == (Placement.INBOX, Outcome.PASS)
        assert canary.token == sent.token
        assert canary.attempts >= 2
        assert stored(lab, canary) == ["INBOX"]


async def test_a_5xx_is_rejected_with_its_meaning(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path) as agent:
        lab.policy("a").rule(agent.users["a"].address, "550 5.7.26 unauthenticated mail is not accepted")
        canary = await agent.settled(await agent.send("direct", "a"))
        assert (canary.placement, canary.outcome) == (Placement.REJECTED, Outcome.FAIL)
        assert canary.reply is not None
        assert (canary.reply.code, canary.reply.enhanced) == (550, "5.7.26")
        assert canary.reason == canary.reply.meaning == "unauthenticated"
        assert stored(lab, canary) == []


async def test_a_silent_drop_is_missing(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, deadline="3s") as agent:
        lab.policy("a").rule(agent.users["a"].address, "DISCARD")
        canary = await agent.settled(await agent.send("app", "a"))
        assert (canary.placement, canary.outcome) == (Placement.MISSING, Outcome.FAIL)
        assert canary.settled_at is not None
        assert canary.settled_at >= canary.deadline_wall
        assert stages(lab, canary)[-1] in ("sent", "discarded")
        assert stored(lab, canary) == []


async def test_held_then_released_is_late_once(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, deadline="3s") as agent:
        lab.postfix("a").hold()
        canary = await agent.settled(await agent.send("app", "a"))
        assert canary.placement is Placement.MISSING
        assert stored(lab, canary) == []
        lab.postfix("a").release()
        late = await agent.when(canary, lambda c: c.late)
        assert (late.placement, late.outcome, late.late) == (Placement.MISSING, Outcome.FAIL, True)
        assert stored(lab, late) == ["INBOX"]
        await asyncio.sleep(1.0)
        counted = agent.app.services.metrics.late.labels("app", "dovecot").value
        assert counted == 1


async def test_a_bounce_after_acceptance_is_bounced_with_its_code(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, deadline="30s") as agent:
        lab.bounce_after_accept("a", agent.users["a"].address, "5.7.1 we do not want it")
        canary = await agent.settled(await agent.send("app", "a"))
        assert (canary.placement, canary.outcome) == (Placement.BOUNCED, Outcome.FAIL)
        assert canary.reply is not None
        assert canary.reply.enhanced == "5.7.1"
        assert "bounced" in stages(lab, canary)


async def test_a_full_mailbox_is_the_seeds_own_fault(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path) as agent:
        lab.policy("a").rule(agent.users["a"].address, "552 5.2.2 mailbox full")
        canary = await agent.settled(await agent.send("direct", "a"))
        assert (canary.placement, canary.outcome, canary.reason) == (
            Placement.REJECTED,
            Outcome.UNKNOWN,
            "seed-fault",
        )


async def test_a_relay_that_refuses_the_login_says_nothing_about_mail(lab: Lab, tmp_path: Path) -> None:
    from tests.lab.world import agent_config

    sender = agent_config.relay_sender(lab, tmp_path)
    sender["relay"]["password"] = agent_config.secret(tmp_path, "wrong", "not-the-password")
    async with lab_agent(lab, tmp_path, senders={"app": sender}) as agent:
        canary = await agent.settled(await agent.send("app", "a"))
        assert (canary.placement, canary.outcome, canary.reason) == (
            Placement.UNKNOWN,
            Outcome.UNKNOWN,
            "sender-unreachable",
        )
