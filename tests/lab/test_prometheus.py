"""An incident as Prometheus and Alertmanager see it: rules load, the right alert fires and resolves, and
every panel's query returns what the store says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.config.models import Route
from agent.metrics.specs import SPECS
from agent.prometheus.rules import rules_file
from agent.prometheus.shape import Shape
from agent.runner.rounds import Order
from agent.store import canaries
from probes.canary.state import Canary
from tests.lab import panels, pictures
from tests.lab.agents import LabAgent, lab_agent
from tests.lab.prometheus import SCRAPE, Watchers, watchers
from tests.lab.receivers import Receivers, receivers
from tests.lab.world.agent_config import secret
from tests.lab.world.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
PICTURES = os.environ.get("MAILCANARY_PICTURES")
"""A folder where the dashboards are drawn from this test's data, to be looked at."""

DASHBOARDS = Path(__file__).parents[2] / "grafana" / "dashboards"
EVERY, DEADLINE = 1.0, 3.0
FAILED = 4
RANGE = "5m"
LISTED = ["198.51.100.7", "198.51.100.8"]
Tree = dict[str, Any]


def short_rules(agent: LabAgent) -> str:
    """Rules for canaries that are sent each second, or so: windows of seconds."""
    routes = tuple(
        Route(r.sender, r.seed, EVERY, DEADLINE, 3600.0) for r in agent.app.services.config.routes_resolved
    )
    providers = {name: seed.provider for name, seed in agent.app.services.config.seeds.items()}
    return rules_file(Shape(routes=routes, providers=providers, smallest=60.0, objective=0.95, sweep=None))


async def send(agent: LabAgent, count: int, seed: str = "a") -> list[Canary]:
    """Canaries one after the other, each with its verdict."""
    return [await agent.settled(await agent.send("direct", seed)) for _ in range(count)]


def filled(expression: str) -> str:
    """A panel's query with Grafana's variables filled in."""
    for name, value in (("$__rate_interval", "8s"), ("$__range", RANGE), ("$__interval", "8s")):
        expression = expression.replace(name, value)
    return re.sub(r"\$\w+", ".+", expression)


def targets() -> list[tuple[panels.Key, str, str]]:
    """Of each panel's queries: where it is, its expression, and how its series are called."""
    return [
        ((file.stem, panel["title"], number), target["expr"], target["legendFormat"])
        for file in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(file.read_text())["panels"]
        for number, target in enumerate(panel["targets"])
    ]


def sections(lab: Lab, folder: Path, hook: Receivers) -> Tree:
    """Something for every panel: zones of which one cannot be believed, records, a receiver that is gone."""
    names = ("healthy.dnsbl.test", "nopositive.dnsbl.test")
    known = [{"zone": name, "kinds": ["ipv4"], "status": "alive", "enabled": True} for name in names]
    (folder / "zones.yaml").write_text(yaml.safe_dump({"zones": known}))
    gone = {"webhook": {"url": secret(folder, "gone", "http://127.0.0.1:9/hook")}}
    return {
        "blocklists": {
            "zones": list(names),
            "catalogue": "zones.yaml",
            "every": "1h",
            "subjects": {"ips": LISTED, "from_senders": False},
        },
        "records": {"domains": ["sender2.test"], "from_senders": False, "contact": False},
        "alerts": {"receivers": {**hook.settings(folder), "gone": gone}},
    }


async def test_an_incident(lab: Lab, tmp_path: Path) -> None:
    async with (
        receivers() as hook,
        lab_agent(lab, tmp_path, serve=True, **sections(lab, tmp_path, hook)) as agent,
        watchers(tmp_path / "prometheus", agent.app.services.config.agent.listen, short_rules(agent)) as seen,
    ):
        await rules_load(seen)
        await send(agent, 1)
        await send(agent, 1, "b")
        assert not {name for name in await seen.alerts() if "Burn" in name}
        began = time.time()
        await broken(lab, agent, seen)
        await repaired(lab, agent, seen)
        earlier = await odds_and_ends(lab, agent)
        await panels_are_right(agent, seen, earlier)
        await recordings_hold(seen)
        await every_metric_is_there(seen)
        if PICTURES:
            await draw(seen, began, Path(PICTURES))


