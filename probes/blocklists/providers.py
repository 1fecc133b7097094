"""What pydnsbl knows: its providers and the categories of their codes, as zones below our catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Protocol

from probes.blocklists.catalogue import Code, Kind, Meaning, Zone, parse_pattern
from probes.outcome import Severity

_CODES = tuple(f"127.0.{third}.{last}" for third in (0, 1) for last in range(2, 255))


class _Provider(Protocol):
    host: str

    def process_response(self, response: list[SimpleNamespace]) -> set[str]: ...


def _codes(provider: _Provider, unknown: str) -> Iterable[Code]:
    """Asks the provider's own table about every code a zone commonly uses."""
    for code in _CODES:
        categories = provider.process_response([SimpleNamespace(host=code)]) - {unknown}
        if categories:
            text = ", ".join(sorted(categories))
            yield Code(parse_pattern(code), Meaning.LISTED, text, text, Severity.WARNING)


def pydnsbl_zones() -> list[Zone]:
    """Every provider of pydnsbl as a zone that is off until somebody names it; stray blanks are removed."""
    from pydnsbl import providers

    def zone(provider: _Provider, kinds: frozenset[Kind]) -> Zone:
        plain = type(provider) is providers.Provider  # knows no code
        codes = () if plain else tuple(_codes(provider, providers.DNSBL_CATEGORY_UNKNOWN))
        name = provider.host.strip().lower()
        source = ("pydnsbl.providers",)
        return Zone(name, name, kinds, title=name, codes=codes, severity=Severity.WARNING, source=source)

    addresses = frozenset({Kind.IPV4, Kind.IPV6})
    return [
        *(zone(p, addresses) for p in providers.BASE_PROVIDERS),
        *(zone(p, frozenset({Kind.DOMAIN})) for p in providers.BASE_DOMAIN_PROVIDERS),
    ]
