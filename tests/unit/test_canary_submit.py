"""Submission against every fault a server can have: the verdict, the stage, what was said, and what never
was."""

from __future__ import annotations

import asyncio
import base64
import itertools
import random
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from probes.canary.submission import STAGES, Progress, Reason, Submission, SubmitResult
from probes.canary.submit import submit, xtext
from probes.canary.ways import Direct, Relay, Timeouts, Way
from probes.clock import SystemClock
from probes.dns import DnsStatus, StaticResolver
from probes.errors import ConfigError, DataError, HttpUnavailable
from tests.fakes.certificates import client_context, server_context
from tests.fakes.smtp_server import DROP, HANG, Drop, FakeSmtp, Script

PASSWORD = "sentinel-p4ssword"
BODY = b"Subject: hi\r\n\r\n.dot\r\nhello\r\n"
QUICK = Timeouts(dns=1, connect=1, tls=1, greeting=0.2, command=0.2, dot=0.2, quit=0.2, total=5)
NOWHERE = StaticResolver({})
R = SubmitResult


async def send(way: Way, **changes: Any) -> Submission:
    given: dict[str, Any] = {
        "mail_from": "bounce@acme.example",
        "rcpt_to": "seed@example.net",
        "message": BODY,
        "envid": "MC1TOKEN",
        "resolver": NOWHERE,
        "ssl_context": client_context(),
        "clock": SystemClock(),
        "timeouts": QUICK,
        "rng": random.Random(1),
    }
    return await submit(way, **(given | changes))


def relay(server: FakeSmtp, security: Any = "starttls", **more: Any) -> Relay:
    login = {"username": "canary", "password": PASSWORD} | more
    return Relay(host="127.0.0.1", port=server.port, security=security, **login)


def script(**more: Any) -> Script:
    return Script(**({"tls": server_context()} | more))


def mx(*hosts: str) -> StaticResolver:
    """example.net's mail hosts, all on loopback."""
    records: dict[tuple[str, str], Any] = {
        ("example.net", "MX"): [f"{10 * n} {host}." for n, host in enumerate(hosts, 1)]
    }
    for host in hosts:
        records[host, "A"] = ["127.0.0.1"]
    return StaticResolver(records)


def direct(server: FakeSmtp, **more: Any) -> Direct:
    return Direct(helo="out.acme.example", port=server.port, **more)


# Accepted


@pytest.mark.parametrize("security", ["tls", "starttls", "none"])
async def test_a_relay_accepts(security: str) -> None:
    async with FakeSmtp(script(implicit_tls=security == "tls")) as server:
        done = await send(relay(server, security))
    assert (done.result, done.reason, done.queue_id) == (R.ACCEPTED, Reason.ACCEPTED, "4AbCdEf12345")
    assert server.messages == [BODY]
    assert (done.peer_ip, done.source_ip, done.size) == ("127.0.0.1", "127.0.0.1", len(BODY))
    expected = set(STAGES) - (set() if security != "none" else {"tls"})
    assert set(done.stages) == expected
    assert all(seconds >= 0 for seconds in done.stages.values())
    assert done.reply is not None
    assert (done.reply.code, done.reply.enhanced, done.reply.stage) == (250, "2.0.0", "data")
    if security == "none":
        assert done.tls is None
    else:
        assert done.tls is not None
        assert done.tls.verified
        assert done.tls.version.startswith("TLSv1.")
    assert done.started_at <= (done.sent_at or 0) <= (done.answered_at or 0)


async def test_the_envelope_carries_dsn_size_and_options() -> None:
    async with FakeSmtp(script()) as server:
        await send(relay(server), envid="a+b=c", message="Subject: é\r\n\r\n".encode())
    mail = next(line for line in server.commands if line.startswith("MAIL"))
    rcpt = next(line for line in server.commands if line.startswith("RCPT"))
    assert mail == "MAIL FROM:<bounce@acme.example> SIZE=15 BODY=8BITMIME RET=HDRS ENVID=a+2Bb+3Dc"
    assert rcpt == "RCPT TO:<seed@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;seed@example.net"


