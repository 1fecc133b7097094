"""Dashboards: what the code makes, complete, and speaking only of metrics that exist."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.metrics.specs import PROCESS, SPECS
from agent.prometheus.rules import groups
from agent.prometheus.shape import Shape
from tests.promtool import find, promtool

GRAFANA = Path(__file__).parents[2] / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
GLOBALS = {"$__rate_interval": "1m", "$__range": "1h", "$__interval": "1m"}
Json = dict[str, Any]


def boards() -> list[Json]:
    return [json.loads(file.read_text()) for file in FILES]


def panels() -> list[tuple[str, Json]]:
    return [(board["title"], panel) for board in boards() for panel in board["panels"]]


def plain(expression: str) -> str:
    """The query with Grafana's variables filled in."""
    for name, value in GLOBALS.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$\w+", ".+", expression)


def queries() -> list[str]:
    found = [target["expr"] for _, panel in panels() for target in panel["targets"]]
    found += [note["expr"] for board in boards() for note in board["annotations"]["list"]]
    return [plain(expression) for expression in found]


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"\b((?:mailcanary|process)_\w+)", re.sub(r'"[^"]*"', '""', expression)))


def known() -> set[str]:
    names = {spec.full_name for spec in SPECS} | set(PROCESS)
    histograms = [spec.full_name for spec in SPECS if spec.type == "histogram"]
    return names | {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}


def test_the_files_are_what_the_code_makes() -> None:
    sys.path.insert(0, str(GRAFANA))
    try:
        from boards import BOARDS  # type: ignore[import-not-found]
        from build import to_json  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(GRAFANA))
    made = {board.uid: to_json(board) for board in BOARDS}
    assert {board["uid"]: board for board in boards()} == json.loads(json.dumps(made)), (
        "python grafana/build.py"
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_dashboard_is_fit_for_provisioning(file: Path) -> None:
    board = json.loads(file.read_text())
    assert board["uid"] == file.stem
    assert len(board["uid"]) <= 40
    assert board["editable"] is False
    assert board["description"]
    assert "id" not in board
    names = [variable["name"] for variable in board["templating"]["list"]]
    assert names[:3] == ["datasource", "job", "instance"]
    for variable in board["templating"]["list"][1:]:
        assert variable["multi"]
        assert variable["allValue"] == ".+"
        assert variable["refresh"] == 2
    used = set(re.findall(r"\$\{?(\w+)", file.read_text())) - {name[1:] for name in GLOBALS} - {"__all"}
    assert used <= set(names)


@pytest.mark.parametrize(("board", "panel"), panels(), ids=lambda value: str(value)[:40])
def test_a_panel_says_what_it_shows(board: str, panel: Json) -> None:
    assert panel["title"], board
    assert len(panel["description"]) > 15
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert 'job=~"$job"' in target["expr"]
        assert not re.search(r"rate\([^\[]*\[\d", target["expr"]), "rate() wants $__rate_interval"


def test_panels_do_not_overlap() -> None:
    for board in boards():
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in board["panels"])
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(cells) == len(set(cells)), board["title"]
        assert max(x for x, _ in cells) < 24


def test_every_metric_of_a_query_or_rule_exists() -> None:
    rules = [rule["expr"] for group in groups(Shape()) for rule in group["rules"]]
    recorded = {rule["record"] for group in groups(Shape()) for rule in group["rules"] if "record" in rule}
    for expression in [*queries(), *rules]:
        for name in recorded:
            expression = expression.replace(name, "")
        assert metrics_in(expression) <= known(), expression


def test_every_example_of_the_table_and_every_query_is_promql(tmp_path: Path) -> None:
    examples = [spec.example for spec in SPECS]
    rules = [{"record": f"q{n}", "expr": text} for n, text in enumerate([*queries(), *examples])]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_every_alert_has_its_texts_and_its_runbook() -> None:
    uids = {board["uid"] for board in boards()}
    pages = Path(__file__).parents[2] / "alerts" / "runbooks"
    for rule in (rule for group in groups(Shape()) for rule in group["rules"] if "alert" in rule):
        assert rule["alert"].startswith("Mailcanary")
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        notes = rule["annotations"]
        assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}
        assert (pages / f"{notes['runbook_url'].rpartition('/')[2]}.md").is_file()
        assert notes["dashboard_url"].rpartition("/")[2] in uids


def test_prometheus_and_alertmanager_take_their_files() -> None:
    promtool("check", "config", "--syntax-only", GRAFANA / "prometheus" / "prometheus.yml")
    import subprocess

    file = GRAFANA / "prometheus" / "alertmanager.yml"
    subprocess.run([find("amtool"), "check-config", str(file)], check=True, capture_output=True, timeout=30)


def test_compose_mounts_what_is_there() -> None:
    compose = yaml.safe_load((GRAFANA / "compose.yaml").read_text())
    assert set(compose["services"]) == {"agent", "prometheus", "alertmanager", "grafana"}
    volumes = set(compose["volumes"])
    for service in compose["services"].values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert source in volumes or source == "./mailcanary.yaml" or (GRAFANA / source).exists(), source
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/mailcanary.yaml").read_text())["providers"][
        0
    ]
    grafana = compose["services"]["grafana"]["volumes"]
    assert f"./dashboards:{provider['options']['path']}:ro" in grafana
    assert yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())["datasources"]
