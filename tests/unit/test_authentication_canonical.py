"""Canonical forms: the examples of RFC 6376 section 3.4.5, and properties that hold for all bytes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.authentication.canonical import body_relaxed, body_simple, header_relaxed
from probes.authentication.message import Message

LINES = st.lists(st.sampled_from([b"\r\n", b" ", b"\t", b"a", b"\r", b"\x0b", b"b c"]), max_size=40).map(
    b"".join
)


def test_the_example_of_the_standard() -> None:
    message = Message(b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n")
    assert [message.header(index, True) for index in (0, 1)] == [b"a:X", b"b:Y Z"]
    assert message.canonical_body(True) == b" C\r\nD E\r\n"
    assert [message.header(index, False) for index in (0, 1)] == [b"A: X", b"B : Y\t\r\n\tZ  "]
    assert message.canonical_body(False) == b" C \r\nD \t E\r\n"


def test_an_empty_body_is_one_line_in_simple_and_nothing_in_relaxed() -> None:
    for body in (b"", b"\r\n", b"\r\n\r\n\r\n"):
        assert (body_simple(body), body_relaxed(body)) == (b"\r\n", b"")


def test_a_lone_return_is_content() -> None:
    assert body_simple(b"a\r\r\n\r\n") == b"a\r\r\n"
    assert header_relaxed(b"A: x\ry \x0b z") == b"a:x\ry \x0b z"


def _slow(body: bytes) -> bytes:
    """The standard read literally."""
    body = re.sub(rb"[ \t]+", b" ", body)
    body = re.sub(rb" (?=\r\n|\Z)", b"", body)
    while body.endswith(b"\r\n\r\n") or body == b"\r\n":
        body = body[:-2]
    return body if not body or body.endswith(b"\r\n") else body + b"\r\n"


@given(LINES)
def test_relaxed_is_what_the_standard_says(body: bytes) -> None:
    assert body_relaxed(body) == _slow(body)


@given(LINES)
def test_canonical_forms_are_stable(body: bytes) -> None:
    assert body_relaxed(body_relaxed(body)) == body_relaxed(body)
    assert body_simple(body_simple(body)) == body_simple(body)
    assert body_relaxed(body_simple(body)) == body_relaxed(body)


@given(st.binary(max_size=300))
def test_the_fast_and_the_slow_header_agree(value: bytes) -> None:
    message = Message(b"Subject:" + value.replace(b"\n", b"\r\n ") + b"\r\n\r\n")
    for index, raw in enumerate(message.raws):
        assert message.header(index, True) == header_relaxed(raw)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", [b" ", b" \t", b"\r\n", b" \r\n", b"\r", b"\t\r\r\n"])
def test_a_bomb_of_two_megabytes_is_read_at_once(unit: bytes) -> None:
    bomb = unit * (2_000_000 // len(unit))
    assert len(body_relaxed(bomb)) <= len(bomb) + 2
    assert len(body_simple(bomb)) <= len(bomb) + 2
    assert header_relaxed(b"A:" + bomb).startswith(b"a:")


def test_an_mbox_separator_is_no_field_but_an_old_from_is() -> None:
    assert Message(b"From joe Mon Jan 1\r\nTo: x\r\n\r\n").names == [b"to"]
    assert Message(b"From : joe@example.com\r\nTo: x\r\n\r\n").names == [b"from", b"to"]