async def test_a_bare_server_gets_a_bare_envelope() -> None:
    async with FakeSmtp(script(extensions=(), auth="")) as server:
        done = await send(relay(server, username="", password=""), mail_from="")
    assert done.result is R.ACCEPTED
    assert "MAIL FROM:<>" in server.commands
    assert "RCPT TO:<seed@example.net>" in server.commands


def test_xtext() -> None:
    assert xtext("a b+c=d\x7fé") == "a+20b+2Bc+3Dd+7F+E9"


async def test_helo_where_ehlo_is_unknown() -> None:
    replies: dict[str, Any] = {"EHLO": b"502 5.5.1 what\r\n"}
    async with FakeSmtp(script(replies=replies)) as server:
        done = await send(direct(server), resolver=mx("mx.example.net"))
    assert done.result is R.ACCEPTED
    assert "HELO out.acme.example" in server.commands


# Refusals at every stage


@pytest.mark.parametrize(
    ("where", "line", "relayed", "sent_direct"),
    [
        ("greeting", b"421 4.3.2 closing", R.DEFERRED, R.DEFERRED),
        ("greeting", b"554 5.7.1 go away", R.UNREACHABLE, R.REJECTED),
        ("EHLO", b"421 4.3.2 closing", R.DEFERRED, R.DEFERRED),
        ("EHLO", b"550 5.7.1 bad name", R.UNREACHABLE, R.REJECTED),
        ("AUTH", b"535 5.7.8 no", R.UNREACHABLE, None),
        ("AUTH", b"454 4.7.0 later", R.DEFERRED, None),
        ("AUTH", b"421 4.7.0 too many", R.DEFERRED, None),
        ("MAIL", b"451 4.7.1 later", R.DEFERRED, R.DEFERRED),
        ("MAIL", b"421 4.7.28 rate", R.DEFERRED, R.DEFERRED),
        ("MAIL", b"550 5.1.8 no", R.REJECTED, R.REJECTED),
        ("MAIL", b"530 5.7.0 login first", R.UNREACHABLE, R.REJECTED),
        ("RCPT", b"450 4.7.1 greylisted", R.DEFERRED, R.DEFERRED),
        ("RCPT", b"421 4.7.0 bye", R.DEFERRED, R.DEFERRED),
        ("RCPT", b"550 5.1.1 no such user", R.REJECTED, R.REJECTED),
        ("DATA", b"452 4.2.2 full", R.DEFERRED, R.DEFERRED),
        ("DATA", b"421 4.3.2 bye", R.DEFERRED, R.DEFERRED),
        ("DATA", b"554 5.7.1 no", R.REJECTED, R.REJECTED),
        ("DOT", b"451 4.3.0 later", R.DEFERRED, R.DEFERRED),
        ("DOT", b"421 4.3.0 later", R.DEFERRED, R.DEFERRED),
        ("DOT", b"550 5.7.26 unauthenticated", R.REJECTED, R.REJECTED),
    ],
)
async def test_refusals(where: str, line: bytes, relayed: SubmitResult, sent_direct: SubmitResult) -> None:
    answers: dict[str, Any] = {where: line + b"\r\n"}
    async with FakeSmtp(script(replies=answers)) as server:
        done = await send(relay(server))
        assert done.result is relayed
        assert done.reply is not None
        assert (done.reply.code, done.reply.enhanced) == (int(line[:3]), line[4:].split()[0].decode())
        assert done.reply.stage == {"DOT": "data"}.get(where, where.lower())
        if sent_direct is not None:
            straight = await send(direct(server), resolver=mx("mx.example.net"), provider="gmail")
            assert straight.result is sent_direct
    assert (done.sent_at is None) == (where != "DOT")


async def test_a_multi_line_refusal_is_read_whole() -> None:
    answers: dict[str, Any] = {"DOT": b"550-5.7.26 one\r\n550-5.7.26 two\r\n550 5.7.26 three\r\n"}
    async with FakeSmtp(script(replies=answers)) as server:
        done = await send(direct(server), resolver=mx("mx.example.net"), provider="gmail")
    assert done.reply is not None
    assert done.reply.text == "one two three"
    assert done.reply.meaning.key == "unauthenticated"


