"""What the refusals among an alert's failures mean, so that nobody must look a code up at night."""

from __future__ import annotations

import re
from collections import Counter

from alerts.lifecycle import Alert
from alerts.muting import members_of
from probes.canary.replies import ReplyMeaning, meaning, meaning_keys

_REPLY = re.compile(r"[45]\d\d(?: [245]\.\d+\.\d+)? \(([a-z_]+)\)")


def refusal(alert: Alert) -> ReplyMeaning | None:
    """The meaning of the commonest SMTP refusal of the alert's members; None where none has one."""
    found = (_REPLY.match(member.reply) for member in members_of(alert))
    keys = Counter(match.group(1) for match in found if match)
    (key, _), *_ = keys.most_common(1) or [("", 0)]
    return meaning(key) if key in meaning_keys() else None
