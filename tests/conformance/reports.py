"""Feedback reports (RFC 5965) among the public reports; the others are no business of a canary."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from probes.headers.dsn import read_bounce
from tests.conformance.row import Row
from tests.conformance.tally import tally


def run(corpus: Path) -> Iterable[Row]:
    """Each report must be known for one, with its recipients and envelope id where it tells them."""
    faults = []
    for path in sorted((corpus / "reports" / "arf").glob("*.eml")):
        wanted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        found = read_bounce(path.read_bytes())
        fault = ""
        if found is None or found.kind != "feedback":
            fault = "no feedback report"
        elif wanted["original_rcpt_to"] and [one.recipient for one in found.recipients] != [
            address.strip("<>") for address in _list(wanted["original_rcpt_to"])
        ]:
            fault = f"recipients {[one.recipient for one in found.recipients]}"
        elif (found.envelope_id or None) != wanted["original_envelope_id"]:
            fault = f"envelope id {found.envelope_id}"
        faults.append((path.name, fault))
    yield tally("reports/arf", faults)


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
