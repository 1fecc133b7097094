"""Tokens: nothing forged, flipped or meant for another mailbox is taken; what mail systems do to them is
survived."""

from __future__ import annotations

import base64
import quopri
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.canary.token import (
    NONCE_BYTES,
    PREFIX,
    TOKEN_CHARS,
    TokenKeys,
    find_tokens,
    mint,
    token_time,
    verify,
)
from probes.errors import ConfigError, DataError

KEYS = TokenKeys(7, {7: b"k" * 32})
AT = 1_800_000_000.125


def fresh(route: str = "app/gmail-1", agent: str = "agent-1", nonce: bytes = b"n" * NONCE_BYTES) -> str:
    return mint(KEYS, agent=agent, route=route, at=AT, nonce=nonce)


def test_a_token_verifies_for_its_own_route_and_agent_only() -> None:
    token = fresh()
    assert len(token) == TOKEN_CHARS == 59
    assert verify(KEYS, token, agent="agent-1", route="app/gmail-1")
    assert not verify(KEYS, token, agent="agent-1", route="app/gmail-2")
    assert not verify(KEYS, token, agent="agent-2", route="app/gmail-1")
    assert token_time(token) == AT


def test_agent_and_route_cannot_be_shifted_into_each_other() -> None:
    assert not verify(KEYS, fresh(agent="ab", route="c"), agent="a", route="bc")


def test_only_the_canonical_form_verifies() -> None:
    token = fresh()
    for other in (token.lower(), token + "A", token[:-1], token + "=", " " + token, token + "\n", ""):
        assert not verify(KEYS, other, agent="agent-1", route="app/gmail-1")


def test_every_single_bit_flip_is_refused() -> None:
    token = fresh()
    raw = token.encode()
    for position in range(len(raw)):
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[position] ^= 1 << bit
            assert not verify(KEYS, flipped.decode("latin-1"), agent="agent-1", route="app/gmail-1")


@given(st.text(max_size=80))
def test_arbitrary_text_never_verifies_nor_raises(text: str) -> None:
    assert not verify(KEYS, text, agent="agent-1", route="app/gmail-1")
    find_tokens(text)


@given(st.text(), st.text(), st.binary(min_size=16, max_size=16), st.integers(0, 2**47))
def test_round_trip(agent: str, route: str, nonce: bytes, milliseconds: int) -> None:
    token = mint(KEYS, agent=agent, route=route, at=milliseconds / 1000, nonce=nonce)
    assert verify(KEYS, token, agent=agent, route=route)
    assert find_tokens(f"Re: [EXT] [{token}]") == [token]


def test_keys_rotate_by_id() -> None:
    old = fresh()
    keys = KEYS.rotated(b"z" * 32)
    assert keys.current == 8
    assert verify(keys, old, agent="agent-1", route="app/gmail-1")
    assert not verify(keys.rotated(b"y" * 32, keep=0), old, agent="agent-1", route="app/gmail-1")
    assert "kkkk" not in repr(keys)


@pytest.mark.parametrize(
    ("current", "secrets"), [(1, {2: b"k" * 32}), (1, {1: b"short"}), (300, {300: b"k" * 32})]
)
def test_bad_keys_are_config_errors(current: int, secrets: dict[int, bytes]) -> None:
    with pytest.raises(ConfigError):
        TokenKeys(current, secrets)


@pytest.mark.parametrize(("at", "nonce"), [(AT, b"short"), (-1.0, b"n" * 16), (1e15, b"n" * 16)])
def test_mint_refuses_what_does_not_fit(at: float, nonce: bytes) -> None:
    with pytest.raises(ValueError):
        mint(KEYS, agent="a", route="r", at=at, nonce=nonce)


def test_token_time_of_something_else_is_a_data_error() -> None:
    with pytest.raises(DataError):
        token_time("MC1nonsense")


TOKEN = fresh()


@pytest.mark.parametrize(
    "text",
    [
        f"Subject: Fwd: [SPAM?] canary [{TOKEN}]",
        f"subject: canary [{TOKEN.lower()}]",
        f"Subject: canary [{TOKEN[:20]}\r\n {TOKEN[20:]}]",
        f"body {TOKEN[:30]}=\r\n{TOKEN[30:]} end",
        f"body {TOKEN[:30]}=\n{TOKEN[30:]} end",
        f"Subject: {TOKEN}\r\n continued",
        f"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe_[{TOKEN[:9]}?=\r\n =?utf-8?q?{TOKEN[9:]}]?=",
        f"Subject: =?utf-8?B?{base64.b64encode(f'Grüße [{TOKEN}]'.encode()).decode()}?=",
        quopri.encodestring(f"{'x' * 60} {TOKEN} {'é' * 30}".encode()).decode(),
        f"MC1{TOKEN}",
    ],
)
def test_tokens_survive_what_mail_systems_do(text: str) -> None:
    assert find_tokens(text) == [TOKEN]
    assert find_tokens(text.encode()) == [TOKEN]


def test_a_base64_subject_in_two_words_is_read() -> None:
    raw = base64.b64encode(f"Grüße aus [{TOKEN}]".encode()).decode()
    assert find_tokens(f"=?utf-8?B?{raw[:40]}?=\r\n =?utf-8?B?{raw[40:]}?=") == [TOKEN]


def test_finds_are_unique_ordered_and_capped() -> None:
    many = [fresh(nonce=bytes([n]) * 16) for n in range(100)]
    text = " ".join(many + many)
    assert find_tokens(text, limit=1000) == many
    assert find_tokens(text) == many[:64]


@pytest.mark.parametrize(
    "piece",
    [b"MC1", b"MC1A", b"=?a?b?", b"?=\r\n", b"?= =?a?q?", b"\r\n ", b"=\n", b"A", b"=?u?B?QUFB?= ", b" "],
)
def test_the_scan_is_linear(piece: bytes) -> None:
    def cost(size: int) -> float:
        data = piece * (size // len(piece))
        best = 9.0
        for _ in range(3):
            start = time.process_time()
            find_tokens(data)
            best = min(best, time.process_time() - start)
        return best

    assert cost(800_000) <= 40 * max(cost(100_000), 0.001)


def test_dotless_letters_do_not_pass_for_ascii() -> None:
    assert find_tokens(TOKEN.replace("I", "ı").replace("S", "ſ").replace("K", "K")) in ([], [TOKEN])
    assert "ı".upper() == "I"
    bad = PREFIX + "ı" * 56
    assert find_tokens(bad) == []
    assert not verify(KEYS, bad, agent="agent-1", route="app/gmail-1")