async def test_relay_replies_are_not_read_by_the_providers_table() -> None:
    answers: dict[str, Any] = {"DOT": b"550 5.7.30 no\r\n"}
    async with FakeSmtp(script(replies=answers)) as server:
        done = await send(relay(server), provider="gmail")
    assert done.reply is not None
    assert done.reply.meaning.key == "policy"


# A lost reply, and everything else that goes wrong


@pytest.mark.parametrize(
    "act",
    [
        DROP,
        HANG,
        Drop(reset=True),
        Drop(first=b"250 2.0.0 Ok: que"),
        Drop(first=b"250-2.0.0 Ok\r\n"),
        b"what?\r\n",
        b"354 again\r\n",
        b"999 99\r\n",
        b"x" * 100_000,
        b"250-" + b"y" * 100_000 + b"\r\n",
        b"250-a\r\n" * 20_000,
    ],
    ids=lambda act: str(act)[:24],
)
async def test_after_the_dot_without_a_clear_reply_it_is_unconfirmed(act: Any) -> None:
    async with FakeSmtp(script(replies={"DOT": act})) as server:
        for way, resolver in ((relay(server), NOWHERE), (direct(server), mx("mx.example.net"))):
            progress = Progress()
            done = await send(way, resolver=resolver, progress=progress)
            assert done.result is R.UNCONFIRMED
            assert done.reply is None
            assert done.sent_at is not None
            assert progress.may_have_been_sent
            assert progress.submission is done
    assert server.messages == [BODY, BODY]
    assert server.connections == 2


@pytest.mark.parametrize("where", ["greeting", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (HANG, Reason.TIMEOUT),
        (DROP, Reason.DROPPED),
        (Drop(reset=True), Reason.DROPPED),
        (b"nonsense\r\n", Reason.PROTOCOL),
        (b"x" * 100_000, Reason.PROTOCOL),
        (b"120 what\r\n", Reason.PROTOCOL),
    ],
    ids=["hang", "drop", "reset", "garbage", "huge", "1yz"],
)
async def test_a_session_that_breaks_before_the_dot(where: str, act: Any, reason: Reason) -> None:
    progress = Progress()
    async with FakeSmtp(script(replies={where: act})) as server:
        done = await send(relay(server), progress=progress)
    assert done.result is R.UNREACHABLE
    if not (where == "STARTTLS" and reason is Reason.DROPPED):
        assert done.reason is reason
    assert not progress.may_have_been_sent
    assert server.messages == []
    assert done.sent_at is None


@pytest.mark.parametrize("where", ["EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("act", [HANG, DROP, b"nonsense\r\n"], ids=["hang", "drop", "garbage"])
async def test_an_mx_that_breaks_after_its_greeting_defers(where: str, act: Any) -> None:
    async with FakeSmtp(script(replies={where: act})) as server:
        done = await send(direct(server), resolver=mx("mx.example.net"))
    assert done.result is R.DEFERRED
    assert done.reply is None


async def test_a_421_before_hanging_up_counts_as_the_reply() -> None:
    async with FakeSmtp(script(replies={"MAIL": Drop(first=b"250 ok\r\n421 4.4.2 timeout\r\n")})) as server:
        done = await send(relay(server))
    assert done.result is R.DEFERRED
    assert done.reply is not None
    assert (done.reply.code, done.reply.enhanced) == (421, "4.4.2")


@pytest.mark.parametrize("where", ["EHLO", "MAIL", "RCPT"])
async def test_a_reply_too_many_ends_the_session_before_the_dot(where: str) -> None:
    extra = {"EHLO": b"250-mx\r\n250 AUTH PLAIN\r\n250 ok\r\n"}.get(where, b"250 ok\r\n250 ok\r\n")
    async with FakeSmtp(script(replies={where: extra})) as server:
        done = await send(relay(server, "none"))
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.PROTOCOL)
    assert server.messages == []


async def test_a_premature_250_behind_the_354_is_not_believed() -> None:
    answers: dict[str, Any] = {"DATA": b"354 go\r\n250 queued\r\n"}
    async with FakeSmtp(script(replies=answers)) as server:
        done = await send(relay(server))
    assert done.result is R.UNREACHABLE
    assert server.messages == []


async def test_nobody_listens() -> None:
    async with FakeSmtp(script()) as server:
        port = server.port
    done = await send(Relay(host="127.0.0.1", port=port))
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.CONNECT)
    straight = await send(Direct(helo="a.example", port=port), resolver=mx("mx.example.net"))
    assert (straight.result, straight.reason) == (R.UNREACHABLE, Reason.CONNECT)


