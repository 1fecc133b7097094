"""What is looked up: the senders' addresses, names and links, each with its owners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from agent.blocklist_plan import owners_of, subjects_of, zones_of
from agent.config.load import load
from agent.config.models import Config

TEMPLATE = """\
Subject: offers
Content-Type: text/html

<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1.dtd">
<a href="https://Click.acme.example/x?u={{ token }}">x</a> <img src='http://192.0.2.80/pixel.gif'>
See https://shop.acme=
.example. https://{{ token }}.x/
"""


def config(folder: Path, **blocklists: Any) -> Config:
    template = folder / "offer.j2"
    template.write_text(TEMPLATE)
    nowhere = {"host": "127.0.0.1", "port": 9, "security": "none"}
    (folder / "password").touch(mode=0o600)
    (folder / "password").write_text("x")
    document = {
        "agent": {"store": f"sqlite:///{folder}/s.db"},
        "senders": {
            "app": {"from": "canary@mail.acme.example", "relay": nowhere},
            "direct": {
                "from": "canary@direct.example",
                "template": str(template),
                "list_unsubscribe": {"url": "https://Leave.direct.example/u"},
                "direct": {"helo": "Out.direct.example", "source_ip": "2001:DB8::0:1"},
            },
        },
        "seeds": {
            "box": {
                "provider": "dovecot",
                "address": "box@example.net",
                "password": {"file": str(folder / "password")},
                "imap": nowhere,
            }
        },
        "routes": [{"every": "1d"}],
        "blocklists": blocklists,
    }
    path = folder / "mailcanary.yaml"
    path.write_text(yaml.safe_dump(document))
    return load(path)


def test_everything_of_the_senders_is_looked_up(tmp_path: Path) -> None:
    found = config(tmp_path, subjects={"ips": ["192.0.2.0/30"], "hosts": ["mx.acme.example"]})
    assert set(subjects_of(found)) == {
        "192.0.2.0/30", "host:mx.acme.example", "mail.acme.example", "direct.example", "out.direct.example",
        "2001:db8::1", "click.acme.example", "shop.acme.example", "leave.direct.example",
    }  # fmt: skip


def test_a_registrable_domain_belongs_to_the_owners_of_its_hosts(tmp_path: Path) -> None:
    owners = owners_of(config(tmp_path))
    assert owners["mail.acme.example"] == ("app",)
    assert owners["acme.example"] == ("app", "direct")
    assert owners["2001:db8::1"] == ("direct",)


def test_zones_by_name_by_key_and_by_catalogue(tmp_path: Path) -> None:
    (tmp_path / "key").touch(mode=0o600)
    (tmp_path / "key").write_text("secret0key")
    key = {"zen.dq.spamhaus.net": {"file": str(tmp_path / "key")}}
    plain = {zone.name for zone in zones_of(config(tmp_path))}
    keyed = {zone.name: zone for zone in zones_of(config(tmp_path, keys=key))}
    assert keyed.keys() - plain == {"zen.dq.spamhaus.net"}
    assert keyed["zen.dq.spamhaus.net"].origin == "secret0key.zen.dq.spamhaus.net"
    assert "secret0key" not in repr(keyed)
    assert "bl.spamcop.net" not in {z.name for z in zones_of(config(tmp_path, skip_zones=["bl.spamcop.net"]))}
    assert [zone.name for zone in zones_of(config(tmp_path), names=["any.example"])] == ["any.example"]
