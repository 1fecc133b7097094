"""The author domains of a message: who its From header says wrote it. Tolerant, linear, never raises."""

from __future__ import annotations

from probes.authentication.domains import normal_domain
from probes.authentication.message import Message

#: Characters of a From header that are looked at, and author domains that are kept.
FROM_CAP = 16_384
AUTHOR_CAP = 20


def author_domains(message: Message) -> tuple[str, ...]:
    """The distinct domains of all From headers, in order; empty where none can be read."""
    found: dict[str, None] = {}
    for index in message.indexes(b"from")[:AUTHOR_CAP]:
        text = message.value(index)[:FROM_CAP].decode("utf-8", "replace")
        found.update(dict.fromkeys(from_domains(text)))
    return tuple(found)[:AUTHOR_CAP]


def from_domains(text: str) -> tuple[str, ...]:
    """The domain of every mailbox in the value of a From header (RFC 5322 section 3.4), in order."""
    domains = (_domain(mailbox) for mailbox in _mailboxes(text[:FROM_CAP]))
    return tuple(dict.fromkeys(domain for domain in domains if domain))


def _mailboxes(text: str) -> list[str]:
    """Splits at commas and semicolons, without comments and quoted strings; one pass.

    A quoted string becomes a bare quote mark, so that what it holds is never taken for an address.
    """
    found: list[str] = []
    part: list[str] = []
    depth, quoted, escaped = 0, False, False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\" and (quoted or depth):
            escaped = True
        elif quoted:
            quoted = char != '"'
        elif char == "(":
            depth += 1
        elif depth:
            depth -= char == ")"
        elif char == '"':
            quoted = True
            part.append('"')
        elif char in ",;":
            found.append("".join(part))
            part = []
        else:
            part.append(char)
    found.append("".join(part))
    return found


def _domain(mailbox: str) -> str:
    """The domain of one mailbox: of the last address in angle brackets, else of the last word with an @."""
    for piece in reversed(mailbox.split("<")):
        address, _, _ = piece.partition(">")
        if "@" in address:
            words = [word for word in address.split() if "@" in word]
            text = words[-1] if "<" not in mailbox and words else "".join(address.split())
            return normal_domain(text.rpartition("@")[2].strip(">[]"))
    return ""
