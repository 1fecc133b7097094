"""One tree of errors. The docstring of a class is its message; arguments add the particulars.

MailcanaryError
├── ConfigError          the file, or what it names, is wrong: exit code 2
├── DataError            bytes from outside that cannot be read as what they claim to be
├── Unavailable          could not look: the other side, or we ourselves, did not answer
│   ├── MailboxUnavailable
│   │   ├── LoginRefused
│   │   └── MailboxGone
│   ├── SmtpUnavailable
│   ├── DnsUnavailable
│   └── HttpUnavailable
└── StoreError           what must be remembered could not be written
    ├── StaleWrite
    └── SchemaMismatch
"""

from __future__ import annotations


class MailcanaryError(Exception):
    """Something went wrong."""

    def __init__(self, detail: str = "", **facts: object) -> None:
        self.detail = detail
        self.facts = facts
        lines = (type(self).__doc__ or "Something went wrong.").strip().splitlines()
        head = lines[0].rstrip(".")
        super().__init__(f"{head}: {detail}" if detail else head)


class ConfigError(MailcanaryError):
    """The configuration is wrong."""


class DataError(MailcanaryError):
    """The data cannot be read as what it claims to be."""


class Unavailable(MailcanaryError):
    """Could not look."""


class MailboxUnavailable(Unavailable):
    """The mailbox cannot be read."""


class LoginRefused(MailboxUnavailable):
    """The mailbox refused the login."""


class MailboxGone(MailboxUnavailable):
    """A folder that counts is gone from the mailbox."""


class SmtpUnavailable(Unavailable):
    """The SMTP server cannot be reached."""


class DnsUnavailable(Unavailable):
    """The resolver gave no usable answer."""


class HttpUnavailable(Unavailable):
    """The HTTP fetch failed."""


class StoreError(MailcanaryError):
    """The store failed."""


class StaleWrite(StoreError):
    """Another writer moved this row, or holds its lease now."""


class SchemaMismatch(StoreError):
    """The store has another schema version than this program; run `mailcanary db upgrade`."""
