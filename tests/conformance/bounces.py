"""Bounces: public messages with the status, the reply code, the reason and the kind of each recipient's
refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from probes.headers.dsn import BouncedRecipient, read_bounce
from tests.conformance.row import Row
from tests.conformance.tally import RIGHT, tally

#: Codes of the collecting project's own, where a bounce names none: the class is what can be compared.
_PSEUDO = re.compile(r"([245])\.\d\.9\d\d")


#: Ours stands: the report itself says Action: delayed, Status: 4.Y.Z (RFC 3464 sections 2.3.3 and 2.3.4).
_DELAYED = frozenset(f"messages/lhost-opensmtpd-{number}.eml" for number in ("04", "06", "15", "16"))


def run(corpus: Path) -> Iterable[Row]:
    """Status and hard or soft in one row, the reason in another; a recipient is a case."""
    folder = corpus / "bounces"
    cases = json.loads((folder / "expected.json").read_text(encoding="utf-8"))["cases"]
    verdicts, reasons, codes = [], [], []
    for case in cases:
        found = read_bounce((folder / case["file"]).read_bytes())
        ours = found.recipients if found is not None else ()
        for number, wanted in enumerate(case["recipients"]):
            one = ours[number] if number < len(ours) else None
            label = f"{case['file']} {wanted['reason']}"
            reason, code = (one.reason, one.reply_code or "") if one is not None else ("not read", "")
            fault = _verdict_fault(one, wanted)
            if case["file"] in _DELAYED and fault.startswith("status 4"):
                fault = f"{RIGHT}RFC 3464 section 2.3.4, {fault}"
            verdicts.append((label, fault))
            reasons.append((label, "" if reason == wanted["reason"] else reason))
            codes.append((label, "" if code == wanted["replycode"] else f"{code}, not {wanted['replycode']}"))
        if len(ours) > len(case["recipients"]):
            verdicts.append((case["file"], f"{len(ours)} recipients"))
    yield tally("bounces/status and hard or soft", verdicts)
    yield tally("bounces/reason", reasons)
    yield tally("bounces/reply code", codes)


def _verdict_fault(one: BouncedRecipient | None, wanted: dict[str, Any]) -> str:
    if one is None:
        return "not read"
    pseudo = _PSEUDO.fullmatch(wanted["status"])
    status = one.status or ""
    right = status[:1] == pseudo[1] if pseudo else status == wanted["status"]
    if not right:
        return f"status {status}, not {wanted['status']}"
    if one.permanent != wanted["hardbounce"]:
        return f"{'hard' if one.permanent else 'soft'} ({one.reason})"
    return ""
