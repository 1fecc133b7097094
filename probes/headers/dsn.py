"""Bounces: delivery status notifications (RFC 3464), feedback reports (RFC 5965), and the prose of mail
servers that write neither.

What counts here is which canary came back, for which recipient, and why. Linear time, never raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from probes.headers.codes import find_command, find_reply, find_status, prefer
from probes.headers.mime import Part, parts
from probes.headers.prose import (
    ADDRESS,
    cut_copy,
    find_named,
    find_recipients,
    first,
    is_auto_reply,
    looks_like_bounce,
)
from probes.headers.reasons import HARD, UNCLEAR, Refusal, classify
from probes.headers.scan import Header, decode_words, scan
from probes.headers.ses import read_notification

MAX_RECIPIENTS = 100
MAX_DIAGNOSTIC = 4_000

_QUOTE = re.compile(rb"^>[ >]*", re.MULTILINE)
_BLANK = re.compile(rb"\n[ \t]*\n")
_FINAL = re.compile(rb"\n(?=Final-Recipient:)", re.IGNORECASE)
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
        near = {one.address.lower(): one.lines for one in find_named(text, ADDRESS, [], set())}
        for draft in drafts:
            draft.lines = near.get(draft.address.lower(), [])
    text = f"{text}\n{decode_words(first(header, 'subject'))[:500]}"
    people = tuple(_settle(draft, text, alone) for draft in drafts[:MAX_RECIPIENTS])
    inner_id = first(scan(returned), "message-id").strip("<> ") or inner_id
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
    if is_auto_reply(header):
        return "auto-reply", [_Draft(_address(first(header, "from")), kind="auto-reply")], ""
    if not looks_like_bounce(header, text):
        return "", [], ""
    found = find_recipients(header, text, returned)
    return "prose", [_Draft(one.address, lines=one.lines) for one in found], ""


def _prose(leaves: list[Part]) -> tuple[str, bytes]:
    """What is written for people, and the header of the message that came back."""
    written: list[str] = []
    html: list[str] = []
    returned = b""
    for leaf in leaves:
        if leaf.type in _MESSAGES:
            returned = returned or leaf.body.lstrip(b"\r\n")
        elif leaf.type == "text/html":
            html.append(leaf.text)
        elif leaf.type.startswith("text/") or leaf.type == "message/plain":
            written.append(leaf.text)
    text = "\n".join(written if any(one.strip() for one in written) else html)
    text, rest = cut_copy(text)
    if not returned and rest:
        returned = rest.encode("utf-8", "replace")
    return text, returned


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
        for address in ADDRESS.findall(item.text[:2000])
    ] or ADDRESS.findall(first(inner, "to")[:4000])
    people = tuple(
        BouncedRecipient(one, None, None, "feedback", False, "", first(facts, "feedback-type"))
        for one in (list(dict.fromkeys(addresses)) or [""])[:MAX_RECIPIENTS]
    )
    envelope = first(facts, "original-envelope-id") or None
    return Bounce("feedback", people, envelope, first(inner, "message-id").strip("<> ") or None, returned)


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
            envelope_id = envelope_id or first(group, "original-envelope-id") or None
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
    final = first(group, "final-recipient") or first(group, "original-recipient")
    if not final and not first(group, "status"):
        return None
    if not first(group, "action") and not first(group, "status"):
        return None
    address = _address(first(group, "final-recipient")) or _address(first(group, "original-recipient"))
    kind, _, said = first(group, "diagnostic-code").partition(";")
    if not said:
        kind, said = "", kind
    return _Draft(
        address,
        first(group, "status").split(" ", 1)[0] or None,
        first(group, "action").lower().split(" ", 1)[0].strip(".,;"),
        said.strip()[:MAX_DIAGNOSTIC],
        first(group, "remote-mta").rpartition(";")[2].strip() or None,
        kind.strip().lower(),
    )


def _same(draft: _Draft, known: _Draft) -> bool:
    return (draft.address, draft.status) == (known.address, known.status)


def _address(text: str) -> str:
    text = text.partition(";")[2] if ";" in text[:20] else text
    found = ADDRESS.search(text[:1000])
    return found[0] if found else ""


def _settle(draft: _Draft, text: str, alone: bool) -> BouncedRecipient:
    """Status, reply code and reason from the diagnostic; from the prose as well where that says too
    little."""
    if draft.kind in ("auto-reply", "feedback"):
        reason = "vacation" if draft.kind == "auto-reply" else "feedback"
        return BouncedRecipient(draft.address, None, None, reason, False, "", draft.diagnostic)
    said = draft.diagnostic or "\n".join(draft.lines)
    wide = f"{said}\n{text}" if alone else said
    found = find_status(said) or (find_status(wide) if draft.status is None or not said else None)
    reply = find_reply(said, None) or find_reply(wide, found or draft.status)
    status = prefer(draft.status, found, reply)
    if status is not None and reply is not None and reply[0] != status[0]:
        reply = find_reply(wide, status)
    refusal = Refusal(
        status or "",
        reply or "",
        said.lower(),
        draft.kind,
        draft.action,
        find_command(wide if alone else "\n".join([said, *draft.lines])),
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
