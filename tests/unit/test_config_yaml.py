"""Whatever bytes a file holds, it is a config or a list of problems: never another error, never a stall."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.document import Document
from agent.config.load import parse
from agent.config.problems import ConfigInvalid
from tests.examples import examples

EXAMPLE = (Path(__file__).parents[2] / "examples.yaml").read_bytes()


def survives(data: bytes) -> None:
    problems = None
    try:
        parse(data, "x.yaml", {})
    except ConfigInvalid as error:
        problems = error.problems
    assert problems is None or problems
    assert all("\n" not in str(problem) for problem in problems or ())


@settings(max_examples=examples(150), deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    survives(data)


@settings(max_examples=examples(150), deadline=None)
@given(st.text(alphabet="ab:-{}[],&*!|>'\"%@`?#~<= \n\t0", max_size=80))
def test_yaml_soup(text: str) -> None:
    survives(text.encode())


@settings(max_examples=examples(60), deadline=None)
@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 30), st.binary(max_size=6))
def test_a_damaged_example(start: int, length: int, patch: bytes) -> None:
    survives(EXAMPLE[:start] + patch + EXAMPLE[start + length :])


VALUES = st.recursive(
    st.none() | st.text(max_size=5) | st.sampled_from(["app", "gmail-1", "15m", "true", "9", "none"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["host", "a"]), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(max_examples=examples(150), deadline=None)
@given(
    st.sampled_from(
        ["agent", "resolver", "senders", "seeds", "bounces", "routes", "limits", "records", "alerts"]
    ),
    st.sampled_from(
        ["app", "senders", "every", "receivers", "routes", "match", "heartbeat", "rules", "provider"]
    ),
    VALUES,
    VALUES,
)
def test_any_value_anywhere(section: str, key: str, one: object, two: object) -> None:
    import json

    survives(json.dumps({section: {key: one, "app": two}}).encode())
    survives(json.dumps({section: [{key: one}, two]}).encode())


def test_positions_count_characters_from_one() -> None:
    document = Document("x.yaml", "größe: [ä, {k: v}]\n".encode())
    assert document.position(("größe",), key=True) == (1, 1)
    assert document.position(("größe", 1, "k"), key=True) == (1, 13)
    assert document.position(("größe", 1, "k")) == (1, 16)
    assert document.position(("größe", 7, "k")) == (1, 8)


def test_values_stay_text() -> None:
    text = b"a: no\nb: 'null'\nc: ~\nd: 1e3\ne: !!int 7\nf: |\n  x\n  y\n"
    assert Document("x.yaml", text).value() == {
        "a": "no",
        "b": "null",
        "c": None,
        "d": "1e3",
        "e": "7",
        "f": "x\ny\n",
    }


def test_merge_order() -> None:
    text = b"a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: 3\n"
    assert Document("x.yaml", text).value()["c"] == {"x": "3", "y": "1", "z": "2"}


def test_a_terminal_is_safe_from_names() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse(b'senders: {"\\e[31mred\\nline": {}}\n', "x.yaml", {})
    assert "\x1b" not in str(caught.value)
    assert "?[31mred?line" in str(caught.value)