async def rules_load(seen: Watchers) -> None:
    groups = (await seen.get(f"{seen.prometheus}/api/v1/rules"))["data"]["groups"]
    assert {group["name"] for group in groups} >= {"mailcanary-recordings", "mailcanary-objectives"}

    async def healthy() -> bool:
        now = (await seen.get(f"{seen.prometheus}/api/v1/rules"))["data"]["groups"]
        return all(rule["health"] == "ok" for group in now for rule in group["rules"])

    await seen.until(healthy, "a rule is not well")
    # increase() counts from the first scrape on.
    await seen.until(lambda: seen.query("count_over_time(up[1m]) > 1"), "nothing was scraped")


async def broken(lab: Lab, agent: LabAgent, seen: Watchers) -> None:
    """Canaries of one seed are rejected: the burn-rate alerts of the pair and of its provider fire."""
    lab.policy("a").rule(agent.users["a"].address, "550 5.7.1 we do not like your mail")
    sending = asyncio.create_task(send(agent, FAILED))

    async def fires() -> bool:
        return {"MailcanaryDeliveryBurn", "MailcanaryProviderBurn"} <= await seen.alerts()

    await seen.until(fires, "no alert fired in Alertmanager", 60.0)
    lost = await sending
    assert {canary.placement for canary in lost} == {"rejected"}
    found = await seen.query('ALERTS{alertname="MailcanaryDeliveryBurn",alertstate="firing"}')
    assert {(one["metric"]["sender"], one["metric"]["provider"]) for one in found} == {("direct", "dovecot")}
    failing = await seen.until(lambda: seen.query("mailcanary_canary_outcome == 0"), "no route fails")
    assert {(one["metric"]["sender"], one["metric"]["seed"]) for one in failing} == {("direct", "a")}


async def repaired(lab: Lab, agent: LabAgent, seen: Watchers) -> None:
    """Mail arrives again: what fired resolves in Alertmanager."""
    lab.policy("a").clear(agent.users["a"].address)
    # The slowest pair of windows resolves once less than one in twenty has failed.
    await asyncio.gather(*(send(agent, 1, seed) for seed in "ab" for _ in range(FAILED * 12)))

    async def resolved() -> bool:
        return not {"MailcanaryDeliveryBurn", "MailcanaryProviderBurn"} & await seen.alerts()

    await seen.until(resolved, "an alert stayed in Alertmanager", 120.0)


async def odds_and_ends(lab: Lab, agent: LabAgent) -> list[panels.Row]:
    """A late canary, a second copy, a seed's own fault, a listing, a changed record. Returns the zones' rows
    of the sweep before the last."""
    app, address = agent.app, agent.users["a"].address
    app.watching.retries, app.watching.retry_after = 1, 0.1
    await app.watching.sweep(anew=True)
    swept = app.services.database.read_now(lambda conn: panels.read(conn, app.services.config)).zones
    lab.blocklists.list_("healthy", LISTED[0])
    await app.watching.sweep(anew=True)
    await app.recording.look(app.services.config, "sender2.test")
    lab.dns.set("_dmarc.sender2.test", "TXT", "v=DMARC1; p=reject")
    await asyncio.sleep(2.0)  # until nobody remembers the record of before
    await app.recording.look(app.services.config, "sender2.test")
    lab.postfix("a").hold(address)
    round_id = await app.rounds.order(Order(["direct"], ["a"], deadline=2.0))
    (missing,) = await _sent(agent, round_id)
    await agent.when(missing, lambda c: c.placement == "missing")
    lab.postfix("a").release(address)
    late = await agent.when(missing, lambda c: c.late)
    (message,) = [m for m in lab.imap("a").messages(address) if late.message_id.encode() in m.text]
    lab.imap("a").deliver(address, "INBOX", message.text)
    await agent.when(late, lambda c: c.duplicates == 1)
    lab.policy("b").rule(agent.users["b"].address, "552 5.2.2 mailbox full")
    await send(agent, 1, "b")
    return list(swept)


