"""One rule of a Prometheus rule file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from agent.prometheus.shape import Shape
from agent.prometheus.windows import duration

Rule = dict[str, Any]
Severity = Literal["critical", "warning", "info"]


def record(name: str, expression: str) -> Rule:
    """A recording rule; its name is level:metric:operations."""
    return {"record": name, "expr": expression}


def alert(
    shape: Shape,
    name: str,
    expression: str,
    *,
    severity: Severity,
    summary: str,
    description: str,
    runbook: str,
    dashboard: str,
    lasting: float = 0.0,
    labels: Mapping[str, str] | None = None,
) -> Rule:
    """An alerting rule. lasting: seconds it must hold; runbook, dashboard: the names of their pages."""
    rule: Rule = {"alert": name, "expr": expression}
    if lasting:
        rule["for"] = duration(lasting)
    rule["labels"] = {"severity": severity, **(labels or {})}
    rule["annotations"] = {
        "summary": summary,
        "description": description,
        "runbook_url": f"{shape.runbooks}/{runbook}",
        "dashboard_url": f"{shape.grafana}/d/mailcanary-{dashboard}",
    }
    return rule
