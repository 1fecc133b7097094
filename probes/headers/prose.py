"""Bounces that no standard describes: what mail servers write for people."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from probes.headers.scan import Header, decode_words, scan

MAX_TEXT = 60_000
MAX_LINES = 200

ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,80}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,200}[A-Za-z0-9])?")
_LEADING = re.compile(
    r"^[\s>*-]*(?:(?:rcpt )?to: ?|.{0,60}(?:delivered to|recipients?|delivering your mail to|addressed to|"
    r"failed to send to)\b:? *)?[<\"'(]?(" + ADDRESS.pattern + r")",
    re.IGNORECASE,
)
_DAEMON = re.compile(
    r"mailer-?daemon|postmaster|mail ?delivery|mail-daemon|bounce|mda@|mmdf|root@|no-?reply|mdaemon|"
    r"(?:^|[<\s])mail@|delivery|notification|administrator|autoreply|symantec|emailservice|imailserver|exchange",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"undeliver|deliver|returned|failure|failed|fail\b|mail error|could not|cannot be|non remis|"
    r"nicht zugestellt|unzustellbar|warning|mail system error|notice|rejected|not delivered|devolvido|"
    r"message status|delay|bounce|error sending|mail.{0,10}problem|complaint about|auto|out of office|"
    r"vacation|abwesen|message you sent|失敗|送信|配信|エラー",
    re.IGNORECASE,
)
_FAILURE = re.compile(
    r"could ?n.t be|could not|cannot|can.t|unable to|undeliver|not delivered|fail|reject|returned|unknown|"
    r"does not exist|refused|denied|error|bounce|expired|not found|delayed|blocked|over quota|gave up|"
    r"giving up|no such|not exist",
    re.IGNORECASE,
)
_AUTO_SUBJECT = re.compile(
    r"\s*(?:auto(?:matic)?[ -]?(?:reply|response|answer)|auto: |out of (?:the )?office|automatische antwort|"
    r"abwesenheit|r[ée]ponse automatique|respuesta autom|risposta automatica|vacation)",
    re.IGNORECASE,
)
_UNMISTAKABLE = re.compile(
    r"permanent fatal errors|error message below|could not be delivered to:|addresses had delivery errors|"
    r"are not member",
    re.IGNORECASE,
)
_RETURNED = re.compile(
    r"(?:received|return-path|message-id|from|to|subject|date|mime-version|dkim-signature|delivered-to|"
    r"content-type|reply-to|x-[\w-]+)[ \t]*:",
    re.IGNORECASE,
)


@dataclass(slots=True)
class Named:
    """A recipient that prose names, and the lines from there to the next."""

    address: str
    lines: list[str] = field(default_factory=list)


def first(header: Header, name: str) -> str:
    """The text of the topmost field of that name, "" where there is none."""
    return next((item.text for item in header.fields if item.name == name), "")


def is_auto_reply(header: Header) -> bool:
    """An answer by a machine on behalf of a person (RFC 3834), not by a mail system."""
    if _DAEMON.search(first(header, "from")[:1000]):
        return False
    subject = decode_words(first(header, "subject"))[:200]
    return bool(
        _AUTO_SUBJECT.match(subject)
        or first(header, "auto-submitted").lower().startswith("auto-replied")
        or first(header, "x-apple-action").upper() == "VACATION"
        or any(item.name in ("x-autoreply", "x-autorespond", "x-autoresponse") for item in header.fields)
    )


def looks_like_bounce(header: Header, text: str) -> bool:
    """Whether a mail system wrote it to say that something did not get through."""
    sender = first(header, "from") + " " + first(header, "return-path")
    empty = first(header, "return-path").strip() in ("<>", "<MAILER-DAEMON>")
    marked = any(
        item.name in ("x-failed-recipients", "x-amz-bounce")
        or (item.name == "auto-submitted" and "auto-" in item.text)
        for item in header.fields
    )
    report = "report-type" in first(header, "content-type").lower()
    if _UNMISTAKABLE.search(text[:20_000]) or _UNMISTAKABLE.search(first(header, "subject")[:500]):
        return True
    if not (empty or marked or report or _DAEMON.search(sender[:1000])):
        return False
    subject = decode_words(first(header, "subject"))[:1000]
    return bool(_SUBJECT.search(subject) or marked or empty) and bool(
        _FAILURE.search(text[:20_000]) or _SUBJECT.search(subject)
    )


def cut_copy(text: str) -> tuple[str, str]:
    """Where the prose ends and the header of the returned message begins: the first run of three header
    lines."""
    lines = text.split("\n")
    run = start = 0
    for number, line in enumerate(lines):
        bare = line.lstrip("> \t")
        if _RETURNED.match(bare):
            start = start if run else number
            run += 1
            if run >= 3:
                return "\n".join(lines[:start]), _outdent(lines[start:])
        elif not (run and line[:1] in (" ", "\t") and bare):
            run = 0
    return text, ""


def _outdent(lines: list[str]) -> str:
    """The lines without what the first of them is indented or quoted by."""
    margin = len(lines[0]) - len(lines[0].lstrip("> \t"))
    return "\n".join(line[margin:] if not line[:margin].strip("> \t") else line for line in lines)


def find_recipients(header: Header, text: str, returned: bytes) -> list[Named]:
    """Recipients as mail servers name them in prose; each with the lines that follow it."""
    text = text[:MAX_TEXT]
    failed = [
        address.lower()
        for item in header.fields
        if item.name == "x-failed-recipients"
        for address in ADDRESS.findall(item.text[:4000])
    ]
    own = {
        address.lower() for name in ("from", "to") for address in ADDRESS.findall(first(header, name)[:1000])
    }
    for pattern, leave_out in ((_LEADING, own), (ADDRESS, own), (_LEADING, set[str]())):
        drafts = find_named(text, pattern, failed, leave_out)
        if drafts:
            return drafts
    wanted = failed or ADDRESS.findall(first(scan(returned), "to")[:1000])[:1]
    return [Named(one) for one in dict.fromkeys(wanted)]


def find_named(text: str, pattern: re.Pattern[str], failed: list[str], leave_out: set[str]) -> list[Named]:
    """One draft for each address that the pattern finds, with the lines from there to the next."""
    drafts: dict[str, Named] = {}
    current: Named | None = None
    for line in text.split("\n"):
        for found in pattern.finditer(line[:1000]):
            address = (found[1] if pattern.groups else found[0]).lower()
            if address in leave_out or (failed and address not in failed) or _DAEMON.search(address):
                continue
            current = drafts.setdefault(address, Named(found[1] if pattern.groups else found[0]))
            break
        if current is not None and len(current.lines) < MAX_LINES:
            current.lines.append(line)
    return list(drafts.values())
