"""ARC: the chain validation suite."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

import yaml

from probes.authentication.arc import verify_arc
from probes.authentication.message import Message
from probes.dns import StaticResolver
from tests.conformance.row import Row


def run(corpus: Path) -> Iterable[Row]:
    """Runs the suite. A difference in a case that published copies of the suite dispute is told as such."""
    folder = corpus / "arc"
    disputed = json.loads((folder / "disputed.json").read_text(encoding="utf-8"))
    unsure = {one["test"]: one["mail_dkim_cv"].lower() for one in disputed["differs"]}
    passed, total, notes = 0, 0, []
    text = (folder / "arc-draft-validation-tests.yml").read_text(encoding="utf-8")
    for scenario in yaml.safe_load_all(text):
        zone = StaticResolver({(name, "TXT"): [record] for name, record in scenario["txt-records"].items()})
        for name, test in scenario["tests"].items():
            total += 1
            found = asyncio.run(verify_arc(Message(test["message"].encode()), zone))
            wanted = (test["cv"] or "fail").lower()
            if found.result == wanted:
                passed += 1
            elif found.result == unsure.get(name):
                passed += 1
                notes.append(
                    f"{name}: disputed ({wanted} there, {found.result} in the other copy): {found.detail}"
                )
            else:
                notes.append(f"{name}: {wanted} but {found.result} ({found.detail})")
    yield Row("arc/arc-draft-validation-tests.yml", passed, total, tuple(notes))
