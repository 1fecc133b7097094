"""Bounces: delivery status notifications (RFC 3464), feedback reports (RFC 5965), and the prose of mail
servers that write neither.

What counts here is which canary came back, for which recipient, and why. Linear time, never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from probes.headers.mime import Part, parts
from probes.headers.reasons import HARD, UNCLEAR, Refusal, classify
from probes.headers.scan import Header, decode_words, scan
from probes.headers.ses import read_notification

MAX_RECIPIENTS = 100
MAX_DIAGNOSTIC = 4_000

_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,80}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,200}[A-Za-z0-9])?")
_WHOLE_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_COMMAND = re.compile(
    r"(?:in reply to|did not like our)\s+(?:the )?(end of data|\w+)|"
    r"after (end of data|rcpt|mail|data|ehlo|helo|initial)|\[(rcpt|mail|data)(?:_to|_from)?\]",
    re.IGNORECASE,
)
_QUOTE = re.compile(rb"^>[ >]*", re.MULTILINE)
_BLANK = re.compile(rb"\n[ \t]*\n")
_FINAL = re.compile(rb"\n(?=Final-Recipient:)", re.IGNORECASE)
_ASKED = re.compile(r"^\s*>>> (\w{4})", re.MULTILINE)
_LEADING = re.compile(
    r"^[\s>*-]*(?:(?:rcpt )?to: ?|.{0,60}(?:delivered to|recipients?|delivering your mail to|addressed to|"
    r"failed to send to)\b:? *)?[<\"'(]?(" + _ADDRESS.pattern + r")",
    re.IGNORECASE,
)
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_COMMAND = re.compile(
    r"(?:in reply to|did not like our)\s+(?:the )?(end of data|\w+)|after (end of data|rcpt|mail|data|ehlo|helo|initial)|"
    r"\[(rcpt|mail|data)(?:_to|_from)?\]",
    re.IGNORECASE,
)
_QUOTE = re.compile(rb"^>[ >]*", re.MULTILINE)
_ASKED = re.compile(r"^\s*>>> (\w{4})", re.MULTILINE)
_LEADING = re.compile(
    r"^[\s>*-]*(?:(?:rcpt )?to: ?|.{0,60}(?:delivered to|recipients?|delivering your mail to|addressed to|failed"
    r" to send to)\b:? *)?[<\"'(]?(" + _ADDRESS.pattern + r")",
    re.IGNORECASE,
)
_STATUS = re.compile(r"(?<![\w./-])([245])\.(\d)\.(\d{1,3})(?![\d]|\.\d)")
_REPLY = re.compile(
    r"(?:^|[\s:;<>(\[\"'#])((?:2[1235]\d|4[2-5]\d|5[0-57]\d))(?=[-\s](?:[245]\.\d|[^\d\s])|[-\s]?$|[:,.;]?\s*[A-Za-z<#(\[\"'])"
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
_MESSAGES = frozenset(
    ("message/rfc822", "text/rfc822-headers", "message/global", "message/global-headers", "message/partial")
)
_STATUSES = frozenset(("message/delivery-status", "message/global-delivery-status"))


@dataclass(frozen=True, slots=True)
class BouncedRecipient:
    """What is said of one recipient.

    recipient: the address, "" where none could be found; status: RFC 3463, or its class alone ("5.0.0",
    "4.0.0") where the bounce names none, None where it is no refusal; reply_code: of SMTP, as text; reason:
    a closed word (reasons.py); permanent: the address itself is no good (no such user or host, moved, takes
    no mail), so that later attempts are of no use; everything else may pass another time or with another
    message. action: failed, delayed, delivered, relayed, expanded; diagnostic: the text the verdict rests on.
    """

    recipient: str
    status: str | None
    reply_code: str | None
    reason: str
    permanent: bool
    action: str = "failed"
    diagnostic: str = ""
    remote_mta: str | None = None


@dataclass(frozen=True, slots=True)
class Bounce:
    """A message that says what became of another.

    kind: "dsn", "feedback", "auto-reply" or "prose"; envelope_id: the ENVID that was given (RFC 3461);
    message_id: of the returned message; returned: its header, or what of it came back, for the token to be
    looked for.
    """

    kind: str
    recipients: tuple[BouncedRecipient, ...]
    envelope_id: str | None = None
    message_id: str | None = None
    returned: bytes = b""


@dataclass(slots=True)
class _Draft:
    address: str = ""
    status: str | None = None
    action: str = ""
    diagnostic: str = ""
    remote_mta: str | None = None
    kind: str = ""
    lines: list[str] = field(default_factory=list)


def read_bounce(message: bytes) -> Bounce | None:
    """What the message says of another one; None where it is no bounce, no report and no automatic reply."""
    return _read(message, nested=False)


def _read(message: bytes, *, nested: bool) -> Bounce | None:
    header = scan(message)
    leaves = parts(message)
    report = _feedback(leaves)
    if report is not None:
        return report
    text, returned = _prose(leaves)
    drafts, envelope_id = _status_parts(leaves)
    inner_id = ""
    kind = "dsn"
    if not drafts:
        kind, drafts, inner_id = _without_status(header, text, returned)
        if kind == "prose" and not nested and b"inal-Recipient:" in returned:
            return _read(returned, nested=True)  # a gateway that wraps the report it got
    if not drafts:
        return None
    alone = len(drafts) == 1
    if not alone and kind == "dsn":
        near = {one.address.lower(): one.lines for one in _named(text, _ADDRESS, [], set())}
        for draft in drafts:
            draft.lines = near.get(draft.address.lower(), [])
    text = f"{text}\n{decode_words(_first(header, 'subject'))[:500]}"
    people = tuple(_settle(draft, text, alone) for draft in drafts[:MAX_RECIPIENTS])
    inner_id = _first(scan(returned), "message-id").strip("<> ") or inner_id
    return Bounce(kind, people, envelope_id, inner_id or None, returned[: 64 * 1024])


def _without_status(header: Header, text: str, returned: bytes) -> tuple[str, list[_Draft], str]:
    """Everything that is no RFC 3464 report: its kind, what it says of recipients, the returned
    Message-ID."""
    told, message_id = read_notification(text)
    if told:
        kind = "feedback" if told[0].kind == "complaint" else "dsn"
        drafts = [_Draft(one.address, one.status, one.action, one.diagnostic) for one in told]
        for draft in drafts:
            draft.kind = "feedback" if kind == "feedback" else "smtp"
        return kind, drafts, message_id
    if _is_auto_reply(header):
        return "auto-reply", [_Draft(_address(_first(header, "from")), kind="auto-reply")], ""
    if not _looks_like_bounce(header, text):
        return "", [], ""
    return "prose", _from_prose(header, text, returned), ""


def _is_auto_reply(header: Header) -> bool:
    """An answer by a machine on behalf of a person (RFC 3834), not by a mail system."""
    if _DAEMON.search(_first(header, "from")[:1000]):
        return False
    subject = decode_words(_first(header, "subject"))[:200]
    return bool(
        _AUTO_SUBJECT.match(subject)
        or _first(header, "auto-submitted").lower().startswith("auto-replied")
        or _first(header, "x-apple-action").upper() == "VACATION"
        or any(item.name in ("x-autoreply", "x-autorespond", "x-autoresponse") for item in header.fields)
    )


def _first(header: Header, name: str) -> str:
    return next((item.text for item in header.fields if item.name == name), "")


def _looks_like_bounce(header: Header, text: str) -> bool:
    sender = _first(header, "from") + " " + _first(header, "return-path")
    empty = _first(header, "return-path").strip() in ("<>", "<MAILER-DAEMON>")
    marked = any(
        item.name in ("x-failed-recipients", "x-amz-bounce")
        or (item.name == "auto-submitted" and "auto-" in item.text)
        for item in header.fields
    )
    report = "report-type" in _first(header, "content-type").lower()
    if _UNMISTAKABLE.search(text[:20_000]) or _UNMISTAKABLE.search(_first(header, "subject")[:500]):
        return True
    if not (empty or marked or report or _DAEMON.search(sender[:1000])):
        return False
    subject = decode_words(_first(header, "subject"))[:1000]
    return bool(_SUBJECT.search(subject) or marked or empty) and bool(
        _FAILURE.search(text[:20_000]) or _SUBJECT.search(subject)
    )


def _prose(leaves: list[Part]) -> tuple[str, bytes]:
    """What is written for people, and the header of the message that came back."""
    written: list[str] = []
    html: list[str] = []
    returned = b""
    for leaf in leaves:
        if leaf.type in (
            "message/rfc822",
            "text/rfc822-headers",
            "message/global",
            "message/global-headers",
            "message/partial",
        ):
            returned = returned or leaf.body.lstrip(b"\r\n")
        elif leaf.type == "text/html":
            html.append(leaf.text)
        elif leaf.type.startswith("text/") or leaf.type == "message/plain":
            written.append(leaf.text)
    text = "\n".join(written if any(one.strip() for one in written) else html)
    text, rest = _cut_copy(text)
    if not returned and rest:
        returned = rest.encode("utf-8", "replace")
    return text, returned


def _cut_copy(text: str) -> tuple[str, str]:
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


def _feedback(leaves: list[Part]) -> Bounce | None:
    leaf = next((one for one in leaves if one.type == "message/feedback-report"), None)
    if leaf is None:
        return None
    facts = scan(leaf.body.lstrip(b"\r\n"))
    _, returned = _prose(leaves)
    inner = scan(returned)
    addresses = [
        address
        for item in facts.fields
        if item.name in ("original-rcpt-to", "removal-recipient")
        for address in _ADDRESS.findall(item.text[:2000])
    ] or _ADDRESS.findall(_first(inner, "to")[:4000])
    people = tuple(
        BouncedRecipient(one, None, None, "feedback", False, "", _first(facts, "feedback-type"))
        for one in (list(dict.fromkeys(addresses)) or [""])[:MAX_RECIPIENTS]
    )
    envelope = _first(facts, "original-envelope-id") or None
    return Bounce("feedback", people, envelope, _first(inner, "message-id").strip("<> ") or None, returned)


def _status_parts(leaves: list[Part]) -> tuple[list[_Draft], str | None]:
    """Per-recipient groups of message/delivery-status parts, wherever they stand (RFC 3464 section 2)."""
    drafts: list[_Draft] = []
    envelope_id: str | None = None
    proper = any(leaf.type in _STATUSES for leaf in leaves)
    for leaf in leaves:
        body = leaf.body
        if leaf.type not in _STATUSES:
            if proper or leaf.type in _MESSAGES or b"inal-Recipient:" not in body or b"Action:" not in body:
                continue
            body = _QUOTE.sub(b"", body)
        for group in _groups(body):
            envelope_id = envelope_id or _first(group, "original-envelope-id") or None
            draft = _draft(group)
            if draft is not None and not any(_same(draft, known) for known in drafts):
                drafts.append(draft)
    return drafts, envelope_id


def _groups(body: bytes) -> Iterable[Header]:
    """The groups of fields: blank lines part them, or, with careless writers, the next Final-Recipient."""
    for chunk in _BLANK.split(body.replace(b"\r\n", b"\n"))[: MAX_RECIPIENTS * 3]:
        chunk = chunk.lstrip(b"\n")
        several = chunk.count(b"inal-Recipient:") > 1
        for piece in (_FINAL.split(chunk) if several else [chunk])[:MAX_RECIPIENTS]:
            group = scan(piece)
            if group.fields:
                yield group


def _draft(group: Header) -> _Draft | None:
    final = _first(group, "final-recipient") or _first(group, "original-recipient")
    if not final and not _first(group, "status"):
        return None
    if not _first(group, "action") and not _first(group, "status"):
        return None
    address = _address(_first(group, "final-recipient")) or _address(_first(group, "original-recipient"))
    kind, _, said = _first(group, "diagnostic-code").partition(";")
    if not said:
        kind, said = "", kind
    return _Draft(
        address,
        _first(group, "status").split(" ", 1)[0] or None,
        _first(group, "action").lower().split(" ", 1)[0].strip(".,;"),
        said.strip()[:MAX_DIAGNOSTIC],
        _first(group, "remote-mta").rpartition(";")[2].strip() or None,
        kind.strip().lower(),
    )


def _same(draft: _Draft, known: _Draft) -> bool:
    return (draft.address, draft.status) == (known.address, known.status)


def _address(text: str) -> str:
    text = text.partition(";")[2] if ";" in text[:20] else text
    found = _ADDRESS.search(text[:1000])
    return found[0] if found else ""


def _from_prose(header: Header, text: str, returned: bytes) -> list[_Draft]:
    """Recipients as mail servers name them in prose; each with the lines that follow it."""
    text = text[:60_000]
    failed = [
        address.lower()
        for item in header.fields
        if item.name == "x-failed-recipients"
        for address in _ADDRESS.findall(item.text[:4000])
    ]
    own = {
        address.lower()
        for name in ("from", "to")
        for address in _ADDRESS.findall(_first(header, name)[:1000])
    }
    for pattern, leave_out in ((_LEADING, own), (_ADDRESS, own), (_LEADING, set[str]())):
        drafts = _named(text, pattern, failed, leave_out)
        if drafts:
            return drafts
    wanted = failed or _ADDRESS.findall(_first(scan(returned), "to")[:1000])[:1]
    return [_Draft(one) for one in dict.fromkeys(wanted)]


def _named(text: str, pattern: re.Pattern[str], failed: list[str], leave_out: set[str]) -> list[_Draft]:
    """One draft for each address that the pattern finds, with the lines from there to the next."""
    drafts: dict[str, _Draft] = {}
    current: _Draft | None = None
    for line in text.split("\n"):
        for found in pattern.finditer(line[:1000]):
            address = (found[1] if pattern.groups else found[0]).lower()
            if address in leave_out or (failed and address not in failed) or _DAEMON.search(address):
                continue
            current = drafts.setdefault(address, _Draft(found[1] if pattern.groups else found[0]))
            break
        if current is not None and len(current.lines) < 200:
            current.lines.append(line)
    return list(drafts.values())


def _settle(draft: _Draft, text: str, alone: bool) -> BouncedRecipient:
    """Status, reply code and reason from the diagnostic; from the prose as well where that says too
    little."""
    if draft.kind in ("auto-reply", "feedback"):
        reason = "vacation" if draft.kind == "auto-reply" else "feedback"
        return BouncedRecipient(draft.address, None, None, reason, False, "", draft.diagnostic)
    said = draft.diagnostic or "\n".join(draft.lines)
    wide = f"{said}\n{text}" if alone else said
    found = _find_status(said) or (_find_status(wide) if draft.status is None or not said else None)
    reply = _reply(said, None) or _reply(wide, found or draft.status)
    status = prefer(draft.status, found, reply)
    if status is not None and reply is not None and reply[0] != status[0]:
        reply = _reply(wide, status)
    refusal = Refusal(
        status or "",
        reply or "",
        said.lower(),
        draft.kind,
        draft.action,
        _command(wide if alone else "\n".join([said, *draft.lines])),
    )
    reason = classify(refusal)
    if reason in UNCLEAR and wide is not said:
        wider = classify(refusal._replace(text=wide.lower()))
        reason = wider if wider not in ("onhold", "undefined") else reason
    if status is None:
        later = draft.action == "delayed" or "temporar" in said.lower()
        status = f"{(reply or ('4' if later else '5'))[0]}.0.0"
    return BouncedRecipient(
        draft.address,
        status,
        reply,
        reason,
        reason in HARD or (reason == "notaccept" and status[0] == "5"),
        draft.action or ("delayed" if status[0] == "4" else "failed"),
        " ".join(said.split())[:MAX_DIAGNOSTIC],
        draft.remote_mta,
    )


def _command(text: str) -> str:
    """The SMTP command that was refused, as servers tell it in prose."""
    found = _COMMAND.search(text[:20_000])
    word = (found[1] or found[2] or found[3] or "").upper() if found is not None else ""
    if not word:
        asked = _ASKED.findall(text[:20_000])
        word = asked[-1].upper() if asked else ""
    return {"MAI": "MAIL", "RCP": "RCPT", "DAT": "DATA", "END": "DATA"}.get(word[:3], word)


def _codes(text: str) -> list[str]:
    return [one[1] for one in _REPLY.finditer(text[:20_000])]


def _find_status(text: str) -> str | None:
    best: str | None = None
    for found in _STATUS.finditer(text[:20_000]):
        if found[2] > "7":
            continue
        best = prefer(best, f"{found[1]}.{int(found[2])}.{int(found[3])}")
    return best


def _reply(text: str, status: str | None) -> str | None:
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