async def _sent(agent: LabAgent, round_id: str) -> list[Canary]:
    def look() -> list[Canary]:
        return agent.app.services.database.read_now(lambda conn: canaries.of_round(conn, round_id))

    while not look():
        await asyncio.sleep(0.05)
    return look()


async def at_rest(agent: LabAgent, seen: Watchers, earlier: list[panels.Row]) -> tuple[panels.Truth, float]:
    """What the store says, and the moment of a scrape that must say the same."""

    def look() -> panels.Truth:
        config = agent.app.services.config
        return agent.app.services.database.read_now(lambda conn: panels.read(conn, config, earlier))

    for _ in range(10):
        before, start = look(), await scraped(seen)
        while await scraped(seen) < start + 2.5 * SCRAPE:
            await asyncio.sleep(0.2)
        at = await scraped(seen)
        if look() == before:
            return before, at
    raise AssertionError("the store never came to rest")


async def scraped(seen: Watchers) -> float:
    """When the agent was last scraped, by Prometheus' clock."""
    at = await seen.value("timestamp(mailcanary_time_seconds)")
    assert at is not None
    return at


async def panels_are_right(agent: LabAgent, seen: Watchers, earlier: list[panels.Row]) -> None:
    """Each query of each panel returns what the store says: counters to the last one, states as they are."""
    truth, at = await at_rest(agent, seen, earlier)
    wrong = []
    for key, expression, form in targets():
        found = await seen.query(_whole(expression), at)
        instance = agent.app.services.config.agent.listen
        shown = {
            pictures.legend(form, one["metric"]).replace(instance, "").strip(): float(one["value"][1])
            for one in found
        }
        wrong += panels.complaints(key, shown, truth, at)
    assert not wrong, "\n".join(wrong)
    series = await seen.value("mailcanary_exposition_series")
    assert series == await seen.value("scrape_samples_scraped")


def _whole(expression: str) -> str:
    """The query over all the time there was; but CPU a second, over the last few."""
    short = "process_cpu" in expression
    for name in ("$__rate_interval", "$__range", "$__interval"):
        expression = expression.replace(name, "8s" if short else "30m")
    return filled(expression)


async def recordings_hold(seen: Watchers) -> None:
    """Recording rules saw the incident."""
    recorded = await seen.query("max_over_time(sender_provider:mailcanary_canary_failures:increase6m[5m])")
    assert max(float(one["value"][1]) for one in recorded) >= 2.0


async def every_metric_is_there(seen: Watchers) -> None:
    """What a scrape brought is in the table, with that type."""
    metadata = (await seen.get(f"{seen.prometheus}/api/v1/metadata"))["data"]
    table = {spec.full_name: spec.type for spec in SPECS}
    found = {name: facts[0]["type"] for name, facts in metadata.items() if name.startswith("mailcanary_")}
    assert found == table


async def draw(seen: Watchers, began: float, folder: Path) -> None:
    """Writes each dashboard as HTML, its panels filled with what Prometheus says."""
    answers: dict[tuple[str, bool], list[dict[str, object]]] = {}
    boards = [pictures.load(file) for file in sorted(DASHBOARDS.glob("*.json"))]
    for target in (t for board in boards for panel in board["panels"] for t in panel["targets"]):
        key = (target["expr"], target["instant"])
        expression = filled(target["expr"])
        now = (
            await seen.query(expression)
            if key[1]
            else await seen.range(expression, began - 10, time.time(), 1.0)
        )
        answers[key] = now
    folder.mkdir(parents=True, exist_ok=True)
    for board in boards:
        text = pictures.page(board, lambda expression, instant: answers[expression, instant])
        (folder / f"{board['uid']}.html").write_text(text)
