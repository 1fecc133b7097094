"""Draws dashboards from real data without Grafana: each panel's query as Prometheus answers it, in the
dashboard's own layout, as one HTML page. A look at the data and the layout, not at Grafana's own drawing."""

# ruff: noqa: E501 - markup is read best on one line

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Line = tuple[str, list[tuple[float, float]]]
Ask = Callable[[str, bool], list[Json]]
CELL_W, CELL_H = 60, 34
COLOURS = ("#5794f2", "#73bf69", "#ff9830", "#f2495c", "#b877d9", "#fade2a", "#8ab8ff", "#96d98d")
NAMED = {
    "green": "#56a64b", "light-green": "#96d98d", "red": "#e02f44", "dark-red": "#8b0000",
    "yellow": "#e0b400", "purple": "#a352cc", "light-purple": "#ca95e5", "orange": "#ff780a", "blue": "#3274d9", "text": "#9fa7b3",
}  # fmt: skip


def page(board: Json, ask: Ask) -> str:
    """The dashboard as HTML. ask(expression, instant): series as Prometheus' API gives them."""
    cells = "".join(_cell(panel, ask) for panel in board["panels"])
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"]) * CELL_H + 70
    return (
        "<!doctype html><meta charset=utf-8><style>"
        "body{background:#111217;color:#ccccdc;font:12px sans-serif;margin:0;"
        f"position:relative;width:{24 * CELL_W}px;height:{height}px}}h1{{font-size:18px;margin:8px}}"
        ".p{position:absolute;background:#181b1f;border:1px solid #2c3235;"
        "box-sizing:border-box;overflow:hidden;padding:4px}.t{font-weight:bold}.v{font-size:28px;text-align:center;padding:18px 0;color:#fff}"
        f"</style><h1>{html.escape(board['title'])}</h1>{cells}"
    )  # fmt: skip


def _cell(panel: Json, ask: Ask) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * CELL_W - 6, place["h"] * CELL_H - 6
    lines = [line for target in panel["targets"] for line in _lines(target, ask)]
    draw = {"stat": _stat, "bargauge": _bars}.get(panel["type"], _plot)
    body = draw(panel, lines, width - 10, height - 26) if lines else '<div class="v">no data</div>'
    style = (
        f"left:{place['x'] * CELL_W + 3}px;top:{place['y'] * CELL_H + 43}px;width:{width}px;height:{height}px"
    )
    return f'<div class="p" style="{style}"><div class="t">{html.escape(panel["title"])}</div>{body}</div>'


def _lines(target: Json, ask: Ask) -> list[Line]:
    instant = bool(target["instant"])
    found: list[Line] = []
    for series in ask(target["expr"], instant):
        points = [series["value"]] if instant else series["values"]
        values = [(float(at), float(value)) for at, value in points if not math.isnan(float(value))]
        if values:
            found.append((legend(target["legendFormat"], series["metric"]), values))
    return found


def legend(form: str, labels: Json) -> str:
    """A series' name, as the panel's form makes it from its labels."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: str(labels.get(found[1], "")), form).strip()


def _colour(panel: Json, value: float) -> str:
    colour = "green"
    for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return NAMED[colour]


def _fixed(panel: Json, name: str, index: int) -> str:
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            return NAMED[override["properties"][0]["value"]["fixedColor"]]
    return COLOURS[index % len(COLOURS)]


def _told(panel: Json, value: float) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    for mapping in defaults["mappings"]:
        if f"{value:g}" in mapping["options"]:
            return str(mapping["options"][f"{value:g}"]["text"])
    scale = {"percentunit": (100, " %"), "bytes": (2**-20, " MiB"), "s": (1, " s")}
    factor, unit = scale.get(defaults["unit"], (1, ""))
    return f"{value * factor:.4g}{unit}"


def _stat(panel: Json, lines: Sequence[Line], width: int, height: int) -> str:
    value = lines[0][1][-1][1]
    return f'<div class="v" style="background:{_colour(panel, value)}">{_told(panel, value)}</div>'


def _bars(panel: Json, lines: Sequence[Line], width: int, height: int) -> str:
    most = panel["fieldConfig"]["defaults"].get("max") or max(line[1][-1][1] for line in lines) or 1.0
    rows = []
    for name, points in lines:
        value = points[-1][1]
        style = f"background:{_colour(panel, value)};width:{max(1, value / most * width * 0.6):.0f}px"
        text = f"{html.escape(name)}: {_told(panel, value)}"
        rows.append(f'<div style="margin:5px 0">{text}<div style="{style};height:12px"></div></div>')
    return "".join(rows)


def _plot(panel: Json, lines: Sequence[Line], width: int, height: int) -> str:
    if panel["type"] == "state-timeline":
        return _timeline(panel, lines, width, height)
    height -= 34
    every = [point for _, points in lines for point in points]
    start, end = min(at for at, _ in every), max(at for at, _ in every)
    low = min(0.0, *(value for _, value in every))
    high = panel["fieldConfig"]["defaults"].get("max") or max(value for _, value in every) or 1.0
    drawn = []
    for index, (name, points) in enumerate(lines):
        path = " ".join(
            f"{(at - start) / (end - start or 1) * (width - 60) + 55:.1f},"
            f"{height - (value - low) / (high - low or 1) * (height - 10):.1f}"
            for at, value in points
        )
        drawn.append(
            f'<polyline points="{path}" fill="none" stroke="{_fixed(panel, name, index)}" stroke-width="1.5"/>'
        )
    labels = f'<text x="2" y="12" fill="#9fa7b3">{_told(panel, high)}</text>'
    labels += f'<text x="2" y="{height}" fill="#9fa7b3">{_told(panel, low)}</text>'
    legend = " ".join(
        f'<span style="color:{_fixed(panel, name, index)}">&#9644; {html.escape(name)}</span>'
        for index, (name, _) in enumerate(lines)
    )
    return f'<svg width="{width}" height="{height}">{labels}{"".join(drawn)}</svg><div>{legend}</div>'


def _timeline(panel: Json, lines: Sequence[Line], width: int, height: int) -> str:
    every = [at for _, points in lines for at, _ in points]
    start, span = min(every), max(every) - min(every) or 1
    tall = max(8, min(28, (height - 10) // len(lines)))
    drawn = []
    for row, (name, points) in enumerate(lines):
        drawn.append(
            f'<text x="2" y="{row * tall + tall * 0.7:.0f}" fill="#ccccdc">{html.escape(name)}</text>'
        )
        step = span / max(1, len(points))
        for at, value in points:
            x = 160 + (at - start) / span * (width - 170)
            drawn.append(
                f'<rect x="{x:.1f}" y="{row * tall}" width="{step / span * (width - 170) + 1:.1f}" '
                f'height="{tall - 3}" fill="{_colour(panel, value)}"/>'
            )
    return f'<svg width="{width}" height="{height}">{"".join(drawn)}</svg>'


def load(file: Path) -> Json:
    """A dashboard's JSON."""
    found: Json = json.loads(file.read_text())
    return found
