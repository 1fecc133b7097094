"""The documentation of the metrics is what the agent exports, and promtool finds nothing to mend."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import yaml

from agent.app import open_app
from agent.config.load import load
from agent.metrics.process import Metrics
from agent.metrics.specs import PROCESS, SPECS
from agent.metrics.table import markdown
from tests.fakes.metrics import NOW, fill
from tests.promtool import promtool

PAGE = Path(__file__).parents[2] / "grafana" / "METRICS.md"
CONFIG = {
    "agent": {"allow_plain_secrets": True},
    "senders": {"app": {"from": "a@x.test", "relay": {"host": "127.0.0.1", "port": 1, "security": "none"}}},
    "seeds": {"one": {"provider": "gmail", "address": "s@gmail.com", "password": "x"}},
    "blocklists": {},
}  # fmt: skip


def scrape(tmp_path: Path) -> str:
    """What an agent that has just started exports."""

    async def read() -> str:
        path = tmp_path / "mailcanary.yaml"
        path.write_text(yaml.safe_dump(CONFIG))
        app = await open_app(load(path), scheduled=False)
        try:
            app.services.metrics.speaks = lambda: True
            app.services.metrics.add(app._states)
            app.services.metrics.add(app._own_states, own=True)
            app.configuring.configure_metrics(app.services.config)
            return (await asyncio.to_thread(app.services.metrics.render)).decode()
        finally:
            await app.close()

    return asyncio.run(read())


def exported(text: str) -> dict[str, str]:
    return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))


def test_the_page_is_made_from_the_code() -> None:
    assert PAGE.read_text() == markdown(), "python -m agent.metrics.table > grafana/METRICS.md"


def test_every_metric_exported_is_in_the_table_and_every_one_in_the_table_is_exported(tmp_path: Path) -> None:
    table = {spec.full_name: spec.type for spec in SPECS}
    table |= {name: kind for name, (kind, _) in PROCESS.items()}
    assert exported(scrape(tmp_path)) == table


def test_labels_are_those_of_the_table() -> None:
    metrics = Metrics(lambda: NOW)
    fill(metrics, ["s"], ["a"])
    labels = {spec.full_name: set(spec.labels) for spec in SPECS}
    for line in metrics.render().decode().splitlines():
        name, _, inside = line.partition("{")
        base = re.sub(r"_(bucket|count|sum)$", "", name)
        if inside and base in labels:
            assert set(re.findall(r'(\w+)="', inside)) - {"le"} == labels[base], line


def test_promtool_check_metrics(tmp_path: Path) -> None:
    assert promtool("check", "metrics", text=scrape(tmp_path).encode()) == ""
    metrics = Metrics(lambda: NOW)
    fill(metrics, ["s", 'quo"te'], ["a", "b"])
    assert promtool("check", "metrics", text=metrics.render()) == ""
