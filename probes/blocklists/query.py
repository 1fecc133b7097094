"""Subjects and the names they are asked under (RFC 5782 sections 2.1, 2.2 and 2.4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from probes.blocklists.catalogue import Kind, Zone
from probes.errors import ConfigError

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

MAX_NAME = 253  # characters of a DNS name in text, RFC 1035 section 3.1


@dataclass(frozen=True, slots=True)
class Subject:
    """An address or a domain, in its one canonical spelling."""

    text: str
    kind: Kind


def parse_subject(text: str) -> Subject:
    """Reads an IP address or a domain name. Raises ConfigError for what is neither."""
    plain = text.strip()
    try:
        address = ip_address(plain.strip("[]"))
    except ValueError:
        return Subject(domain_name(plain), Kind.DOMAIN)
    if "%" in plain:
        raise ConfigError(f"{text!r}: an address of one link only is on no blocklist")
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return Subject(str(address), Kind.IPV4 if isinstance(address, IPv4Address) else Kind.IPV6)


def domain_name(text: str) -> str:
    """A domain in lower case ASCII (IDNA), without the final dot. Raises ConfigError."""
    import dns.exception
    import dns.name

    plain = text.strip().rstrip(".").lower()
    try:
        ascii_name = plain if plain.isascii() else dns.name.from_text(plain).to_text(omit_final_dot=True)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise ConfigError(f"{text!r} is neither an IP address nor a domain: {error}") from None
    labels = ascii_name.split(".")
    fits = all(0 < len(label) < 64 and _letters(label) for label in labels)
    if not fits or len(ascii_name) > MAX_NAME or labels[-1].isdigit():
        raise ConfigError(f"{text!r} is neither an IP address nor a domain")
    return ascii_name


def _letters(label: str) -> bool:
    return label.replace("-", "").replace("_", "").isalnum() or label in ("-", "_")


def reversed_address(address: IPv4Address | IPv6Address) -> str:
    """Octets (IPv4) or nibbles (IPv6) from the last to the first, with dots between."""
    if isinstance(address, IPv4Address):
        return ".".join(reversed(str(address).split(".")))
    return ".".join(reversed(address.exploded.replace(":", "")))


def prefix(subject: Subject) -> str:
    """The part of the question before the zone."""
    if subject.kind is Kind.DOMAIN:
        return subject.text
    return reversed_address(ip_address(subject.text))


def questions(subject: Subject, zone: Zone) -> tuple[str, ...]:
    """The names to ask for one pair: two where a list holds registrable domains and this is a host."""
    names = [f"{prefix(subject)}.{zone.origin}"]
    if subject.kind is Kind.DOMAIN and zone.registered_names:
        parent = registrable(subject.text)
        if parent and parent != subject.text:
            names.append(f"{parent}.{zone.origin}")
    return tuple(names)


@cache
def _suffixes() -> PublicSuffixList:
    from publicsuffixlist import PublicSuffixList

    return PublicSuffixList()


def registrable(domain: str) -> str:
    """The organizational domain by the public suffix list, "" where the name is itself a public suffix."""
    return str(_suffixes().privatesuffix(domain) or "")


@dataclass(frozen=True, slots=True)
class Controls:
    """What a zone must list and what it must not (RFC 5782 section 5), as names to ask."""

    listed: tuple[str, ...]
    clean: tuple[str, ...]


_POINTS = {
    Kind.IPV4: ("127.0.0.2", "127.0.0.1"),
    Kind.IPV6: ("::ffff:7f00:2", "::ffff:7f00:1"),
}


def controls(zone: Zone, kind: Kind, nonce: str = "") -> Controls:
    """The control questions of a zone for one kind of subject.

    nonce: a label nobody ever listed, asked beside the clean point: a zone whose domain was sold lists it.
    """
    if kind is Kind.DOMAIN:
        listed, clean = "test", "invalid"
    else:
        yes, no = (ip_address(point) for point in _POINTS[kind])
        listed, clean = reversed_address(yes), reversed_address(no)
    extra = tuple(f"{point}.{zone.origin}" for point in zone.listed_points if kind is Kind.DOMAIN)
    never = (f"{nonce}.{zone.origin}",) if nonce else ()
    return Controls((f"{listed}.{zone.origin}", *extra), (f"{clean}.{zone.origin}", *never))
