"""Replies: the table of facts, row by row, and the words of real servers."""

from __future__ import annotations

import re

import pytest

from probes.canary.replies import classify, clean_text, meaning_keys, queue_id, read_reply

FACTS = [
    ("gmail", 451, "4.7.23", "no_ptr"),
    ("gmail", 550, "5.7.25", "no_ptr"),
    ("gmail", 451, "4.7.24", "spf_missing"),
    ("gmail", 550, "5.7.24", "spf_missing"),
    ("gmail", 421, "4.7.26", "unauthenticated"),
    ("gmail", 550, "5.7.26", "unauthenticated"),
    ("gmail", 421, "4.7.27", "spf_failed"),
    ("gmail", 550, "5.7.27", "spf_failed"),
    ("gmail", 421, "4.7.28", "rate_limited"),
    ("gmail", 550, "5.7.28", "rate_limited"),
    ("gmail", 421, "4.7.29", "no_tls"),
    ("gmail", 550, "5.7.29", "no_tls"),
    ("gmail", 421, "4.7.30", "dkim_failed"),
    ("gmail", 550, "5.7.30", "dkim_failed"),
    ("gmail", 421, "4.7.31", "no_dmarc"),
    ("gmail", 421, "4.7.40", "no_dmarc"),
    ("gmail", 550, "5.7.40", "no_dmarc"),
    ("gmail", 421, "4.7.32", "not_aligned"),
    ("gmail", 421, "5.7.32", "not_aligned"),
    ("gmail", 550, "5.1.1", "no_such_user"),
    ("outlook", 550, "5.7.515", "unauthenticated"),
    ("microsoft365", 550, "5.7.30", "basic_auth_disabled"),
    ("", 450, "4.7.1", "greylisted"),
    ("", 451, "4.7.1", "greylisted"),
    ("", 452, "4.2.2", "mailbox_full"),
    ("", 552, "5.2.2", "mailbox_full"),
    ("", 550, "5.7.30", "policy"),
    ("", 550, "5.7.27", "sender_null_mx"),
    ("", 250, "2.0.0", "accepted"),
    ("", 421, "", "closing"),
    ("", 451, "", "temporary"),
    ("", 554, "", "permanent"),
    ("", 354, "", "unexpected"),
]


@pytest.mark.parametrize(("provider", "code", "enhanced", "key"), FACTS)
def test_the_table_of_facts(provider: str, code: int, enhanced: str, key: str) -> None:
    assert classify(provider, code, enhanced, "").key == key


@pytest.mark.parametrize(
    ("provider", "stage", "line", "key"),
    [
        ("yahoo", "mail", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", "reputation"),
        ("", "rcpt", "554 5.7.1 Client host [192.0.2.1] blocked using zen.spamhaus.org", "blocklisted"),
        ("", "rcpt", "450 4.7.1 Client host rejected: cannot find your hostname, [192.0.2.1]", "no_ptr"),
        ("", "rcpt", "451 4.7.1 Greylisting in action, please come back later", "greylisted"),
        ("", "data", "554 5.7.1 Gtube pattern", "content_rejected"),
        ("", "data", "550 5.7.1 rejected by DMARC policy for acme.example", "dmarc_rejected"),
        ("", "rcpt", "554 5.7.1 <a@b.example>: Relay access denied", "relay_denied"),
        ("", "auth", "535 5.7.8 Error: authentication failed", "auth_failed"),
        ("", "mail", "530 5.7.0 Must issue a STARTTLS command first", "auth_required"),
        ("", "auth", "454 4.7.0 Temporary authentication failure", "auth_temporary"),
        ("", "rcpt", "550 no such user here", "no_such_user"),
        ("", "rcpt", "550 5.4.1 Recipient address rejected", "recipient_refused"),
        ("", "data", "552 5.3.4 Message size exceeds fixed limit", "too_large"),
        ("gmail", "data", "550 5.7.26 email from x not accepted due to its DMARC policy.", "dmarc_rejected"),
    ],
)  # fmt: skip
def test_words_of_real_servers(provider: str, stage: str, line: str, key: str) -> None:
    reply = read_reply(provider, stage, int(line[:3]), line[4:])
    assert reply.meaning.key == key


def test_flags() -> None:
    assert classify("gmail", 421, "4.7.28", "").silence_seconds == 600
    assert classify("", 450, "4.7.1", "").greylisting
    assert classify("", 452, "4.2.2", "").seeds_own_fault
    assert not classify("", 550, "5.7.1", "").seeds_own_fault


def test_every_meaning_is_a_label_and_teaches() -> None:
    for key in meaning_keys():
        assert re.fullmatch(r"[a-z_]{3,24}", key)
    for _, code, enhanced, _ in FACTS:
        found = classify("gmail", code, enhanced, "")
        assert found.text.endswith(".")
        assert found.next_step.endswith(".")


def test_a_multi_line_reply_loses_its_repeated_status() -> None:
    reply = read_reply("gmail", "data", 550, "5.7.26 first\n5.7.26 second")
    assert (reply.code, reply.enhanced, reply.text) == (550, "5.7.26", "first second")
    assert str(reply) == "550 5.7.26 first second"


def test_hostile_text_is_cleaned_and_capped() -> None:
    assert clean_text("a\x00b\x1b[31m\udc80") == "a?b?[31m?"
    assert len(read_reply("", "data", 554, "x" * 100_000).text) == 2_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2.0.0 Ok: queued as 4XyZ1234AbcD", "4XyZ1234AbcD"),
        ("OK id=1rABCD-0001xy-2B", "1rABCD-0001xy-2B"),
        ("OK  1700000000 d2e1a72fcca58-6cb1 - gsmtp", "1700000000 d2e1a72fcca58-6cb1"),
        ("<x@y> [InternalId=123456789, Hostname=AM0] 8 bytes Queued mail for delivery", "123456789"),
        ("ok 1700000000 qp 12345", "12345"),
        ("2.0.0 3A1b2C3d4E Message accepted for delivery", "3A1b2C3d4E"),
        ("OK", ""),
    ],
)
def test_queue_ids(text: str, expected: str) -> None:
    assert queue_id(text) == expected
