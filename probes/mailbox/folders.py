"""Which folders count for placement: by the flags LIST returns, then by name in many languages, then by
config.

Flags count whether or not the server announces SPECIAL-USE (RFC 6154): Zoho and Exchange send them without.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

import yaml

from probes.mailbox.model import Role
from probes.mailbox.mutf7 import decode
from probes.mailbox.parse import ListEntry

_UNREADABLE: Final = frozenset({"\\noselect", "\\nonexistent"})
_NOT_LOOKED_AT: Final = frozenset({"\\all", "\\flagged", "\\important", "\\drafts", "\\sent"})
"""Views of messages that are elsewhere too, and mail that was written here."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that counts. name: as the server writes it; flagged: its role comes from a flag, not from
    its name."""

    name: str
    role: Role
    flagged: bool = False


@dataclass(frozen=True, slots=True)
class FolderMap:
    """counting: inbox first, then junk, then what the config names. others: where a canary would be `other`.
    missing: configured folders that are not there. trash: for deleting, None where there is none."""

    counting: tuple[Folder, ...]
    others: tuple[str, ...]
    missing: tuple[str, ...]
    trash: str | None

    @property
    def junk(self) -> tuple[Folder, ...]:
        """The junk folders."""
        return tuple(folder for folder in self.counting if folder.role is Role.JUNK)


def find_folders(
    entries: Iterable[ListEntry],
    configured: Mapping[str, Role] | None = None,
    preset_junk: Iterable[str] = (),
    inbox_only: bool = False,
) -> FolderMap:
    """The map of a mailbox. configured: role by name as people write it, beats all else. preset_junk: the
    provider's own names, tried before the general list of names. inbox_only: a mailbox of bounces, where
    only the inbox and what is configured counts."""
    wanted = {plain(name): role for name, role in (configured or {}).items()}
    readable = [entry for entry in entries if not entry.flags & _UNREADABLE]
    junk = [] if inbox_only else _junk(readable, wanted, [plain(name) for name in preset_junk])
    counting = [Folder("INBOX", Role.INBOX, flagged=True), *junk]
    taken = {folder.name for folder in counting}
    for entry in readable:
        role = wanted.get(plain(decode(entry.name)))
        if role is not None and entry.name not in taken and entry.name.upper() != "INBOX":
            counting.append(Folder(entry.name, role))
            taken.add(entry.name)
    present = {plain(decode(entry.name)) for entry in readable} | {"inbox"}
    others = [
        entry.name
        for entry in readable
        if not inbox_only
        and entry.name not in taken
        and entry.name.upper() != "INBOX"
        and not entry.flags & _NOT_LOOKED_AT
    ]
    trash = next((entry.name for entry in readable if "\\trash" in entry.flags), None)
    missing = tuple(name for name in configured or {} if plain(name) not in present)
    return FolderMap(tuple(counting), tuple(others), missing, trash)


def _junk(readable: list[ListEntry], wanted: Mapping[str, Role], preset: list[str]) -> list[Folder]:
    """Config first; else every flagged folder; else the provider's names, all of them; else the first
    known name."""
    named = [entry for entry in readable if wanted.get(plain(decode(entry.name))) is Role.JUNK]
    if named:
        return [Folder(entry.name, Role.JUNK, "\\junk" in entry.flags) for entry in named]
    free = [
        entry
        for entry in readable
        if plain(decode(entry.name)) not in wanted
        and entry.name.upper() != "INBOX"
        and not entry.flags & (_NOT_LOOKED_AT | {"\\trash", "\\archive"})
    ]
    flagged = [entry for entry in free if "\\junk" in entry.flags or "\\spam" in entry.flags]
    preset_named = [entry for entry in free if plain(decode(entry.name)) in preset]
    if flagged or preset_named:
        chosen = flagged + [entry for entry in preset_named if entry not in flagged]
        return [Folder(entry.name, Role.JUNK, entry in flagged) for entry in chosen]
    return [Folder(entry.name, Role.JUNK) for entry in free if is_junk_name(_leaf(entry))]


def _leaf(entry: ListEntry) -> str:
    """The last part of a path: Cyrus and Courier put folders below INBOX, Gmail below [Gmail]."""
    name = entry.name.rpartition(entry.delimiter)[2] if entry.delimiter else entry.name
    return decode(name)


def is_junk_name(name: str) -> bool:
    """Whether people or programs call a junk folder so, in one of the languages of junk_names.yaml."""
    return plain(name) in junk_names()


def plain(name: str) -> str:
    """A name without case, width, or space around it, for comparing."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


@cache
def junk_names() -> frozenset[str]:
    """All names in junk_names.yaml, made plain."""
    text = files("probes.mailbox").joinpath("junk_names.yaml").read_text(encoding="utf-8")
    data: dict[str, list[str]] = yaml.safe_load(text)["names"]
    return frozenset(plain(name) for names in data.values() for name in names)
