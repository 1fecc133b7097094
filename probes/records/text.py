"""The texts of records with tags: MTA-STS, TLS-RPT, BIMI; and a strict reading of DMARC. Pure, linear time.

A reader raises DataError that names what is wrong; unknown tags are extensions and are no fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from probes.authentication.dmarc_record import DmarcRecord, parse_dmarc
from probes.authentication.tags import TagError, parse_tags
from probes.errors import DataError

RECORD_CAP = 8192
"""Characters of a record that are looked at."""

_EXTENSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}\Z")
_EXTENSION_VALUE = re.compile(r"[\x21-\x3a\x3c\x3e-\x7e]+\Z")
_ID = re.compile(r"[A-Za-z0-9]{1,32}\Z")
_URI = re.compile(r"(?:[A-Za-z0-9._~:/?#@$&'()*+=\[\]-]|%[0-9A-Fa-f]{2})+\Z")
_MAILTO = re.compile(r"mailto:[^@:/?]+@[A-Za-z0-9.-]+(?:\?.*)?\Z", re.IGNORECASE)
_HTTPS = re.compile(r"https://[A-Za-z0-9\[][^/]*(?:/.*)?\Z", re.IGNORECASE)
_SIZE = re.compile(r"[0-9]{1,18}[kmgt]?\Z", re.IGNORECASE)
_HISTORIC = ("pct=", "rf=", "ri=")  # tags that RFC 9989 took away: whatever they say is ignored
_PREFIX = re.compile(r"[A-Za-z0-9-]{1,63}\Z")


def fields(text: str, version: str) -> list[tuple[str, str]]:
    """The fields behind the version of an MTA-STS or TLS-RPT record, in order. Raises DataError."""
    if len(text) > RECORD_CAP:
        raise DataError("the record is too long")
    head, *rest = (part.strip(" \t") for part in text.split(";"))
    if head != f"v={version}":
        raise DataError(f"it does not begin with v={version};")
    if rest and not rest[-1]:
        rest.pop()  # one delimiter may stand at the end
    found = []
    for part in rest:
        name, equals, value = (piece.strip(" \t") for piece in part.partition("="))
        if not equals or not _EXTENSION_NAME.match(name):
            raise DataError(f"not a field: {part[:40]!r}")
        if not value:
            raise DataError(f"{name}= is empty")
        found.append((name, value))
    return found


def _extensions(found: Iterable[tuple[str, str]], known: str) -> None:
    for name, value in found:
        if name != known and not _EXTENSION_VALUE.match(value):
            raise DataError(f"{name}= has characters that may not be there")


def parse_sts_record(text: str) -> str:
    """The id= of an MTA-STS record (RFC 8461 section 3.1). Raises DataError."""
    found = fields(text, "STSv1")
    _extensions(found, "id")
    ids = [value for name, value in found if name == "id"]
    if len(ids) != 1:
        raise DataError("id= is missing" if not ids else "id= is there twice")
    if not _ID.match(ids[0]):
        raise DataError(f"id={ids[0][:40]} is not 1 to 32 letters and digits")
    return ids[0]


def parse_tls_rpt(text: str) -> tuple[str, ...]:
    """The addresses for reports of a TLS-RPT record (RFC 8460 section 3). Raises DataError."""
    found = fields(text, "TLSRPTv1")
    _extensions(found, "rua")
    uris = [uri.strip(" \t") for name, value in found if name == "rua" for uri in value.split(",")]
    if not uris:
        raise DataError("rua= is missing")
    for uri in uris:
        if not _is_report_uri(uri):
            raise DataError(f"rua= has {uri[:60]!r}, which is no mailto: or https: address")
    return tuple(uris)


def _is_report_uri(uri: str) -> bool:
    return bool(_URI.match(uri)) and bool(_MAILTO.match(uri) or _HTTPS.match(uri))


@dataclass(frozen=True, slots=True)
class BimiRecord:
    """A BIMI assertion. location: of the logo, "" for declined, None where there is no l=; authority: of the
    mark certificate; avatar: avp=; prefixes: lps=.
    """

    location: str | None
    authority: str
    avatar: str
    prefixes: tuple[str, ...]


def parse_bimi(text: str) -> BimiRecord:
    """Reads a BIMI record (draft-brand-indicators-for-message-identification 4.2). Raises DataError."""
    if len(text) > RECORD_CAP:
        raise DataError("the record is too long")
    try:
        tags = {
            name.decode().lower(): value.decode("latin-1")
            for name, value in parse_tags(text.encode("latin-1", "replace")).items()
        }
    except TagError as error:
        raise DataError(str(error)) from None
    if next(iter(tags), "") != "v" or tags["v"] != "BIMI1":
        raise DataError("it does not begin with v=BIMI1;")
    for name in ("l", "a"):
        if tags.get(name) and not tags[name].lower().startswith("https://"):
            raise DataError(f"{name}= is no https: address")
    avatar = tags.get("avp", "brand").lower()
    if avatar not in ("brand", "personal"):
        raise DataError(f"avp={avatar[:40]} is neither brand nor personal")
    prefixes = tuple(part.strip().lower() for part in tags["lps"].split(",")) if "lps" in tags else ()
    for prefix in prefixes:
        if not _PREFIX.match(prefix):
            raise DataError(f"lps= has {prefix[:40]!r}, which is not letters, digits and hyphens")
    return BimiRecord(tags.get("l"), tags.get("a", ""), avatar, prefixes)


@dataclass(frozen=True, slots=True)
class DmarcReading:
    """A DMARC record read strictly. usable: receivers apply it (RFC 9989 section 4.10.1); faults: what is
    wrong with it, for people; record: None where it is no DMARC record at all.
    """

    record: DmarcRecord | None
    usable: bool
    faults: tuple[str, ...]


def read_dmarc(text: str) -> DmarcReading:
    """Reads the record of a domain as its owner should have written it."""
    record = parse_dmarc(text)
    if record is None:
        return DmarcReading(None, False, ("it does not begin with exactly v=DMARC1;",))
    tags = dict(record.tags)
    faults = [fault for fault in record.faults if not fault.startswith(_HISTORIC)]
    reports = False
    for name in ("rua", "ruf"):
        for uri in tags[name].split(",") if name in tags else ():
            good = is_dmarc_uri(uri.strip())
            reports = reports or (good and name == "rua")
            if not good:
                faults.append(f"{name}= has {uri.strip()[:60]!r}, which is no address for reports")
    if "p" not in tags and reports:
        faults.remove("p= is missing")  # then it is one of p=none, which is allowed
    twice = any("is there twice" in fault for fault in faults)
    usable = not twice and (reports or ("p" in tags and not record.bad_policy))
    return DmarcReading(record, usable, tuple(faults))


def is_dmarc_uri(text: str) -> bool:
    """Whether it may stand in rua= or ruf=; a size limit of older records may follow (RFC 7489 6.2)."""
    uri, mark, size = text.partition("!")
    if mark and not _SIZE.match(size):
        return False
    return bool(_URI.match(uri)) and bool(_MAILTO.match(uri) or re.match(r"[a-z][a-z0-9+.-]*://.", uri, re.I))
