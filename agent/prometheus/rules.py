"""The whole rule file."""

from __future__ import annotations

from typing import Any

import yaml

from agent.prometheus.health import agent_alerts, party_alerts
from agent.prometheus.mail import mail_alerts
from agent.prometheus.shape import Shape
from agent.prometheus.slo import burn_alerts, recordings

HEAD = "# Made by `mailcanary rules`. Change the config and make it anew.\n"


def groups(shape: Shape) -> list[dict[str, Any]]:
    """The groups of rules."""
    found = [{"name": "mailcanary-recordings", "rules": recordings(shape)}]
    if not shape.only_agent:
        found.append({"name": "mailcanary-objectives", "rules": burn_alerts(shape)})
        found.append({"name": "mailcanary-mail", "rules": mail_alerts(shape)})
        found.append({"name": "mailcanary-parties", "rules": party_alerts(shape)})
    found.append({"name": "mailcanary-agent", "rules": agent_alerts(shape)})
    return found


class _Dumper(yaml.SafeDumper):
    """Writes expressions of several lines as blocks, so that people can read them."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def rules_file(shape: Shape) -> str:
    """The file as Prometheus reads it."""
    body = yaml.dump(
        {"groups": groups(shape)}, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True
    )
    return HEAD + body
