"""A sender whose keys, SPF and reputation break at once, on the lab's real servers; and is repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from probes.canary.state import Canary
from tests.lab.agents import LabAgent
from tests.lab.world.lab import Lab

Tree = dict[str, Any]
URL = "http://canary.example:9465"
ZONE = "domains.dnsbl.test"
RULE = {"failure_threshold": 2, "success_threshold": 2}


def catalogue(folder: Path) -> Tree:
    """The lab's domain blocklist as the config takes it."""
    zone = {
        "zone": ZONE,
        "kinds": ["domain"],
        "title": "Lab domains",
        "severity": "error",
        "status": "alive",
        "delist": "https://lists.example/delist",
        "codes": [{"code": "127.0.0.2", "text": "a source of unwanted mail", "category": "spam"}],
    }
    (folder / "zones.yaml").write_text(yaml.safe_dump({"zones": [zone]}))
    return {"zones": [ZONE], "catalogue": "zones.yaml", "every": "1h"}


def settings(folder: Path, receivers: Tree, **alerts: Any) -> Tree:
    """The sections such a test adds: a sender's listing alone waits a minute for what it may explain."""
    folder.mkdir(parents=True, exist_ok=True)
    rules = {"spam": RULE, "authentication": RULE, "listed": {"after": "1m"}}
    return {
        "agent": {"external_url": URL},
        "blocklists": catalogue(folder),
        "alerts": {"receivers": receivers, "rules": rules, **alerts},
    }


async def round_of(agent: LabAgent, *senders: str) -> list[Canary]:
    """One canary of each sender to both seeds, with its verdict; the evaluator sees all of them at once."""
    async with agent.app.evaluator._turn:
        sent = [await agent.send(sender, seed) for sender in senders for seed in ("a", "b")]
        return [await agent.settled(canary) for canary in sent]


async def break_(lab: Lab, agent: LabAgent) -> None:
    """The sender's keys and SPF no longer fit, and its domain is listed."""
    lab.dkim.break_("sender.test")
    lab.spf.break_("sender.test")
    lab.blocklists.list_("healthy-domain", "sender.test")
    await agent.app.watching.sweep(anew=True)


async def repair(lab: Lab, agent: LabAgent) -> None:
    """All of it is as it was."""
    lab.dkim.repair("sender.test")
    lab.spf.repair("sender.test")
    lab.blocklists.delist("healthy-domain", "sender.test")
    await agent.app.watching.sweep(anew=True)
