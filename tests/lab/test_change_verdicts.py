"""Changes made for real: the verdict, the named cause and the exit code of each."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from tests.lab.acts import Scene
from tests.lab.agents import LabAgent, lab_agent
from tests.lab.changes import CHANGES, Change
from tests.lab.policy_host import authorities
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab
Report = dict[str, Any]

ZONE = """
zones:
  - zone: healthy.dnsbl.test
    title: the lab's own
    kinds: [ipv4]
    codes: [{code: 127.0.0.2, text: listed, category: spam, severity: error}]
    status: alive
    enabled: true
"""


async def probe(agent: LabAgent, sender: str, deadline: float, baseline: str = "") -> tuple[Report, int]:
    """The command's own report and exit code, through the running agent."""
    output = agent.folder / "report.json"
    arguments = ["--config", str(agent.folder / "mailcanary.yaml"), "probe", "--sender", sender]
    arguments += ["--deadline", f"{deadline:g}s", "--format", "json", "--output", str(output)]
    arguments += ["--baseline", baseline] if baseline else []
    code = await asyncio.to_thread(main, arguments)
    report = json.loads(output.read_text())
    assert report["done"]
    return report, code


def words(report: Report) -> str:
    return "\n".join(verdict["words"] for verdict in report["verdicts"])


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_a_change(lab: Lab, tmp_path: Path, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.canary.track.RETRY_DELAYS", (2.0,))
    (tmp_path / "zones.yaml").write_text(ZONE)
    sections = {
        "blocklists": {"zones": ["healthy.dnsbl.test"], "catalogue": "zones.yaml", "every": "1d"},
        "resolver": {"nameservers": [lab.resolver_ip], "timeout": "1s"},
        "records": {
            "from_senders": False,
            "allow_loopback": True,
            "ca_file": authorities(lab, tmp_path),
        },
    }
    async with (
        lab_agent(lab, tmp_path, serve=True, deadline="12s", **sections) as agent,
        AsyncExitStack() as stack,
    ):
        scene = Scene(lab, agent, tmp_path / "mailcanary.yaml", stack)
        await change.before(scene)
        before, code = await probe(agent, change.sender, 12.0)
        assert (before["outcome"], code) == ("pass", 0), words(before)
        await change.make(scene)
        after, code = await probe(agent, change.sender, change.deadline, before["id"])
        for task in scene.later:
            await task
    assert after["outcome"] == change.outcome, words(after)
    assert code == {"pass": 0, "fail": 1, "unknown": 3}[change.outcome]
    assert change.words in words(after)
    assert ", ".join(after["causes"]) == change.cause, words(after)


async def test_what_failed_before_is_not_blamed_on_the_change(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, serve=True) as agent:
        lab.policy("a").rule(agent.users["a"].address, "550 5.7.1 not wanted here")
        before, code = await probe(agent, "direct", 12.0)
        assert (before["outcome"], code) == ("fail", 1)
        after, code = await probe(agent, "direct", 12.0, before["id"])
    assert (after["outcome"], after["causes"], code) == ("unknown", ["failed-before"], 3)
