"""SMTP reply codes and enhanced status codes as they stand in prose (RFC 5321 section 4.2, RFC 3463)."""

from __future__ import annotations

import re

MAX_TEXT = 20_000

_WHOLE_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_STATUS = re.compile(r"(?<![\w./-])([245])\.(\d)\.(\d{1,3})(?![\d]|\.\d)")
_REPLY = re.compile(
    r"(?:^|[\s:;<>(\[\"'#])((?:2[1235]\d|4[2-5]\d|5[0-57]\d))"
    r"(?=[-\s](?:[245]\.\d|[^\d\s])|[-\s]?$|[:,.;]?\s*[A-Za-z<#(\[\"'])"
)
_COMMAND = re.compile(
    r"(?:in reply to|did not like our)\s+(?:the )?(end of data|\w+)|"
    r"after (end of data|rcpt|mail|data|ehlo|helo|initial)|\[(rcpt|mail|data)(?:_to|_from)?\]",
    re.IGNORECASE,
)
_ASKED = re.compile(r"^\s*>>> (\w{4})", re.MULTILINE)


def find_command(text: str) -> str:
    """The SMTP command that was refused, as servers tell it in prose."""
    found = _COMMAND.search(text[:MAX_TEXT])
    word = (found[1] or found[2] or found[3] or "").upper() if found is not None else ""
    if not word:
        asked = _ASKED.findall(text[:MAX_TEXT])
        word = asked[-1].upper() if asked else ""
    return {"MAI": "MAIL", "RCP": "RCPT", "DAT": "DATA", "END": "DATA"}.get(word[:3], word)


def _codes(text: str) -> list[str]:
    return [one[1] for one in _REPLY.finditer(text[:MAX_TEXT])]


def find_status(text: str) -> str | None:
    """The enhanced status code that says most, e.g. "5.1.1"; None where there is none."""
    best: str | None = None
    for found in _STATUS.finditer(text[:MAX_TEXT]):
        if found[2] > "7":
            continue
        best = prefer(best, f"{found[1]}.{int(found[2])}.{int(found[3])}")
    return best


def find_reply(text: str, status: str | None) -> str | None:
    """The first reply code, of the class of `status` where that is given; None where there is none."""
    codes = _codes(text)
    if status is not None:
        codes = [one for one in codes if one[0] == status[0]]
    return codes[0] if codes else None


def prefer(told: str | None, found: str | None, reply: str | None = None) -> str | None:
    """Of the Status field and the code inside the diagnostic, the one that says more (RFC 3463 section 3);
    of two classes the one of the reply code."""
    if told is None or not _WHOLE_STATUS.fullmatch(told):
        return found
    if found is None or told == found:
        return told
    if reply is not None and told[0] != found[0]:
        return found if found[0] == reply[0] else told
    if told.endswith(".0.0"):
        return found
    if told.endswith(".0"):
        return told if found.endswith(".0") or ".0." in found else found
    if found.endswith(".0.0"):
        return told
    if told in ("4.4.7", "4.7.0") or told[:4] == "5.3." or told[1:4] == ".5.":
        return found
    if told == "5.1.1":
        return told if found.endswith(".0") or found[:4] == "5.5." else found
    return told
