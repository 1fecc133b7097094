"""A ready configuration file of the agent for a running lab."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from .lab import Lab, User

Tree = dict[str, Any]


def secret(folder: Path, name: str, value: str) -> Tree:
    """Puts a secret into a file of its own and returns how a configuration refers to it."""
    path = folder / f"{name}.secret"
    path.touch(mode=0o600)
    path.write_text(value)
    return {"file": str(path)}


def relay_sender(lab: Lab, folder: Path, name: str = "app", security: str = "starttls") -> Tree:
    """The settings of a sender that submits to the lab's relay (tls, starttls or none)."""
    relay = lab.relay(name)
    port = {"tls": relay.tls_port, "starttls": relay.starttls_port, "none": relay.plain_port}[security]
    way: Tree = {"host": relay.ip, "port": port, "security": security, "username": relay.username}
    way["password"] = secret(folder, f"relay-{name}", relay.password)
    if security != "none":
        way["ca_file"] = str(lab.ca_file)
    sender = relay.sender
    return {"from": f"Lab <noreply@{sender.domain}>", "return_path": sender.return_path, "relay": way}


def direct_sender(lab: Lab) -> Tree:
    """The settings of the sender that delivers to the MX itself and signs with its RSA key."""
    sender = lab.direct_sender
    return {
        "from": f"Lab <noreply@{sender.domain}>",
        "return_path": sender.return_path,
        "direct": {"source_ip": sender.source_ip, "helo": sender.helo},
        "dkim": {
            "domain": sender.domain,
            "selector": sender.rsa.selector,
            "key": {"file": str(sender.rsa.path)},
        },
    }


def seed(lab: Lab, folder: Path, provider: str, user: User) -> Tree:
    """The settings of a seed at provider a or b."""
    there = lab.provider(provider)
    imap: Tree = {
        "host": user.imap_ip,
        "port": user.imap_port,
        "security": "tls",
        "ca_file": str(lab.ca_file),
    }
    imap |= {"authserv_ids": list(there.authserv_ids), "border": [there.mx_host], "below_border": 1}
    return {
        "provider": "dovecot",
        "address": user.address,
        "username": user.address,
        "password": secret(folder, user.address, user.password),
        "imap": imap,
    }


def bounces(lab: Lab, folder: Path, address: str = "bounce@sender.test") -> Tree:
    """The settings of the mailbox that bounces return to."""
    user = lab.user(address)
    imap: Tree = {
        "host": user.imap_ip,
        "port": user.imap_port,
        "security": "tls",
        "ca_file": str(lab.ca_file),
    }
    password = secret(folder, f"bounces-{address}", user.password)
    return {
        "provider": "generic",
        "address": address,
        "username": address,
        "password": password,
        "imap": imap,
    }


def write_config(
    lab: Lab, folder: Path, *, listen: str = "127.0.0.1:9465", sections: Mapping[str, Any] | None = None
) -> Path:
    """Writes mailcanary.yaml: three senders, a fresh seed at each provider, the healthy blocklists.

    `sections` replaces whole top-level sections (senders, seeds, routes, ...).
    """
    folder.mkdir(parents=True, exist_ok=True)
    users: Iterable[tuple[str, User]] = [(p, lab.fresh_user(p)) for p in ("a", "b")]
    document: Tree = {
        "agent": {"name": "lab", "store": f"sqlite:///{folder}/mailcanary.db", "listen": listen},
        "resolver": {"nameservers": [lab.resolver_ip]},
        "senders": {
            "app": relay_sender(lab, folder),
            "bulk": relay_sender(lab, folder, "bulk", "tls"),
            "direct": direct_sender(lab),
        },
        "seeds": {f"seed-{p}": seed(lab, folder, p, user) | {"daily_limit": 5000} for p, user in users},
        "bounces": bounces(lab, folder),
        "routes": [{"every": "1m", "deadline": "20s", "late_after": "1h"}],
        "limits": {"per_seed_per_day": 5000, "per_provider_per_minute": 600},
    }
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(document | dict(sections or {}), sort_keys=False))
    return path
