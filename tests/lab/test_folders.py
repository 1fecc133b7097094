"""Folders of a real mailbox: configured tabs, a folder nobody configured, a junk folder that goes away."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.store import rows
from probes.outcome import Outcome, Placement
from tests.lab.agents import lab_agent
from tests.lab.world import agent_config
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab


async def test_a_configured_tab_passes_with_its_category(lab: Lab, tmp_path: Path) -> None:
    user = lab.fresh_user("a")
    lab.imap("a").create(user.address, "Werbung & Mehr")
    seed = agent_config.seed(lab, tmp_path, "a", user) | {"daily_limit": 5000}
    seed["imap"]["folders"] = {"tabs": {"promotions": "Werbung & Mehr"}}
    async with lab_agent(lab, tmp_path, deadline="25s", seeds={"a": seed}) as agent:
        lab.policy("a").rule(user.address, "DISCARD")
        sent = await agent.send("app", "a")
        letter = f"X-Mailcanary-Token: {sent.token}\r\nSubject: [{sent.token}]\r\n\r\nx\r\n".encode()
        lab.imap("a").deliver(user.address, "Werbung & Mehr", letter)
        canary = await agent.settled(sent)
        assert (canary.placement, canary.category, canary.outcome) == (
            Placement.TAB,
            "promotions",
            Outcome.PASS,
        )


async def test_a_folder_nobody_configured_is_other_and_not_missing(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, deadline="4s") as agent:
        user = agent.users["a"]
        lab.imap("a").create(user.address, "Newsletters")
        lab.policy("a").rule(user.address, "DISCARD")
        sent = await agent.send("app", "a")
        letter = f"X-Mailcanary-Token: {sent.token}\r\nSubject: [{sent.token}]\r\n\r\nx\r\n".encode()
        lab.imap("a").deliver(user.address, "Newsletters", letter)
        canary = await agent.settled(sent)
        assert (canary.placement, canary.outcome) == (Placement.OTHER, Outcome.FAIL)
        assert canary.folder == "Newsletters"


async def test_junk_folders_are_remembered_for_the_next_run(lab: Lab, tmp_path: Path) -> None:
    """A junk folder that vanishes while nobody looks makes scans incomplete (tests/contract has the reader's
    side): so the agent has to remember which there were."""
    async with lab_agent(lab, tmp_path) as agent:
        await agent.settled(await agent.send("app", "a"))
        known = agent.app.services.database.read_now(rows.mailbox_rows)
        assert known["a"]["state"] == {"junk": ["Junk"]}
