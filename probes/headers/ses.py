"""Amazon SES tells of bounces, complaints and deliveries as JSON in the body of a mail, through its
notifications."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

MAX_JSON = 128 * 1024


class Told(NamedTuple):
    """One recipient in a notification. kind: bounce, complaint or delivery."""

    kind: str
    address: str
    status: str | None
    action: str
    diagnostic: str


def read_notification(text: str) -> tuple[list[Told], str]:
    """The recipients, and the Message-ID of the mail they were told of; nothing where it is no
    notification."""
    text = text.replace("!\n ", "")  # how sendmail breaks lines that are too long
    start = text.find("{")
    if start < 0 or "notificationType" not in text:
        return [], ""
    data = _load(text[start : start + MAX_JSON])
    if isinstance(data.get("Message"), str):
        data = _load(data["Message"])
    kind = str(data.get("notificationType", "")).lower()
    about = data.get(kind)
    mail = data.get("mail")
    if not isinstance(about, dict):
        return [], ""
    headers = mail.get("commonHeaders") if isinstance(mail, dict) else None
    message_id = str(headers.get("messageId", "")) if isinstance(headers, dict) else ""
    return [_told(kind, one, about) for one in _recipients(kind, about)], message_id.strip("<>")


def _load(text: str) -> dict[str, Any]:
    try:
        data, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _recipients(kind: str, about: dict[str, Any]) -> list[dict[str, Any]]:
    names = {"bounce": "bouncedRecipients", "complaint": "complainedRecipients", "delivery": "recipients"}
    found = about.get(names.get(kind, ""))
    if not isinstance(found, list):
        return []
    return [one if isinstance(one, dict) else {"emailAddress": one} for one in found[:100]]


def _told(kind: str, one: dict[str, Any], about: dict[str, Any]) -> Told:
    said = str(one.get("diagnosticCode") or about.get("smtpResponse") or "")
    status = str(one["status"]) if one.get("status") else None
    action = "delivered" if kind == "delivery" else str(one.get("action") or "failed")
    return Told(kind, str(one.get("emailAddress") or ""), status, action, said[:4000])
