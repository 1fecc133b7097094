"""Makes the dashboards: `python grafana/build.py` writes dashboards/*.json. A test keeps both equal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCOPE = 'job=~"$job",instance=~"$instance"'
PAIR = f'{SCOPE},sender=~"$sender",provider=~"$provider"'
ROUTE = f'{SCOPE},sender=~"$sender",seed=~"$seed"'
GREEN, YELLOW, RED, BLUE, GREY = "green", "yellow", "red", "blue", "text"
FIRING = 'ALERTS{alertname=~"Mailcanary.*",alertstate="firing"}'
Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """One PromQL expression and how its series are called."""

    expr: str
    legend: str = ""
    instant: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel: kind is Grafana's own word; width in 24ths, height in rows."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    steps: tuple[tuple[str, float | None], ...] = ((GREEN, None),)
    stack: bool = False
    bars: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    decimals: int | None = None
    mappings: tuple[tuple[str, str, str], ...] = ()
    colours: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Dashboard:
    """One dashboard; variables: which of sender, provider, seed, subject, zone it has."""

    uid: str
    title: str
    description: str
    variables: tuple[str, ...]
    panels: tuple[Panel, ...]
    since: str = "now-24h"
    annotations: tuple[str, ...] = field(default=("incidents", "reloads", "versions"))


VARIABLES = {
    "job": ("mailcanary_build_info", "Job"),
    "instance": ('mailcanary_build_info{job=~"$job"}', "Agent"),
    "sender": ('mailcanary_canary_results_total{job=~"$job",instance=~"$instance"}', "Sender"),
    "provider": ('mailcanary_seed_info{job=~"$job",instance=~"$instance"}', "Provider"),
    "seed": ('mailcanary_seed_info{job=~"$job",instance=~"$instance",provider=~"$provider"}', "Seed"),
    "zone": ('mailcanary_blocklist_zone_healthy{job=~"$job",instance=~"$instance"}', "Zone"),
}
ANNOTATIONS = {
    "changes": (
        "Announced changes",
        GREEN,
        f"sum(mailcanary_changes_open{{{SCOPE}}}) != sum(mailcanary_changes_open{{{SCOPE}}} offset 1m)",
        "a change was started or finished",
    ),
    "incidents": (
        "Incidents of the agent",
        RED,
        f"sum(mailcanary_alerts_firing{{{SCOPE}}}) > sum(mailcanary_alerts_firing{{{SCOPE}}} offset 1m)",
        "an alert began",
    ),
    "reloads": (
        "Config changes",
        BLUE,
        f"changes(mailcanary_config_last_reload_success_timestamp_seconds{{{SCOPE}}}[1m]) > 0",
        "config loaded",
    ),
    "versions": (
        "Starts",
        GREY,
        f"changes(process_start_time_seconds{{{SCOPE}}}[1m]) > 0 and on (job) mailcanary_build_info",
        "the agent started",
    ),
    "listings": (
        "Listings",
        YELLOW,
        f"mailcanary_blocklist_listed{{{SCOPE}}} unless mailcanary_blocklist_listed{{{SCOPE}}} offset 2m",
        "{{subject}} listed in {{zone}}",
    ),
    "drift": (
        "Record changes",
        BLUE,
        f"increase(mailcanary_record_changes_total{{{SCOPE}}}[2m]) > 0",
        "{{kind}} of {{domain}} changed",
    ),
    "alerts": (
        "Alerts of Prometheus",
        RED,
        f"{FIRING} unless {FIRING} offset 2m",
        "{{alertname}} {{sender}} {{provider}}",
    ),
}


def _variable(name: str) -> Json:
    query, label = VARIABLES[name]
    text = f"label_values({query}, {name})"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": text,
        "query": {"query": text, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


def _datasource() -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }


def _annotation(name: str) -> Json:
    title, colour, expr, text = ANNOTATIONS[name]
    return {
        "name": title,
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": colour,
        "expr": expr,
        "step": "1m",
        "titleFormat": text,
        "target": {"expr": expr, "interval": "1m", "refId": "Anno"},
    }


def _targets(panel: Panel) -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": query.expr,
            "legendFormat": query.legend or "__auto",
            "instant": query.instant,
            "range": not query.instant,
            "format": "table" if panel.kind == "table" else "time_series",
        }
        for index, query in enumerate(panel.queries)
    ]


def _defaults(panel: Panel) -> Json:
    steps = [{"color": colour, "value": value} for colour, value in panel.steps]
    found: Json = {
        "unit": panel.unit,
        "color": {"mode": "palette-classic" if panel.kind == "timeseries" else "thresholds"},
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [
            {"type": "value", "options": {value: {"text": text, "color": colour, "index": index}}}
            for index, (value, text, colour) in enumerate(panel.mappings)
        ],
        "noValue": "none",
        "custom": {},
    }
    found |= {
        key: value for key, value in (("min", panel.minimum), ("max", panel.maximum)) if value is not None
    }
    if panel.decimals is not None:
        found["decimals"] = panel.decimals
    if panel.kind == "timeseries":
        found["custom"] = {
            "drawStyle": "bars" if panel.bars else "line",
            "fillOpacity": 60 if panel.bars or panel.stack else 10,
            "lineWidth": 1,
            "showPoints": "auto",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stack else "none", "group": "A"},
        }
    return found


OPTIONS: dict[str, Json] = {
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "auto",
        "orientation": "auto",
        "textMode": "auto",
    },
    "bargauge": {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "displayMode": "lcd",
        "orientation": "horizontal",
        "showUnfilled": True,
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.9,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "table": {
        "showHeader": True,
        "cellHeight": "sm",
        "footer": {"show": False, "reducer": ["sum"], "fields": ""},
    },
}


def _panel(panel: Panel, number: int, x: int, y: int) -> Json:
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in panel.colours
    ]
    made: Json = {
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": _defaults(panel), "overrides": overrides},
        "options": OPTIONS[panel.kind],
        "targets": _targets(panel),
    }
    if panel.kind == "table":
        hidden = dict.fromkeys(("Time", "__name__", "job", "instance", "Value"), True)
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return made


def _laid_out(panels: Sequence[Panel]) -> list[Json]:
    made, x, y, tallest = [], 0, 0, 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > 24:
            x, y, tallest = 0, y + tallest, 0
        made.append(_panel(panel, number, x, y))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return made


def _link(title: str, url: str) -> Json:
    return {
        "title": title,
        "type": "link",
        "url": url,
        "icon": "external link",
        "targetBlank": True,
        "tags": [],
        "asDropdown": False,
        "includeVars": False,
        "keepTime": False,
        "tooltip": title,
    }


def to_json(board: Dashboard) -> Json:
    """The dashboard as Grafana reads it."""
    siblings = _link("Mailcanary", "")
    siblings |= {"type": "dashboards", "tags": ["mailcanary"], "asDropdown": True, "includeVars": True,
                 "keepTime": True, "targetBlank": False}  # fmt: skip
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["mailcanary"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "version": 1,
        "refresh": "1m",
        "time": {"from": board.since, "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "weekStart": "",
        "fiscalYearStartMonth": 0,
        "liveNow": False,
        "links": [
            siblings,
            _link("Agent", "http://127.0.0.1:9465/"),
            _link("Runbooks", "http://127.0.0.1:9465/runbooks/missing"),
        ],
        "templating": {"list": [_datasource(), *map(_variable, ("job", "instance", *board.variables))]},
        "annotations": {"list": [_annotation(name) for name in board.annotations]},
        "panels": _laid_out(board.panels),
    }


def main() -> None:
    """Writes every dashboard."""
    from boards import BOARDS

    for board in BOARDS:
        path = HERE / "dashboards" / f"{board.uid}.json"
        path.write_text(json.dumps(to_json(board), indent=2) + "\n")


if __name__ == "__main__":
    main()
