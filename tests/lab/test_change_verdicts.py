"""Changes made for real: the verdict, the named cause and the exit code of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.runner.rounds import Order
from probes.outcome import Outcome
from tests.lab.agents import LabAgent, lab_agent
from tests.lab.changes import CHANGES, Change, Scene, expired_relay
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab


ZONE = """
zones:
  - zone: healthy.dnsbl.test
    title: the lab's own
    kinds: [ipv4]
    codes: [{code: 127.0.0.2, text: listed, category: spam, severity: error}]
    status: alive
    enabled: true
"""


async def probe(agent: LabAgent, sender: str, deadline: float, baseline: str = "") -> dict[str, Any]:
    order = Order([sender], [], deadline=deadline, baseline=baseline)
    report = await agent.app.rounds.wait(await agent.app.rounds.order(order), 60.0)
    assert report is not None
    assert report["done"]
    return report


def words(report: dict[str, Any]) -> str:
    return "\n".join(verdict["words"] for verdict in report["verdicts"])


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
async def test_a_change(lab: Lab, tmp_path: Path, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.canary.track.RETRY_DELAYS", (2.0,))
    (tmp_path / "zones.yaml").write_text(ZONE)
    blocklists = {"zones": ["healthy.dnsbl.test"], "catalogue": "zones.yaml", "every": "1d"}
    resolver = {"nameservers": [lab.resolver_ip], "timeout": "1s"}
    async with lab_agent(lab, tmp_path, deadline="12s", blocklists=blocklists, resolver=resolver) as agent:
        scene = Scene(lab, agent, tmp_path / "mailcanary.yaml")
        await change.before(scene)
        before = await probe(agent, change.sender, 12.0)
        assert before["outcome"] == "pass", words(before)
        await change.make(scene)
        after = await probe(agent, change.sender, change.deadline, before["id"])
        for task in scene.later:
            await task
    assert after["outcome"] == change.outcome, words(after)
    assert change.words in words(after)
    if change.cause:
        assert change.cause in after["causes"], (after["causes"], words(after))
    assert Outcome(after["outcome"]).exit_code == {"pass": 0, "fail": 1, "unknown": 3}[change.outcome]


async def test_an_expired_certificate_at_the_relay(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path) as agent, expired_relay(tmp_path) as way:
        scene = Scene(lab, agent, tmp_path / "mailcanary.yaml")
        before = await probe(agent, "app", 12.0)
        await scene.edit(lambda tree: tree["senders"]["app"]["relay"].update(way))
        after = await probe(agent, "app", 12.0, before["id"])
    assert (after["outcome"], after["causes"]) == ("fail", ["certificate"])
    assert "certificate has expired" in words(after)


async def test_what_failed_before_is_not_blamed_on_the_change(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path) as agent:
        lab.policy("a").rule(agent.users["a"].address, "550 5.7.1 not wanted here")
        before = await probe(agent, "direct", 12.0)
        assert before["outcome"] == "fail"
        after = await probe(agent, "direct", 12.0, before["id"])
    assert (after["outcome"], after["causes"]) == ("unknown", ["failed-before"])