async def test_the_overall_deadline_holds_and_in_the_dot_phase_means_unconfirmed() -> None:
    patient = Timeouts(greeting=9, command=9, dot=9, total=0.3)
    async with FakeSmtp(script(replies={"MAIL": HANG})) as server:
        done = await send(relay(server), timeouts=patient)
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.TIMEOUT)
    async with FakeSmtp(script(replies={"DOT": HANG})) as server:
        done = await send(relay(server), timeouts=patient)
    assert (done.result, done.reason) == (R.UNCONFIRMED, Reason.TIMEOUT)


async def test_a_swallowed_goodbye_changes_nothing() -> None:
    for act in (HANG, DROP, b"421 no\r\n", b"nonsense\r\n"):
        async with FakeSmtp(script(replies={"QUIT": act})) as server:
            assert (await send(relay(server))).result is R.ACCEPTED


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


# Cancellation


async def _cancelled(server: FakeSmtp, until: str) -> Progress:
    progress = Progress()
    patient = Timeouts(greeting=9, command=9, dot=9, quit=9)
    task = asyncio.create_task(send(relay(server), progress=progress, timeouts=patient))
    for _ in range(500):
        await asyncio.sleep(0.01)
        if any(line.startswith(until) for line in server.commands) or (until == "DOT" and server.messages):
            break
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return progress


@pytest.mark.parametrize("where", ["EHLO", "AUTH", "MAIL", "RCPT", "DATA"])
async def test_cancelled_before_the_dot_nothing_was_sent(where: str) -> None:
    async with FakeSmtp(script(replies={where: HANG})) as server:
        progress = await _cancelled(server, where)
    assert not progress.may_have_been_sent
    assert progress.submission is None


async def test_cancelled_in_the_dot_phase_is_unconfirmed() -> None:
    async with FakeSmtp(script(replies={"DOT": HANG})) as server:
        progress = await _cancelled(server, "DOT")
    assert progress.may_have_been_sent
    assert progress.submission is not None
    assert (progress.submission.result, progress.submission.reason) == (R.UNCONFIRMED, Reason.CANCELLED)


async def test_nobody_waits_for_the_answer_to_the_goodbye() -> None:
    patient = Timeouts(quit=900)
    async with FakeSmtp(script(replies={"QUIT": HANG})) as server:
        assert (await send(relay(server), timeouts=patient)).result is R.ACCEPTED
        await _until(lambda: "QUIT" in server.commands)


async def test_a_goodbye_without_an_answer_ends_all_the_same() -> None:
    async with FakeSmtp(script(replies={"QUIT": HANG})) as server:
        await send(relay(server))
        await _until(lambda: server.open == 0)


# TLS and credentials (G16)


