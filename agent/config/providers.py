"""What the config must know of the provider presets: their names, hosts and limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """host: "" where every installation has its own; per_minute, daily: canaries, None where not known."""

    host: str
    per_minute: float | None = None
    daily: int | None = None


_FACTS = {
    "gmail": ProviderFacts("imap.gmail.com"),
    "outlook": ProviderFacts("outlook.office365.com"),
    "microsoft365": ProviderFacts("outlook.office365.com"),
    "yahoo": ProviderFacts("imap.mail.yahoo.com"),
    "aol": ProviderFacts("imap.aol.com"),
    "icloud": ProviderFacts("imap.mail.me.com"),
    "gmx": ProviderFacts("imap.gmx.net"),
    "webde": ProviderFacts("imap.web.de"),
    "fastmail": ProviderFacts("imap.fastmail.com"),
    "zoho": ProviderFacts("imap.zoho.com"),
    "proton": ProviderFacts("127.0.0.1"),
    "dovecot": ProviderFacts(""),
    "cyrus": ProviderFacts(""),
    "stalwart": ProviderFacts(""),
    "generic": ProviderFacts(""),
}


def provider_names() -> tuple[str, ...]:
    """Names of all presets."""
    return tuple(_FACTS)


def provider_facts(name: str) -> ProviderFacts | None:
    """The facts of one preset, or None where there is none of that name."""
    return _FACTS.get(name)
