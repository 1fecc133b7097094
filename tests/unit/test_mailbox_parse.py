"""The response parser: what it reads, and that nothing a server sends can break it."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.errors import DataError, MailboxUnavailable
from probes.mailbox import parse
from probes.mailbox.mutf7 import decode, encode
from probes.mailbox.wire import Assembler, ServerResponse
from tests.examples import examples

WORDS = [
    b"* ",
    b"1 FETCH (",
    b"(",
    b")",
    b'"',
    b"\\",
    b"{3}",
    b"{0}",
    b"\r\n",
    b" ",
    b"NIL",
    b"UID 5",
    b"[",
    b"]",
]
MORE = [
    b"<0>",
    b"BODY[]",
    b"SEARCH 1 2",
    b"LIST",
    b"STATUS",
    b"\x00",
    b"\xff",
    b"+ ",
    b"A1 OK",
    b"{99999999}",
]
PIECES = st.lists(st.sampled_from(WORDS + MORE) | st.binary(max_size=8), max_size=60).map(b"".join)


def assembled(data: bytes, chunk: int = 0) -> list[ServerResponse]:
    assembler = Assembler()
    step = chunk or len(data) or 1
    return [one for start in range(0, len(data), step) for one in assembler.feed(data[start : start + step])]


@settings(max_examples=examples(400), deadline=None)
@given(PIECES, st.integers(1, 9))
def test_cutting_into_packets_changes_nothing(data: bytes, chunk: int) -> None:
    def outcome(step: int) -> object:
        try:
            return assembled(data, step)
        except MailboxUnavailable:
            return "refused"

    assert outcome(0) == outcome(chunk)


@settings(max_examples=examples(400), deadline=None)
@given(PIECES)
def test_readers_raise_nothing_but_data_error(data: bytes) -> None:
    try:
        responses = assembled(data)
    except MailboxUnavailable:
        return
    for response in [*responses, ServerResponse((data,)), ServerResponse((b"* 1 FETCH (", data, b")"))]:
        for reader in (parse.fetch_items, parse.list_entry, parse.status_items):
            with suppress(DataError):
                reader(response.parts)
        parse.numbers([response.line])
        parse.response_code(response.line)


@settings(max_examples=examples(200), deadline=None)
@given(st.binary(max_size=200))
def test_a_literal_comes_back_as_it_is(body: bytes) -> None:
    data = b"* 7 FETCH (UID 9 BODY[HEADER] {%d}\r\n%s FLAGS (\\Seen))\r\n" % (len(body), body)
    (response,) = assembled(data)
    items = parse.fetch_items(response.parts)
    assert items == {"UID": "9", "BODY[HEADER]": body, "FLAGS": ("\\Seen",)}


@pytest.mark.parametrize(
    "unit", [b"(", b")", b'"', b"[", b"]", b"\\", b"{1}\r\n", b"\r\n", b"* ", b'("[', b'"\\', b"[ "]
)
def test_hostile_repetition_is_linear(unit: bytes) -> None:
    data = b"* 1 FETCH (" + unit * (200_000 // len(unit))
    began = time.process_time()
    try:
        for response in assembled(data, 4_096):
            parse.parse_values(response.parts)
        parse.parse_values([data])
    except (DataError, MailboxUnavailable):
        pass
    # Linear takes a third of a second of CPU, quadratic minutes: the bound tells them apart anywhere.
    assert time.process_time() - began < 10.0


def test_values() -> None:
    parts = (b'* LIST (\\Junk) "/" "a\\"b\\\\c" NIL "NIL" BODY[HEADER.FIELDS (A "B")]<0>',)
    assert parse.parse_values(parts)[2:] == (
        ("\\Junk",),
        b"/",
        b'a"b\\c',
        None,
        b"NIL",
        'BODY[HEADER.FIELDS (A "B")]<0>',
    )


def test_nesting_has_a_cap() -> None:
    with pytest.raises(DataError, match="deep"):
        parse.parse_values([b"(" * 1000])


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        (b"21-Nov-2026 10:00:00 +0000", 1795255200.0),
        (b" 1-Nov-2026 10:00:00 -0130", 1793532600.0),
        (b"30-Jun-2015 23:59:60 +0000", 1435708799.0),
        (b"31-Feb-2026 10:00:00 +0000", None),
        (b"21-Foo-2026 10:00:00 +0000", None),
        (b"21-Nov-2026 10:00:00 +9999", None),
        (b"yesterday", None),
    ],
)
def test_internal_date(text: bytes, epoch: float | None) -> None:
    assert parse.internal_date(text) == epoch


def test_search_day_is_utc() -> None:
    assert parse.search_day(1795255200.0) == "21-Nov-2026"


def test_response_code() -> None:
    code = parse.response_code(b"[UIDNEXT 44] next\x1b[31m")
    assert (code.name, code.argument, code.text) == ("UIDNEXT", "44", "next?[31m")
    assert parse.response_code(b"no code").name == ""


@settings(max_examples=examples(300), deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30))
def test_modified_utf7_there_and_back(name: str) -> None:
    assert decode(encode(name)) == name
    assert encode(name).isascii()


@settings(max_examples=examples(300), deadline=None)
@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_any_folder_name_can_be_read(name: str) -> None:
    assert isinstance(decode(name), str)


def test_modified_utf7_of_the_rfc() -> None:
    assert decode("~peter/mail/&U,BTFw-/&ZeVnLIqe-") == "~peter/mail/台北/日本語"
    assert encode("Entw&ürfe") == "Entw&-&APw-rfe"