def credentials_in(clear: bytes) -> bool:
    forms = [PASSWORD.encode(), base64.b64encode(PASSWORD.encode()), b"AUTH "]
    forms.append(base64.b64encode(f"\0canary\0{PASSWORD}".encode()))
    return any(form in clear for form in forms)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"starttls": False}, Reason.TLS_MISSING),
        ({"behind_starttls": b"250-injected\r\n250 AUTH PLAIN\r\n"}, Reason.TLS_INJECTED),
        ({"tls_garbage": b"250 AUTH PLAIN\r\n"}, None),
        ({"tls": server_context("expired")}, Reason.TLS_CERTIFICATE),
        ({"tls": server_context("wrong-name")}, Reason.TLS_CERTIFICATE),
        ({"replies": {"STARTTLS": b"454 4.7.0 not now\r\n"}}, Reason.REPLIED),
        ({"replies": {"STARTTLS": b"502 5.5.1 what\r\n"}}, Reason.REPLIED),
    ],
    ids=["strip", "inject", "inject-late", "expired", "wrong-name", "454", "502"],
)
async def test_hostile_tls_gets_no_credentials(changes: dict[str, Any], reason: Reason | None) -> None:
    async with FakeSmtp(script(**changes)) as server:
        done = await send(relay(server))
    assert done.result in (R.UNREACHABLE, R.DEFERRED)
    assert reason is None or done.reason is reason
    assert not credentials_in(bytes(server.clear))
    assert not any(line.startswith(("AUTH", "MAIL")) for line in server.commands)


@pytest.mark.parametrize("kind", ["expired", "wrong-name"])
async def test_implicit_tls_verifies(kind: str) -> None:
    async with FakeSmtp(script(implicit_tls=True, tls=server_context(kind))) as server:
        done = await send(relay(server, "tls"))
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.TLS_CERTIFICATE)
    assert server.commands == []


async def test_tls_to_a_plaintext_server_fails_cleanly() -> None:
    async with FakeSmtp(script()) as server:
        done = await send(relay(server, "tls"))
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.TLS_FAILED)
    assert not credentials_in(bytes(server.clear))


async def test_no_login_ever_goes_out_in_clear_in_any_mix() -> None:
    """Every mix of security, STARTTLS behaviour and AUTH offer: in clear only with `none` on loopback."""
    starttls: list[dict[str, Any]] = [
        {},
        {"starttls": False},
        {"replies": {"STARTTLS": b"454 no\r\n"}},
        {"behind_starttls": b"235 welcome\r\n"},
        {"tls": server_context("expired")},
        {"replies": {"STARTTLS": b"220 go\r\n235 2.7.0 welcome\r\n"}},
        {"replies": {"EHLO": b"250-mx\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"}},
        {"replies": {"STARTTLS": DROP}},
    ]
    offers = ["AUTH PLAIN", "AUTH LOGIN", "AUTH=PLAIN LOGIN", "AUTH XOAUTH2", ""]
    for changes, offer in itertools.product(starttls, offers):
        async with FakeSmtp(script(auth=offer, **changes)) as server:
            await send(relay(server))
            assert not credentials_in(bytes(server.clear)), (changes, offer)


@pytest.mark.parametrize("ip", ["192.0.2.1", "::2", "10.0.0.1", "0.0.0.0"])
def test_plaintext_elsewhere_is_a_config_error(ip: str) -> None:
    with pytest.raises(ConfigError):
        Relay(host=ip, security="none")


async def test_plaintext_to_a_name_elsewhere_is_never_connected() -> None:
    resolver = StaticResolver({("relay.example", "A"): ["192.0.2.1"]})
    done = await send(Relay(host="relay.example", security="none"), resolver=resolver)
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.CLEARTEXT)


async def test_secrets_never_reach_transcript_or_text() -> None:
    coded = base64.b64encode(f"\0canary\0{PASSWORD}".encode())
    echo = b"535 5.7.8 no: " + coded + b" " + PASSWORD.encode() + b"\r\n"
    for offer in ("AUTH PLAIN", "AUTH LOGIN"):
        replies: dict[str, Any] = {"AUTH": [b"334 VXNlcm5hbWU6\r\n"] if "LOGIN" in offer else echo}
        replies["LINE"] = [b"334 UGFzc3dvcmQ6\r\n", echo]
        async with FakeSmtp(script(auth=offer, replies=replies)) as server:
            way = relay(server)
            done = await send(way)
        assert done.result is R.UNREACHABLE
        told = repr(done) + repr(way)
        for form in (PASSWORD, coded.decode(), base64.b64encode(PASSWORD.encode()).decode()):
            assert form not in told


