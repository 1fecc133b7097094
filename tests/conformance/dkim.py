"""DKIM: whole messages with their keys, and the canonical forms."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from probes.authentication.dkim import DkimResult, verify_dkim
from probes.authentication.message import Message
from probes.dns import StaticResolver
from tests.conformance.row import Row

#: Our reasons for theirs.
_REASONS = {
    "DKIM_SIGERROR_MISSING_V": "version",
    "DKIM_SIGERROR_KEY_REVOKED": "key-revoked",
    "DKIM_SIGERROR_KEY_HASHNOTINCLUDED": "key-hash",
    "DKIM_SIGERROR_KEY_MISMATCHED_K": "key-type",
    "DKIM_SIGERROR_KEY_NOTEMAILKEY": "key-service",
    "DKIM_SIGERROR_DOMAIN_I": "key-flags",
    "DKIM_SIGERROR_CORRUPT_BH": "body-hash",
    "DKIM_SIGERROR_BADSIG": "signature",
    "DKIM_POLICYERROR_UNSIGNED_HEADER_ADDED": "added-header",
}
#: Warnings are each product's own opinion (ours tells 1,024-bit keys); verdicts are compared.
_SKIPPED = frozenset({"warnings"})
#: Where ours is right and differs.
_RIGHT = frozenset({("email.24", "relaxed")})
_WHY = "RFC 6376 section 3.4.4 ignores white space at the end of every line, the unended last one too"


def run(corpus: Path) -> Iterable[Row]:
    """Runs both sets."""
    yield _verifier(corpus / "dkim" / "dkim_verifier")
    yield _canonical(corpus / "dkim" / "flanker-canonicalization")


def _verifier(folder: Path) -> Row:
    data = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    notes = []
    for case in data["cases"]:
        zone = {**data["dns"], **(case["dns_override"] or {})}
        resolver = StaticResolver({(name, "TXT"): [text] for name, text in zone.items()})
        message = Message((folder / case["file"]).read_bytes())
        found = asyncio.run(verify_dkim(message, resolver, now=0.0))
        # Ours come from the top of the message down, theirs from the bottom up.
        wrong = [fault for one in case["assertions"] if (fault := _fault(one, found[::-1]))]
        if wrong:
            notes.append(f"{case['test']}: {'; '.join(wrong)}")
    return Row("dkim/dkim_verifier", len(data["cases"]) - len(notes), len(data["cases"]), tuple(notes))


def _fault(assertion: list[Any], found: tuple[DkimResult, ...]) -> str:
    path, how, text = assertion
    if path == "signatures.length":
        return "" if len(found) == int(text) else f"{len(found)} signatures"
    match = re.fullmatch(r"signatures\[(\d+)\]\.(\w+)", path)
    assert match, path
    field = match.group(2)
    if field in _SKIPPED:
        return ""
    actual = _actual(found[int(match.group(1))], field)
    wanted = _wanted(field, how, text)
    return "" if actual == wanted else f"{path}: {wanted!r} but {actual!r}"


def _wanted(field: str, how: str, text: str | None) -> object:
    if how == "undefined" or text is None:
        return ""
    value = json.loads(re.sub(r",\s*\]", "]", re.sub(r"(?<=\d)_(?=\d)", "", text)))
    return _REASONS[value] if field == "errorType" else value


def _actual(one: DkimResult, field: str) -> object:
    kind, _, digest = one.algorithm.partition("-")
    added = re.search(r"unsigned (\S+) field", one.detail)
    return {
        "result": "SUCCESS" if one.result == "pass" else "PERMFAIL",
        "errorType": one.reason,
        "errorStrParams": [added.group(1)] if added else [],
        "sdid": one.domain,
        "auid": one.identity,
        "selector": one.selector,
        "timestamp": one.signed_at,
        "expiration": one.expires_at,
        "algorithmSignature": kind,
        "algorithmHash": digest,
        "signedHeaders": list(one.headers),
    }[field]


def _canonical(folder: Path) -> Row:
    """Every message in both forms; the third form of the set, nofws, is of DomainKeys (RFC 4870), which is
    no more.
    """
    notes: list[str] = []
    differences: list[str] = []
    messages = sorted(folder.glob("email.*"))
    for path in messages:
        for form in ("simple", "relaxed"):
            wanted = (folder / f"{form}.expected{path.suffix}").read_bytes()
            if _form(Message(path.read_bytes()), form == "relaxed") != wanted:
                (differences if (path.name, form) in _RIGHT else notes).append(f"{path.name}: {form} differs")
    wrong = {note.partition(":")[0] for note in notes}
    told = tuple(f"{note}: {_WHY}" for note in differences)
    return Row("dkim/flanker-canonicalization", len(messages) - len(wrong), len(messages), (*notes, *told))


def _form(message: Message, relaxed: bool) -> bytes:
    fields = [message.header(index, relaxed) + b"\r\n" for index in range(len(message.raws))]
    return b"".join(fields) + b"\r\n" + message.canonical_body(relaxed)
