"""An incident as Prometheus and Alertmanager see it: rules load, the right alert fires and resolves, and
every panel's query returns what the store says."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from agent.config.models import Route
from agent.metrics.specs import SPECS
from agent.prometheus.rules import rules_file
from agent.prometheus.shape import Shape
from agent.store import canaries
from probes.canary.state import Canary
from tests.lab import pictures
from tests.lab.agents import LabAgent, lab_agent
from tests.lab.prometheus import Watchers, watchers
from tests.lab.world.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]
PICTURES = os.environ.get("MAILCANARY_PICTURES")
"""A folder where the dashboards are drawn from this test's data, to be looked at."""

DASHBOARDS = Path(__file__).parents[2] / "grafana" / "dashboards"
EVERY, DEADLINE = 1.0, 3.0
RANGE = "5m"
MAY_BE_EMPTY = (
    "blocklist",  # none is configured here
    "mailcanary_record_",  # none is watched
    "notification",  # no receiver either
    "offset 1h",  # there was no yesterday
    "series_refused",
    "ALERTS",
    "changes(",
    "alerts_firing",
)


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


def queries() -> list[tuple[str, str]]:
    return [
        (f"{file.stem}: {panel['title']}", filled(target["expr"]))
        for file in sorted(DASHBOARDS.glob("*.json"))
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]


async def test_an_incident(lab: Lab, tmp_path: Path) -> None:
    async with lab_agent(lab, tmp_path, serve=True) as agent:
        listen = agent.app.services.config.agent.listen
        async with watchers(tmp_path / "prometheus", listen, short_rules(agent)) as seen:
            await rules_load(seen)
            await send(agent, 1)
            await send(agent, 1, "b")
            assert not {name for name in await seen.alerts() if "Burn" in name}
            began = time.time()
            await broken(lab, agent, seen)
            await repaired(lab, agent, seen)
            await numbers_are_right(agent, seen)
            await every_panel_has_data(seen, began)
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
    sending = asyncio.create_task(send(agent, 4))

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

    async def resolved() -> bool:
        await send(agent, 1)
        await asyncio.sleep(0.5)
        return not {"MailcanaryDeliveryBurn", "MailcanaryProviderBurn"} & await seen.alerts()

    await seen.until(resolved, "an alert stayed in Alertmanager", 90.0)


async def numbers_are_right(agent: LabAgent, seen: Watchers) -> None:
    """Counters, states and times are those of the store; recording rules hold."""
    await asyncio.sleep(3.0)  # one more scrape, however busy the machine
    database = agent.app.services.database
    rounds = database.read_now(
        lambda conn: (
            canaries.of_route(conn, "direct", "a", 1000) + canaries.of_route(conn, "direct", "b", 1000)
        )
    )
    placements = Counter(str(canary.placement) for canary in rounds)
    for placement, count in placements.items():
        assert await seen.value(f'sum(mailcanary_canaries_total{{placement="{placement}"}})') == count
    outcomes = Counter(str(canary.outcome) for canary in rounds)
    for outcome in ("pass", "fail", "unknown"):
        assert (
            await seen.value(f'sum(mailcanary_canary_results_total{{outcome="{outcome}"}})')
            == outcomes[outcome]
        )
    arrived = [canary for canary in rounds if canary.latency is not None]
    assert await seen.value("sum(mailcanary_canary_delivery_seconds_count)") == len(arrived)
    total = await seen.value("sum(mailcanary_canary_delivery_seconds_sum)")
    assert total is not None
    assert math.isclose(total, sum(canary.latency or 0.0 for canary in arrived), rel_tol=1e-6)
    success = await seen.value('mailcanary_canary_last_success_timestamp_seconds{seed="a"}')
    newest = max(c.seen_at or 0.0 for c in rounds if c.seed == "a" and c.outcome == "pass")
    assert success is not None
    assert math.isclose(success, newest, abs_tol=0.001)
    assert await seen.value('mailcanary_canary_outcome{seed="a"}') == 1.0
    assert await seen.value("count(mailcanary_seed_readable == 1)") == 2.0
    recorded = await seen.query("max_over_time(sender_provider:mailcanary_canary_failures:increase6m[5m])")
    assert max(float(one["value"][1]) for one in recorded) >= 2.0


async def every_panel_has_data(seen: Watchers, began: float) -> None:
    empty = []
    for where, expression in queries():
        found = await seen.range(expression, began - 10, time.time(), 1.0)
        values = [float(value) for one in found for _, value in one["values"]]
        if not [value for value in values if not math.isnan(value)]:
            empty.append((where, expression))
    surprising = [one for one in empty if not any(part in one[1] for part in MAY_BE_EMPTY)]
    assert not surprising, surprising


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