async def test_a_secret_across_the_cut_of_a_long_line_is_not_told() -> None:
    for padding in range(1_950, 2_010):
        echo = b"535 5.7.8 " + b"x" * padding + PASSWORD.encode() + b"\r\n"
        async with FakeSmtp(script(replies={"AUTH": echo})) as server:
            done = await send(relay(server, "none"))
        assert PASSWORD[:8] not in repr(done)


async def test_login_works() -> None:
    replies: dict[str, Any] = {"AUTH": b"334 VXNlcm5hbWU6\r\n"}
    replies["LINE"] = [b"334 UGFzc3dvcmQ6\r\n", b"235 2.7.0 in\r\n"]
    async with FakeSmtp(script(auth="AUTH LOGIN", replies=replies)) as server:
        done = await send(relay(server))
    assert done.result is R.ACCEPTED
    assert base64.b64encode(PASSWORD.encode()).decode() in server.commands


async def test_xoauth2() -> None:
    async def access() -> str:
        return "ya29.sentinel"

    async def broken() -> str:
        raise HttpUnavailable("token endpoint answered 500")

    async with FakeSmtp(script(auth="AUTH XOAUTH2")) as server:
        done = await send(relay(server, password="", oauth2=access))
    assert done.result is R.ACCEPTED
    sent = next(line for line in server.commands if line.startswith("AUTH XOAUTH2 "))
    assert base64.b64decode(sent.split()[2]) == b"user=canary\x01auth=Bearer ya29.sentinel\x01\x01"
    assert "ya29" not in repr(done)
    challenge: dict[str, Any] = {"AUTH": b"334 eyJzdGF0dXMiOiI0MDAifQ==\r\n", "LINE": b"535 5.7.8 no\r\n"}
    async with FakeSmtp(script(auth="AUTH XOAUTH2", replies=challenge)) as server:
        done = await send(relay(server, password="", oauth2=access))
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.AUTH)
    async with FakeSmtp(script(auth="AUTH XOAUTH2")) as server:
        done = await send(relay(server, password="", oauth2=broken))
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.AUTH)


async def test_no_common_auth() -> None:
    async with FakeSmtp(script(auth="AUTH GSSAPI")) as server:
        done = await send(relay(server))
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.AUTH)


# Direct


async def test_direct_reports_the_tls_it_got() -> None:
    expected = [
        ({}, True, ""),
        ({"tls": server_context("expired")}, False, "expired"),
        ({"tls": server_context("wrong-name")}, False, "mismatch"),
    ]
    for changes, verified, detail in expected:
        async with FakeSmtp(script(**changes)) as server:
            done = await send(direct(server), resolver=mx("mx.example.net"))
        assert done.result is R.ACCEPTED
        assert done.tls is not None
        assert done.tls.verified is verified
        assert detail in done.tls.detail
        assert len(done.attempts) == (0 if verified else 1)


@pytest.mark.parametrize(
    "changes",
    [{"starttls": False}, {"tls_garbage": b"rubbish rubbish\r\n"}, {"replies": {"STARTTLS": b"454 no\r\n"}}],
)
async def test_direct_may_goes_on_in_clear_but_encrypt_does_not(changes: dict[str, Any]) -> None:
    async with FakeSmtp(script(**changes)) as server:
        done = await send(direct(server), resolver=mx("mx.example.net"))
        assert (done.result, done.tls) == (R.ACCEPTED, None)
        strict = await send(direct(server, tls="encrypt"), resolver=mx("mx.example.net"))
        assert strict.result in (R.UNREACHABLE, R.DEFERRED)
    assert len(server.messages) == 1


async def test_direct_verify_insists() -> None:
    async with FakeSmtp(script(tls=server_context("wrong-name"))) as server:
        loose = await send(direct(server, tls="encrypt"), resolver=mx("mx.example.net"))
        strict = await send(direct(server, tls="verify"), resolver=mx("mx.example.net"))
    assert loose.result is R.ACCEPTED
    assert (strict.result, strict.reason) == (R.UNREACHABLE, Reason.TLS_CERTIFICATE)


