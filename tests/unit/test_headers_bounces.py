"""Bounces: our own, with what is needed to find the canary again."""

from __future__ import annotations

import pytest

from probes.headers.dsn import read_bounce

RETURNED = (
    "Message-ID: <179527@acme.example>\r\nX-Mailcanary-Token: mc2abc\r\nSubject: canary\r\n"
    "To: u@b.example\r\n"
)


def dsn(fields: str, per_message: str = "") -> bytes:
    return (
        "Return-Path: <>\r\nFrom: MAILER-DAEMON@mx.example\r\nSubject: Undelivered Mail\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n--b\r\n'
        "Content-Type: text/plain\r\n\r\nIt could not be delivered.\r\n--b\r\n"
        "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n"
        f"{per_message}\r\n{fields}\r\n"
        f"--b\r\nContent-Type: message/rfc822\r\n\r\n{RETURNED}\r\nbody\r\n--b--\r\n"
    ).encode()


def test_a_report_of_two_recipients() -> None:
    found = read_bounce(
        dsn(
            "Final-Recipient: rfc822; a@b.example\r\nAction: failed\r\nStatus: 5.1.1\r\n"
            "Diagnostic-Code: smtp; 550 5.1.1 <a@b.example>: User unknown\r\n\r\n"
            "Final-Recipient: rfc822; c@b.example\r\nAction: delayed\r\nStatus: 4.2.2\r\n"
            "Diagnostic-Code: smtp; 452 4.2.2 mailbox full\r\n",
            "Original-Envelope-Id: mc2envelope\r\n",
        )
    )
    assert found is not None
    assert (found.kind, found.envelope_id, found.message_id) == ("dsn", "mc2envelope", "179527@acme.example")
    assert b"X-Mailcanary-Token: mc2abc" in found.returned
    told = [
        (one.recipient, one.status, one.reply_code, one.reason, one.permanent) for one in found.recipients
    ]
    assert told == [
        ("a@b.example", "5.1.1", "550", "userunknown", True),
        ("c@b.example", "4.2.2", "452", "mailboxfull", False),
    ]


@pytest.mark.parametrize(
    ("diagnostic", "reason"),
    [
        ("550 5.7.26 This mail has been blocked because the sender is unauthenticated.", "authfailure"),
        ("550 5.7.25 The IP address sending this message does not have a PTR record", "requireptr"),
        ("421 4.7.28 Gmail has detected an unusual rate of mail", "speeding"),
        ("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", "blocked"),
        ("550 5.7.1 this message is likely unsolicited mail", "spamdetected"),
        ("552 5.2.2 over quota", "mailboxfull"),
        ("550 5.7.515 Access denied, sending domain does not meet the required level", "authfailure"),
        ("550 5.1.2 Host unknown", "hostunknown"),
        ("556 5.1.10 Recipient address has null MX", "notaccept"),
    ],
)
def test_reasons(diagnostic: str, reason: str) -> None:
    status = diagnostic.split(" ")[1]
    fields = f"Final-Recipient: rfc822; a@b.example\r\nAction: failed\r\nStatus: {status}\r\n"
    found = read_bounce(dsn(f"{fields}Diagnostic-Code: smtp; {diagnostic}\r\n"))
    assert found is not None
    assert found.recipients[0].reason == reason


def test_prose_of_qmail() -> None:
    found = read_bounce(
        b"Return-Path: <>\nFrom: MAILER-DAEMON@a.example\nTo: me@a.example\nSubject: failure notice\n\n"
        b"Hi. This is the qmail-send program.\n\n<u@b.example>:\n192.0.2.1 does not like recipient.\n"
        b"Remote host said: 550 5.1.1 User unknown\nGiving up.\n\n"
        b"--- Below this line is a copy of the message.\n\n"
        b"Return-Path: <me@a.example>\nMessage-ID: <1@a.example>\nSubject: x\nFrom: me@a.example\n\nbody\n"
    )
    assert found is not None
    assert (found.kind, found.message_id) == ("prose", "1@a.example")
    assert [(one.recipient, one.status, one.permanent) for one in found.recipients] == [
        ("u@b.example", "5.1.1", True)
    ]


def test_an_automatic_reply_is_no_refusal() -> None:
    found = read_bounce(
        b"From: a@b.example\nAuto-Submitted: auto-replied\nSubject: Out of office\n\nI am away.\n"
    )
    assert found is not None
    assert (found.kind, found.recipients[0].reason, found.recipients[0].status) == (
        "auto-reply",
        "vacation",
        None,
    )


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"From: a@b.example\nSubject: hello\n\nYour order could not be delivered yet, user unknown.\n",
        b"From: Acme <noreply@acme.example>\nSubject: [mc2abc] Your receipt\n\nGood day.\n",
    ],
)
def test_ordinary_mail_is_no_bounce(raw: bytes) -> None:
    assert read_bounce(raw) is None


@pytest.mark.parametrize("charset", ["idna", "undefined", "punycode", "hex", "no-such-charset"])
def test_no_charset_makes_a_bounce_unreadable(charset: str) -> None:
    message = (
        "From: MAILER-DAEMON@mx.example\r\nSubject: failure notice\r\n"
        f"Content-Type: text/plain; charset={charset}\r\n\r\n<a@b.example>: unknown \x80\r\n"
    ).encode("latin-1")
    assert read_bounce(message) is not None
