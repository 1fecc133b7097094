"""The JSON of `mailcanary inspect` is what its page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from agent.inspection.examine import SCHEMA, Settings, examine
from agent.inspection.sources import Source
from probes.clock import SystemClock
from probes.dns import StaticResolver
from tests.fakes.signed_mail import NOW, signed_mail

PAGE = files("agent.inspection").joinpath("FORMAT.md").read_text(encoding="utf-8")
FREE = (".properties", ".scores", ".policy")
RESULTS = ("authentication_results[]", "arc_authentication_results[]", "received_spf[]")
TOP = (
    b"Received: from a ([192.0.2.1]) by mx.x with ESMTPS id 1; Sat, 21 Nov 2026 08:15:30 +0000\r\n"
    b"Authentication-Results: mx.x; spf=pass smtp.mailfrom=b; dkim=fail; compauth=pass reason=100\r\n"
    b"X-Spam-Status: Yes, score=9 tests=A_B=1\r\nReceived-SPF: pass\r\n"
    b"ARC-Authentication-Results: i=1; a; spf=pass\r\n"
)
BOUNCE = (
    b"From: MAILER-DAEMON@a.example\r\nContent-Type: multipart/report; boundary=b\r\n\r\n--b\r\n"
    b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx\r\n\r\n"
    b"Final-Recipient: rfc822; b@c.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\r\n--b--\r\n"
)


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Every field there is, as the page writes it."""
    if isinstance(value, dict) and not path.endswith(FREE):
        for key, inner in value.items():
            name = "METHOD" if path == "authentication" else key
            yield from paths(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for inner in value:
            yield from paths(inner, f"{path}[]")
    else:
        yield path


def documented() -> set[str]:
    """Every field the page names; those of the three fields with results, for each of them."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    shared = [name.removeprefix("[]") for name in named if name.startswith("[].")]
    return {name for name in named if not name.startswith("[].")} | {r + s for r in RESULTS for s in shared}


async def test_every_field_is_on_the_page() -> None:
    mail = signed_mail(2_000)
    settings = Settings(StaticResolver(mail.zone), SystemClock(), NOW, ["mx.x"])
    seen: set[str] = set()
    for octets in (TOP + mail.message, BOUNCE):
        facts = await examine(Source("x", octets), settings)
        assert next(iter(facts)) == "schema"
        seen.update(paths(facts))
    known = documented()
    lists = {name.partition("[]")[0] for name in known}
    assert {name for name in seen if name not in known and name not in lists} == set()
    leaves = {name for name in known if not name.endswith("[]")}
    whole = {name.rpartition(".")[0] for name in seen} | seen
    assert {name for name in leaves if name not in whole and not name.endswith(".meaning")} == set()


def test_the_page_names_the_version() -> None:
    assert f"`{SCHEMA}`" in PAGE
