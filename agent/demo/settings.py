"""The config file of the demo: an ordinary one, with short intervals, for the unmodified agent."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import yaml

from agent.demo.provider import Plan
from agent.demo.world import DOMAIN_ZONE, ORIGINS, PROVIDERS, SELECTOR, ZONE, Origin, World

Tree = dict[str, Any]

EVERY = 4
"""Seconds between the canaries of a route; in earnest these are minutes."""

_HEAD = """\
# Written by `mailcanary demo`: an ordinary config, but for its short intervals and its servers on loopback.
"""


def write(world: World) -> Path:
    """Writes config, catalogue and secrets into the world's folder; returns the config's path."""
    catalogue = world.folder / "zones.yaml"
    catalogue.write_text(yaml.safe_dump({"zones": _zones()}, sort_keys=False))
    path = world.folder / "mailcanary.yaml"
    path.write_text(_HEAD + yaml.safe_dump(_document(world), sort_keys=False))
    return path


def _secret(folder: Path, name: str, value: str) -> Tree:
    path = folder / name
    path.touch(mode=0o600)
    path.write_text(value)
    return {"file": name}


def _document(world: World) -> Tree:
    listen = f"127.0.0.1:{_free_port()}"
    return {
        "agent": {
            "name": "demo",
            "store": "sqlite:///mailcanary.db",
            "listen": listen,
            "external_url": f"http://{listen}",
        },
        "resolver": {"nameservers": [world.dns.address]},
        "senders": {origin.name: _sender(world, origin) for origin in ORIGINS},
        "seeds": {plan.name: _seed(world, plan) for plan in PROVIDERS},
        "routes": [{"every": f"{EVERY}s", "deadline": "20s", "late_after": "1h"}],
        "limits": {"per_seed_per_day": 100_000, "per_provider_per_minute": 600},
        "blocklists": {
            "zones": [ZONE, DOMAIN_ZONE],
            "catalogue": "zones.yaml",
            "every": "4s",
        },
        "alerts": _alerts(world),
    }


def _sender(world: World, origin: Origin) -> Tree:
    sender: Tree = {
        "from": f"{origin.title} <hello@{origin.domain}>",
        "return_path": origin.return_path,
    }
    if origin.way == "direct":
        key = world.keys[origin.name].key.decode()
        sender["direct"] = {"source_ip": origin.ip, "helo": origin.host, "port": world.mx_port}
        sender["dkim"] = {
            "domain": origin.domain,
            "selector": SELECTOR,
            "key": _secret(world.folder, f"{origin.name}.dkim", key),
        }
        return sender
    relay = world.relays[origin.name]
    sender["relay"] = {
        "host": relay.name,
        "port": relay.port,
        "security": origin.way,
        "username": relay.login.username,
        "password": _secret(world.folder, f"{origin.name}.password", relay.login.password),
        "ca_file": world.authority.ca_file.name,
    }
    return sender


def _seed(world: World, plan: Plan) -> Tree:
    port = next(p.imap.port for p in world.providers if p.plan is plan)
    return {
        "provider": plan.preset,
        "address": plan.seed,
        "username": plan.seed,
        "password": _secret(world.folder, f"{plan.name}.password", world.passwords[plan.name]),
        "imap": {
            "host": plan.ip,
            "port": port,
            "ca_file": world.authority.ca_file.name,
            "authserv_ids": [plan.mx],
            "border": [plan.mx],
        },
        "daily_limit": 100_000,
    }


def _alerts(world: World) -> Tree:
    receivers = world.receivers
    return {
        "receivers": {
            "chat": {"slack": {"url": _secret(world.folder, "slack.url", receivers.slack_url)}},
            "oncall": {
                "pagerduty": {
                    "routing_key": _secret(world.folder, "pagerduty.key", "demo" * 8),
                    "url": receivers.pagerduty_url,
                }
            },
        },
        # A listing alone is told after half a minute: until then it is the likely cause of what it causes.
        "rules": {"listed": {"after": "30s"}},
    }


def _zones() -> list[Tree]:
    words: Tree = {"severity": "error", "delist": "https://blocks.example/delist", "status": "alive"}
    words["codes"] = [{"code": "127.0.0.2", "text": "a source of unwanted mail", "category": "spam"}]
    return [
        {"zone": ZONE, "kinds": ["ipv4"], "title": "Demo blocklist", **words},
        {"zone": DOMAIN_ZONE, "kinds": ["domain"], "title": "Demo domain blocklist", **words},
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
