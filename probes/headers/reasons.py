"""Why a message was refused, as one closed word, from status code, reply code and the text of the refusal.

The words are those of the sisimai project, which many tools use. The phrases are data (reasons.yaml).
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import NamedTuple

import yaml

HARD = frozenset(("userunknown", "hostunknown", "hasmoved"))
"""Reasons that lie in the address itself."""


class Refusal(NamedTuple):
    """What is known of a refusal. text: lower case; kind: type of the Diagnostic-Code ("smtp", "x-unix");
    action: of the DSN."""

    status: str
    reply: str
    text: str
    kind: str
    action: str
    command: str


class _Phrases(NamedTuple):
    reason: str
    pattern: re.Pattern[str]


def classify(refusal: Refusal) -> str:
    """The reason of one refusal."""
    if refusal.status[:2] == "2.":
        return "delivered"
    sure, weak, statuses = _catalogue()
    text = _REPEATED.sub(" ", " ".join(refusal.text.split()))
    by_status = statuses.get(refusal.status) or statuses.get(refusal.status[2:])
    if by_status in _CERTAIN:
        return by_status
    by_phrase = next((phrases.reason for phrases in sure if phrases.pattern.search(text)), None)
    if by_phrase == "userunknown" and (by_status == "filtered" or refusal.command == "DATA"):
        return "filtered"
    if by_phrase is not None:
        return by_phrase
    if by_status is not None and by_status not in _DOUBTFUL:
        return by_status
    for phrases in weak:
        if phrases.pattern.search(text):
            return phrases.reason
    return by_status or _by_codes(refusal)


_REPEATED = re.compile(r"\s[245]\d\d[- ](?:[245]\.\d\.\d{1,3}\s)?")
_CERTAIN = frozenset(("systemfull", "hasmoved", "requireptr", "mailboxfull"))
_DOUBTFUL = frozenset(("securityerror", "systemerror", "networkerror", "expired"))


def _by_codes(refusal: Refusal) -> str:
    subject = refusal.status[2:4]
    if refusal.reply in ("521", "554", "556"):
        return "notaccept"
    if subject == "6.":
        return "contenterror"
    if subject == "7.":
        return "securityerror"
    if refusal.kind == "x-unix":
        return "mailererror"
    if refusal.reply[:2] in ("50", "40"):
        return "syntaxerror"
    if refusal.action in ("delayed", "expired"):
        return "expired"
    return "onhold" if refusal.text.strip() else "undefined"


@cache
def _catalogue() -> tuple[list[_Phrases], list[_Phrases], dict[str, str]]:
    text = resources.files("probes.headers").joinpath("reasons.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    return _compile(data["sure"]), _compile(data["weak"]), {str(k): v for k, v in data["statuses"].items()}


def _compile(items: list[dict[str, list[str]]]) -> list[_Phrases]:
    found = []
    for item in items:
        for reason, phrases in item.items():
            pattern = "|".join(".{0,120}".join(map(re.escape, phrase.split(" ... "))) for phrase in phrases)
            found.append(_Phrases(reason, re.compile(pattern)))
    return found
