"""The messages that paths name: files, mbox files, folders, standard input."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from probes.headers.scan import scan

MAX_OCTETS = 64 * 1024 * 1024

_MBOX_LINE = re.compile(rb"^From \S{1,320} .{0,100}\d{4}.{0,100}\n(?=[!-9;-~]+:|>From )", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_SKIPPED = frozenset((".json", ".py", ".yaml", ".yml", ".md", ".html", ".gz", ".zip", ".png", ".xml", ".pdf"))


@dataclass(frozen=True, slots=True)
class Source:
    """One message. name: its path, with "#n" inside an mbox; problem: why it could not be read, then no
    octets."""

    name: str
    octets: bytes
    problem: str = ""


def sources(paths: list[str]) -> Iterator[Source]:
    """All messages in order; a folder is walked by name, hidden files and files of other kinds left out."""
    for path in paths:
        if path == "-":
            yield from split("-", sys.stdin.buffer.read(MAX_OCTETS))
        elif Path(path).is_dir():
            yield from _folder(path)
        else:
            yield from _file(path)


def _folder(path: str) -> Iterator[Source]:
    """Every file below; a folder that cannot be opened is a message that cannot be read. Links to folders are
    not followed."""
    shut: list[OSError] = []
    for folder, inner, names in os.walk(path, onerror=shut.append):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (Source(one.filename, b"", one.strerror or "it cannot be opened") for one in shut)
        shut.clear()
        for name in sorted(names):
            file = Path(folder, name)
            found = file.is_file() or not file.exists()  # no pipe, but a link that leads nowhere is told
            if name[0] != "." and file.suffix.lower() not in _SKIPPED and found:
                yield from _file(str(file))
    yield from (Source(one.filename, b"", one.strerror or "it cannot be opened") for one in shut)


def _file(path: str) -> Iterator[Source]:
    try:
        with Path(path).open("rb") as file:
            octets = file.read(MAX_OCTETS)
    except OSError as error:
        yield Source(path, b"", error.strerror or str(error))
        return
    yield from split(path, octets)


def split(name: str, octets: bytes) -> Iterator[Source]:
    """An mbox begins with a "From " line and has one message for each (RFC 4155); all else is one message."""
    if b"\n" not in octets:
        octets = octets.replace(b"\r", b"\n")  # as some old programs end lines
    if not octets.strip():
        yield Source(name, b"", "it is empty")
        return
    starts = [found.start() for found in _MBOX_LINE.finditer(octets)] if octets[:5] == b"From " else []
    if len(starts) < 2:
        if scan(octets).fields:
            yield Source(name, octets)
        else:
            yield Source(name, b"", "it is no mail message: it has no header field")
        return
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(octets)
        _, _, message = octets[start:end].partition(b"\n")
        yield Source(f"{name}#{number + 1}", _QUOTED_FROM.sub(rb"\1", message))