@pytest.mark.parametrize("first", [b"421 busy\r\n", b"450 later\r\n", b"554 no\r\n", DROP, HANG, b"huh\r\n"])
async def test_the_next_mx_is_tried(first: Any) -> None:
    async with FakeSmtp(script(replies={"greeting": [first, b"220 mx2 ESMTP\r\n"]})) as server:
        done = await send(direct(server), resolver=mx("mx1.example.net", "mx2.example.net"))
    assert done.result is R.ACCEPTED
    assert done.mx == "mx2.example.net"
    assert [attempt.host for attempt in done.attempts] == ["mx1.example.net"]


async def test_after_mail_from_no_other_mx_is_tried() -> None:
    async with FakeSmtp(script(replies={"RCPT": b"450 4.7.1 greylisted\r\n"})) as server:
        done = await send(direct(server), resolver=mx("mx1.example.net", "mx2.example.net"))
    assert done.result is R.DEFERRED
    assert server.connections == 1


@pytest.mark.parametrize(
    ("records", "result", "code", "key"),
    [
        ({}, R.REJECTED, "5.1.2", "no_such_domain"),
        ({("example.net", "MX"): ["0 ."]}, R.REJECTED, "5.1.10", "null_mx"),
        ({("example.net", "MX"): DnsStatus.SERVFAIL}, R.UNREACHABLE, None, None),
        ({("example.net", "MX"): DnsStatus.TIMEOUT}, R.UNREACHABLE, None, None),
        ({("example.net", "MX"): ["10 mx.example.net."]}, R.UNREACHABLE, None, None),
    ],
)
async def test_dns_verdicts(records: Any, result: SubmitResult, code: str | None, key: str | None) -> None:
    done = await send(Direct(helo="a.example"), resolver=StaticResolver(records))
    assert (done.result, done.reason) == (result, Reason.DNS)
    if code is None:
        assert done.reply is None
    else:
        assert done.reply is not None
        assert (done.reply.enhanced, done.reply.meaning.key, done.reply.local) == (code, key, True)
        assert done.reply.meaning.seeds_own_fault


async def test_direct_from_a_source_ip_with_signers() -> None:
    def signer(name: bytes) -> Any:
        return lambda message: b"DKIM-Signature: " + name + b"\r\n" + message

    async with FakeSmtp(script()) as server:
        way = direct(server, source_ip="127.0.0.2", signers=(signer(b"rsa"), signer(b"ed25519")))
        done = await send(way, resolver=mx("mx.example.net"))
    assert done.source_ip == "127.0.0.2"
    assert server.messages[0].startswith(b"DKIM-Signature: ed25519\r\nDKIM-Signature: rsa\r\nSubject")
    assert done.size == len(server.messages[0])


async def test_a_signer_that_fails_is_our_own_side() -> None:
    def signer(_: bytes) -> bytes:
        raise DataError("no key")

    done = await send(Direct(helo="a.example", signers=(signer,)))
    assert (done.result, done.reason) == (R.UNREACHABLE, Reason.SIGNING)


@pytest.mark.parametrize(
    "changes",
    [
        {"mail_from": "a@b.example>\r\nRCPT TO:<x@y.example"},
        {"rcpt_to": "a b@c.example"},
        {"rcpt_to": "é@c.example"},
        {"rcpt_to": ""},
        {"message": b"no end"},
    ],
)
async def test_what_cannot_be_sent_is_a_data_error(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        await send(Direct(helo="a.example"), **changes)


@pytest.mark.parametrize(
    "given",
    [
        {"host": "a b"},
        {"host": "a\r\nb"},
        {"host": "a.example", "helo": "x y"},
        {"host": "a.example", "username": "u"},
        {"host": "a.example", "password": "p"},
    ],
)
def test_bad_relays(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Relay(**given)


def test_the_context_of_the_tests_verifies() -> None:
    assert client_context().verify_mode is ssl.CERT_REQUIRED
