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


MAX_TEXT = 12_000


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
    catalogue = _catalogue()
    text = _REPEATED.sub(" ", " ".join(refusal.text.split())[:MAX_TEXT])
    by_status = catalogue.statuses.get(refusal.status) or catalogue.statuses.get(refusal.status[2:])
    if by_status in _CERTAIN:
        return by_status
    found = _first(catalogue.unmistakable, text)
    if found is not None:
        return found
    found = _first(catalogue.sure, text)
    if found == "userunknown":
        return _user_unknown(refusal, by_status)
    if found is not None:
        return found
    if by_status is not None and by_status not in VAGUE:
        return by_status
    return _first(catalogue.weak, text) or by_status or _by_codes(refusal)


def _user_unknown(refusal: Refusal, by_status: str | None) -> str:
    """Whether the address itself was refused, or a filter speaks that had accepted it: certain with X.1.Y,
    in answer to RCPT, or where the reply names the address in angle brackets, as answers to RCPT do."""
    if refusal.status[2:4] == "1." or refusal.command == "RCPT":
        return by_status if by_status in ("hostunknown", "notaccept") else "userunknown"
    if by_status == "filtered" or refusal.command == "DATA" or not _ADDRESSED.search(refusal.text):
        return "filtered"
    return "userunknown"


def _first(groups: list[_Phrases], text: str) -> str | None:
    return next((phrases.reason for phrases in groups if phrases.pattern.search(text)), None)


_REPEATED = re.compile(r"\s[245]\d\d-(?:[245]\.\d\.\d{1,3}\s)?")
_ADDRESSED = re.compile(r"<[^<>@\s]{1,100}@[^<>@\s]{1,200}>(?::|\.\.\.|\s)\s?")
_CERTAIN = frozenset(
    ("systemfull", "hasmoved", "requireptr", "mailboxfull", "exceedlimit", "authfailure", "rejected")
)
VAGUE = frozenset(("securityerror", "systemerror", "networkerror", "expired", "onhold", "undefined"))
"""What a status code says when it says little: a phrase may know better."""
UNCLEAR = frozenset(("onhold", "undefined", "securityerror", "systemerror"))
"""Reasons for which the whole prose is worth a look."""


def _by_codes(refusal: Refusal) -> str:
    subject = refusal.status[2:4]
    if refusal.reply in ("521", "556"):
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


class _Catalogue(NamedTuple):
    unmistakable: list[_Phrases]
    sure: list[_Phrases]
    weak: list[_Phrases]
    statuses: dict[str, str]


@cache
def _catalogue() -> _Catalogue:
    text = resources.files("probes.headers").joinpath("reasons.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    statuses = {str(key): str(value) for key, value in data["statuses"].items()}
    return _Catalogue(
        _compile(data["unmistakable"]), _compile(data["sure"]), _compile(data["weak"]), statuses
    )


def _compile(items: list[dict[str, list[str]]]) -> list[_Phrases]:
    found = []
    for item in items:
        for reason, phrases in item.items():
            pattern = "|".join(".{0,120}".join(map(re.escape, phrase.split(" ... "))) for phrase in phrases)
            found.append(_Phrases(reason, re.compile(pattern)))
    return found
