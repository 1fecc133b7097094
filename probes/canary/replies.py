"""What an SMTP reply means to a sender: a closed word, an explanation and the next step. The table is data
(replies.yaml)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import yaml

from probes.errors import DataError

TEXT_MAXIMUM = 2_000
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?=\s|$)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class ReplyMeaning:
    """What a reply means.

    key: a closed word, fit for a metric label; text, next_step: for people; seeds_own_fault: the mailbox is
    to blame, not the sender; greylisting: a delay by design; silence_seconds: send nothing to this provider
    for so long.
    """

    key: str
    text: str
    next_step: str
    seeds_own_fault: bool = False
    greylisting: bool = False
    silence_seconds: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of the table; an empty field matches everything."""

    provider: str
    meaning: ReplyMeaning
    codes: frozenset[int]
    enhanced: tuple[str, ...]
    text: tuple[str, ...]
    stages: frozenset[str]

    def matches(self, code: int, enhanced: str, text: str, stage: str) -> bool:
        """Whether every field that the row has agrees. text: lower case."""
        if self.codes and code not in self.codes:
            return False
        if self.stages and stage not in self.stages:
            return False
        if self.enhanced and not any(_same_status(wanted, enhanced) for wanted in self.enhanced):
            return False
        return not self.text or any(piece in text for piece in self.text)


def _same_status(wanted: str, enhanced: str) -> bool:
    return enhanced.startswith(wanted) if wanted.endswith(".") else enhanced == wanted


@dataclass(frozen=True, slots=True)
class _Table:
    rows: tuple[_Row, ...]
    meanings: Mapping[str, ReplyMeaning]
    families: Mapping[str, str]


def _meaning(key: str, raw: Mapping[str, Any]) -> ReplyMeaning:
    return ReplyMeaning(
        key,
        str(raw["text"]),
        str(raw["next"]),
        bool(raw.get("seeds_own_fault", False)),
        bool(raw.get("greylisting", False)),
        int(raw.get("silence_seconds", 0)),
    )


def _row(raw: Mapping[str, Any], meanings: Mapping[str, ReplyMeaning]) -> _Row:
    if raw["meaning"] not in meanings:
        raise DataError(f"replies.yaml: a row has the unknown meaning {raw['meaning']!r}")
    return _Row(
        str(raw["provider"]),
        meanings[raw["meaning"]],
        frozenset(raw.get("codes", ())),
        tuple(raw.get("enhanced", ())),
        tuple(piece.lower() for piece in raw.get("text", ())),
        frozenset(raw.get("stages", ())),
    )


@cache
def _table() -> _Table:
    """The table, read once a process."""
    raw = yaml.safe_load((resources.files("probes.canary") / "replies.yaml").read_text("utf-8"))
    meanings = {key: _meaning(key, value) for key, value in raw["meanings"].items()}
    rows = [_row(row, meanings) for row in raw["rows"]]
    families = {name: family for family, names in raw["providers"].items() for name in names}
    return _Table(tuple(rows), meanings, families)


def meaning_keys() -> tuple[str, ...]:
    """Every word that `ReplyMeaning.key` can be."""
    return tuple(_table().meanings)


def meaning(key: str) -> ReplyMeaning:
    """The meaning of that name, for what we conclude without a server's reply (null_mx, no_such_domain)."""
    return _table().meanings[key]


def _fallback(code: int) -> str:
    if 200 <= code < 300:
        return "accepted"
    return {4: "temporary", 5: "permanent"}.get(code // 100, "unexpected")


def classify(provider: str, code: int, enhanced: str, text: str, stage: str = "") -> ReplyMeaning:
    """What this reply means.

    provider: a preset's name or "" for an unknown server; code: basic code; enhanced: RFC 3463 status or "";
    stage: the SMTP stage it answered, where known (the same code says other things to RCPT than to AUTH).
    """
    table = _table()
    if code >= 400:
        family = table.families.get(provider.lower(), "")
        lowered = text.lower()
        for wanted in (family, "any"):
            for row in table.rows:
                if row.provider == wanted and row.matches(code, enhanced, lowered, stage):
                    return row.meaning
    return table.meanings[_fallback(code)]


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply. code: basic; enhanced: RFC 3463 status or ""; stage: what it answered; local: no
    server said it, we conclude it as an MTA does (a null MX, a domain that does not exist)."""

    code: int
    enhanced: str
    text: str
    stage: str
    meaning: ReplyMeaning
    local: bool = False

    @property
    def temporary(self) -> bool:
        """A 4yz reply: the same canary may be tried again."""
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        """A 5yz reply."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return " ".join(str(part) for part in (self.code, self.enhanced, self.text) if part)


def _without_status(lines: Iterable[str], enhanced: str) -> list[str]:
    """Multi-line replies repeat the enhanced code on each line (RFC 2034 section 4)."""
    return [line.removeprefix(enhanced).strip() if enhanced else line.strip() for line in lines]


def clean_text(text: str, *, maximum: int = TEXT_MAXIMUM) -> str:
    """A server's words made fit to keep: no control characters, no undecodable bytes, capped."""
    return _CONTROL.sub("?", text[:maximum])


def read_reply(provider: str, stage: str, code: int, message: str) -> Reply:
    """A reply from its basic code and its text (lines joined by LF), with its enhanced code taken out and
    its meaning."""
    if len(message) > _REMEMBERED_LENGTH:
        return _read_reply(provider, stage, code, message)
    return _remembered(provider, stage, code, message)


def _read_reply(provider: str, stage: str, code: int, message: str) -> Reply:
    text = clean_text(message)
    found = _ENHANCED.match(text)
    enhanced = found[1] if found else ""
    joined = " ".join(filter(None, _without_status(text.split("\n"), enhanced)))
    return Reply(code, enhanced, joined, stage, classify(provider, code, enhanced, joined, stage))


_REMEMBERED_LENGTH = 512
_remembered = lru_cache(maxsize=512)(_read_reply)
"""Servers say the same, canary after canary."""


def local_reply(stage: str, code: int, enhanced: str, key: str, detail: str) -> Reply:
    """What an MTA would put into its own bounce: no server was asked."""
    return Reply(code, enhanced, detail, stage, meaning(key), local=True)


_QUEUE_IDS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bqueued as:? ?<?([A-Za-z0-9.-]{4,64})",  # Postfix, Exchange edge, many
        r"\bid=([A-Za-z0-9-]{6,64})",  # Exim
        r"\bInternalId=([0-9]{4,64})",  # Exchange
        r"\bok:? +([0-9]{9,12} [A-Za-z0-9._-]{6,80}) - gsmtp",  # Gmail
        r"\bqueued \(?([A-Fa-f0-9-]{16,64})\)?",  # Haraka
        r"\bqp ([0-9]{1,20})\b",  # qmail
        r"\b([A-Za-z0-9]{6,40}) message accepted for delivery",  # sendmail, OpenSMTPD
        r"\bok ([0-9a-f]{16}-[0-9a-f-]{20,60})",  # Amazon SES
    )
)


def queue_id(text: str) -> str:
    """The receiving server's queue id from the text of its final 250, "" where none is told."""
    capped = text[:512]
    for pattern in _QUEUE_IDS:
        found = pattern.search(capped)
        if found:
            return found[1].rstrip(".")
    return ""
