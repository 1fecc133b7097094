"""Domain names as mail writes them, made comparable; and the public-suffix view of who owns one."""

from __future__ import annotations

import asyncio
import re
from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")


LONGEST = 1_024
"""Characters beyond which no text is a name in any spelling: such is neither converted nor remembered."""


def normal_domain(text: str) -> str:
    """Lower case, A-labels, no dots at the ends. What cannot be made so comes back lower-cased as it is."""
    return _normal_domain(text) if len(text) <= LONGEST else text.strip().strip(".").lower()


@lru_cache(maxsize=4096)
def _normal_domain(text: str) -> str:
    name = text.strip().strip(".").lower()
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return name


def is_host_domain(name: str) -> bool:
    """Whether a normalised name can be asked of DNS: letters, digits, hyphen, underscore, labels of 1 to 63,
    253 in all.
    """
    return 0 < len(name) <= 253 and _is_host_domain(name)


@lru_cache(maxsize=4096)
def _is_host_domain(name: str) -> bool:
    return bool(_NAME.match(name))


def parents(name: str) -> list[str]:
    """The names above a name, nearest first, down to the top-level domain."""
    labels = name.split(".")
    return [".".join(labels[start:]) for start in range(1, len(labels))]


def is_below(name: str, ancestor: str) -> bool:
    """Whether a name is the ancestor itself or stands below it."""
    return name == ancestor or name.endswith("." + ancestor)


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList(accept_unknown=True)


async def load_suffixes() -> None:
    """Reads the list in a thread, once (0.2 s), so that the first message does not hold the loop up."""
    if not _suffixes.cache_info().currsize:
        await asyncio.to_thread(_suffixes)


def registrable(domain: str) -> str | None:
    """The organizational domain by public suffix (RFC 7489 section 3.2), in the spelling given; None for a
    suffix.
    """
    return _registrable(domain) if len(domain) <= LONGEST else None


@lru_cache(maxsize=4096)
def _registrable(domain: str) -> str | None:
    name = domain.lower()
    if not name or name.startswith(".") or ".." in name:
        return None
    found = _suffixes().privatesuffix(normal_domain(name))
    if not found:
        return None
    return ".".join(name.rstrip(".").split(".")[-(found.count(".") + 1) :])
