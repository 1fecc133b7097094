"""The diff of two headers, without what differs in every message: dates, ids, signatures, tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import unified_diff

from probes.canary.token import find_tokens

MOST_LINES = 80

_DATE = re.compile(
    r"(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [-+]\d{4}(?: \([A-Z]{1,5}\))?"
)
_ID = re.compile(r"\b(id|ESMTPS?A? id) [A-Za-z0-9.+/=_-]{5,60}")
_TAG = re.compile(r"\b(b|bh|t|x|header\.b)=[A-Za-z0-9+/= ]{5,800}")
_BOUNDARY = re.compile(r'boundary="[^"]{1,80}"')
_ANGLE = re.compile(r"<[^<>\s@]{1,200}@[^<>\s]{1,200}>")
_NUMBER = re.compile(r"\b\d{9,14}\b")
_OWN = frozenset({"date", "message-id", "x-mailcanary-token", "to", "delivered-to", "x-received"})


def header_diff(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Unified diff of two headers (lines "name: text"), what is never the same masked."""
    lines = unified_diff(_masked(before), _masked(after), "before", "after", lineterm="", n=0)
    found = [line for line in lines if not line.startswith("@@")]
    return found[2:][:MOST_LINES] if len(found) > 2 else []


def _masked(lines: Iterable[str]) -> list[str]:
    return [_mask(line) for line in lines if line.partition(":")[0] not in _OWN]


def _mask(line: str) -> str:
    for token in find_tokens(line):
        line = re.sub(re.escape(token), "TOKEN", line, flags=re.IGNORECASE)
    line = _DATE.sub("DATE", line)
    line = _ID.sub(r"\1 ID", line)
    line = _TAG.sub(r"\1=...", line)
    line = _BOUNDARY.sub("boundary=...", line)
    if line.startswith(("references", "in-reply-to")):
        line = _ANGLE.sub("<ID>", line)
    return _NUMBER.sub("N", line)
