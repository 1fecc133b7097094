"""The lab does what it says: each server, each fault and each repair, seen with plain clients."""

import argparse
import asyncio
import base64
import contextlib
import imaplib
import secrets
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dkim
import dns.message
import dns.query
import dns.rcode
import dns.reversename
import pytest
from cryptography.hazmat.primitives import serialization

from agent.commands import check_config
from tests.lab.world.agent_config import write_config
from tests.lab.world.dovecot import StoredMessage
from tests.lab.world.lab import GTUBE, Lab, Relay, User
from tests.lab.world.packages import program

pytestmark = pytest.mark.lab

PROVIDERS = ("a", "b")


def letter(sender: str, recipient: str, body: str = "Good day.") -> tuple[str, bytes]:
    """A proper message and its token."""
    token = secrets.token_hex(8)
    domain = sender.partition("@")[2]
    lines = [
        f"From: App <{sender}>",
        f"To: <{recipient}>",
        f"Subject: canary [{token}]",
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime())}",
        f"Message-ID: <{token}@{domain}>",
        f"X-Mailcanary-Token: {token}",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "",
        body,
        "",
    ]
    return token, "\r\n".join(lines).encode()


@contextlib.contextmanager
def session(relay: Relay) -> Iterator[smtplib.SMTP]:
    """A logged-in submission session over loopback plaintext."""
    with smtplib.SMTP(relay.ip, relay.plain_port, timeout=10) as smtp:
        smtp.login(relay.username, relay.password)
        yield smtp


def send(
    lab: Lab, recipient: str, sender: str = "app", body: str = "Good day.", return_path: str = ""
) -> str:
    """Sends through the relay; returns the token."""
    relay = lab.relay(sender)
    token, message = letter(f"noreply@{relay.sender.domain}", recipient, body)
    with session(relay) as smtp:
        smtp.sendmail(return_path or relay.sender.return_path, [recipient], message)
    return token


def arrived(lab: Lab, provider: str, user: User, token: str) -> StoredMessage:
    """The message, waited for."""
    found = lab.imap(provider).wait_for(user.address, token)
    assert found is not None, lab.delivery_log(token)
    return found


def verdicts(message: StoredMessage) -> str:
    """All Authentication-Results of a message on one line."""
    head = (
        message.text.replace(b"\r\n", b"\n")
        .partition(b"\n\n")[0]
        .replace(b"\n\t", b" ")
        .replace(b"\n ", b" ")
    )
    return " ".join(h.decode() for h in head.split(b"\n") if h.lower().startswith(b"authentication-results:"))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_good_mail_lands_in_the_inbox_with_everything_pass(lab: Lab, provider: str) -> None:
    user = lab.fresh_user(provider)
    found = arrived(lab, provider, user, send(lab, user.address))
    assert found.folder == "INBOX"
    for word in ("spf=pass", "dkim=pass", "dmarc=pass"):
        assert word in verdicts(found)
    assert f"[{lab.source_ip('app')}]".encode() in found.text
    assert b"out.sender.test" in found.text


@pytest.mark.parametrize("provider", PROVIDERS)
def test_gtube_goes_to_junk(lab: Lab, provider: str) -> None:
    user = lab.fresh_user(provider)
    assert arrived(lab, provider, user, send(lab, user.address, body=GTUBE)).folder == "Junk"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_broken_authentication_under_quarantine_goes_to_junk(lab: Lab, provider: str) -> None:
    user = lab.fresh_user(provider)
    lab.dkim.break_("sender.test")
    lab.spf.break_("sender.test")
    found = arrived(lab, provider, user, send(lab, user.address))
    assert found.folder == "Junk"
    assert "dmarc=fail" in verdicts(found)
    lab.dkim.repair("sender.test")
    lab.spf.repair("sender.test")
    assert "dmarc=pass" in verdicts(arrived(lab, provider, user, send(lab, user.address)))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_broken_authentication_under_reject_bounces(lab: Lab, provider: str) -> None:
    user, back = lab.fresh_user(provider), lab.fresh_user("relay")
    lab.dkim.break_("reject.test")
    lab.dns.set("_dmarc.reject.test", "TXT", "v=DMARC1; p=reject; aspf=s; adkim=s")
    token = send(lab, user.address, "strict", return_path=back.address)
    step = lab.log.wait(token, "bounced", "relay")
    assert step is not None
    assert step.dsn.startswith("5.7")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_second_sender_and_the_one_without_records(lab: Lab, provider: str) -> None:
    user = lab.fresh_user(provider)
    second = arrived(lab, provider, user, send(lab, user.address, "bulk"))
    assert "dmarc=pass" in verdicts(second)
    assert f"[{lab.source_ip('bulk')}]".encode() in second.text
    bare = arrived(lab, provider, user, send(lab, user.address, "noauth"))
    assert "dkim=pass" not in verdicts(bare)
    assert "spf=pass" not in verdicts(bare)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_direct_delivery_with_both_keys(lab: Lab, provider: str) -> None:
    user, sender, there = lab.fresh_user(provider), lab.direct_sender, lab.provider(provider)
    token, message = letter(f"noreply@{sender.domain}", user.address)
    for key, algorithm in ((sender.ed25519, b"ed25519-sha256"), (sender.rsa, b"rsa-sha256")):
        pem = key.path.read_bytes()
        if algorithm == b"ed25519-sha256":
            pem = raw_seed(pem)
        names = [b"from", b"to", b"subject", b"date", b"message-id"]
        signature = dkim.sign(
            message,
            key.selector.encode(),
            key.domain.encode(),
            pem,
            include_headers=names,
            signature_algorithm=algorithm,
        )
        message = signature + message
    with smtplib.SMTP(
        there.mx_ip, 25, local_hostname=sender.helo, timeout=10, source_address=(sender.source_ip, 0)
    ) as smtp:
        smtp.sendmail(sender.return_path, [user.address], message)
    found = verdicts(arrived(lab, provider, user, token))
    assert found.count("dkim=pass") == 2
    assert "spf=pass" in found
    assert "dmarc=pass" in found


def raw_seed(pem: bytes) -> bytes:
    """dkimpy takes an Ed25519 key as the base64 of its 32 bytes."""
    key = serialization.load_pem_private_key(pem, None)
    raw = serialization.Encoding.Raw
    private = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    return base64.b64encode(private)


def test_submission_with_verified_tls_on_both_ports(lab: Lab) -> None:
    relay = lab.relay()
    context = ssl.create_default_context(cafile=str(lab.ca_file))
    with lab.name_resolution():
        with smtplib.SMTP_SSL(relay.host, relay.tls_port, context=context, timeout=10) as smtp:
            smtp.login(relay.username, relay.password)
        with smtplib.SMTP(relay.host, relay.starttls_port, timeout=10) as smtp:
            smtp.ehlo()
            assert not smtp.has_extn("auth")
            smtp.starttls(context=context)
            smtp.login(relay.username, relay.password)
    with (
        smtplib.SMTP(relay.ip, relay.plain_port, timeout=10) as smtp,
        pytest.raises(smtplib.SMTPAuthenticationError),
    ):
        smtp.login(relay.username, "wrong")


def test_swaks_gets_through(lab: Lab) -> None:
    relay, user = lab.relay(), lab.fresh_user("a")
    token = secrets.token_hex(8)
    command = [
        program("swaks"), "--server", relay.ip, "--port", "587", "--tls", "--auth-user", relay.username,
        "--auth-password", relay.password, "--from", relay.sender.return_path, "--to", user.address,
        "--header", f"Subject: {token}", "--timeout", "10s", "--silent", "2",
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=20)
    arrived(lab, "a", user, token)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_4xx_is_deferred_until_the_rule_ends(lab: Lab, provider: str) -> None:
    user = lab.fresh_user(provider)
    lab.policy(provider).rule(user.address, "451 4.7.1 try again later")
    token = send(lab, user.address)
    step = lab.log.wait(token, "deferred", "relay")
    assert step is not None
    assert step.dsn == "4.7.1"
    lab.policy(provider).clear(user.address)
    lab.postfix("relay").flush()
    arrived(lab, provider, user, token)


def test_greylisting_lets_the_second_try_in(lab: Lab) -> None:
    user, sender = lab.fresh_user("a"), lab.direct_sender
    lab.policy("a").greylist(user.address, 0.3)
    with smtplib.SMTP(lab.provider("a").mx_ip, 25, timeout=10, source_address=(sender.source_ip, 0)) as smtp:
        smtp.ehlo(sender.helo)
        smtp.mail(sender.return_path)
        assert smtp.rcpt(user.address)[0] == 451
        time.sleep(0.4)
        assert smtp.rcpt(user.address)[0] == 250


@pytest.mark.parametrize("stage", ["rcpt", "end"])
def test_a_5xx_comes_back_as_a_bounce(lab: Lab, stage: str) -> None:
    user, back = lab.fresh_user("a"), lab.fresh_user("relay")
    lab.policy("a").rule(user.address, "550 5.7.26 unauthenticated", "end" if stage == "end" else "rcpt")
    token = send(lab, user.address, return_path=back.address)
    step = lab.log.wait(token, "bounced", "relay")
    assert step is not None
    assert step.dsn == "5.7.26"
    report = lab.imap("relay").wait_for(back.address, token)
    assert report is not None
    assert b"Status: 5.7.26" in report.text


def test_a_delay_holds_the_reply(lab: Lab) -> None:
    user = lab.fresh_user("a")
    lab.policy("a").delay(user.address, 0.5)
    with smtplib.SMTP(lab.provider("a").mx_ip, 25, timeout=10) as smtp:
        smtp.ehlo("out.sender.test")
        smtp.mail("bounce@sender.test")
        began = time.monotonic()
        assert smtp.rcpt(user.address)[0] == 250
        assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_silent_drop_is_seen_in_the_log_only(lab: Lab, provider: str) -> None:
    user = lab.fresh_user(provider)
    lab.policy(provider).rule(user.address, "DISCARD")
    token = send(lab, user.address)
    sent = lab.log.wait(token, "sent", "relay")
    assert sent is not None
    assert lab.imap(provider).messages(user.address, "*") == []


def test_hold_and_release(lab: Lab) -> None:
    user = lab.fresh_user("a")
    lab.postfix("a").hold(user.address)
    token = send(lab, user.address)
    assert lab.log.wait(token, "sent", "relay") is not None
    assert any(user.address in entry for entry in lab.postfix("a").queue())
    assert lab.imap("a").messages(user.address) == []
    lab.postfix("a").release(user.address)
    arrived(lab, "a", user, token)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_bounce_after_acceptance_returns_a_dsn(lab: Lab, provider: str) -> None:
    user, back = lab.fresh_user(provider), lab.fresh_user("relay")
    lab.bounce_after_accept(provider, user.address, "5.1.1 no such user here")
    token = send(lab, user.address, return_path=back.address)
    report = lab.imap("relay").wait_for(back.address, token)
    assert report is not None
    assert b"Status: 5.1.1" in report.text
    assert lab.log.wait(token, "sent", "relay") is not None


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_full_mailbox_bounces(lab: Lab, provider: str) -> None:
    full, back = f"full@{lab.provider(provider).domain}", lab.fresh_user("relay")
    token = send(lab, full, body="x" * 70 + "\r\n" + ("y" * 70 + "\r\n") * 200, return_path=back.address)
    report = lab.imap("relay").wait_for(back.address, token)
    assert report is not None
    assert b"Status: 5.2.2" in report.text


def test_an_unknown_user_is_refused(lab: Lab) -> None:
    with smtplib.SMTP(lab.provider("a").mx_ip, 25, timeout=10) as smtp:
        smtp.ehlo("out.sender.test")
        smtp.mail("bounce@sender.test")
        code, text = smtp.rcpt("nobody@provider-a.test")
    assert code == 550
    assert text.startswith(b"5.1.1")


def login(user: User, lab: Lab) -> imaplib.IMAP4_SSL:
    """An IMAP session over verified TLS."""
    context = ssl.create_default_context(cafile=str(lab.ca_file))
    with lab.name_resolution():
        imap = imaplib.IMAP4_SSL(user.imap_host, user.imap_port, ssl_context=context, timeout=10)
    imap.login(user.address, user.password)
    return imap


@pytest.mark.parametrize("provider", PROVIDERS)
def test_imap_over_tls_tells_the_junk_folder(lab: Lab, provider: str) -> None:
    with login(lab.fresh_user(provider), lab) as imap:
        status, folders = imap.list('""', "*")
        assert status == "OK"
        assert any(b"\\Junk" in f and b"Junk" in f for f in folders if isinstance(f, bytes))


def xoauth2(user: User, token: str) -> str:
    """Logs in over plain IMAP with a bearer token; OK or NO."""
    with imaplib.IMAP4(user.imap_ip, user.plain_port, timeout=10) as imap:
        try:
            text = f"user={user.address}\1auth=Bearer {token}\1\1".encode()
            return str(imap.authenticate("XOAUTH2", lambda said: b"" if said else text)[0])
        except imaplib.IMAP4.error:
            return "NO"


def test_xoauth2_with_minted_revoked_and_foreign_tokens(lab: Lab) -> None:
    user, other = lab.fresh_user("a"), lab.fresh_user("a")
    token = lab.oauth.mint(user.address)
    assert xoauth2(user, token) == "OK"
    assert xoauth2(other, token) == "NO"
    lab.oauth.revoke(token)
    assert xoauth2(user, token) == "NO"


def test_mailbox_faults(lab: Lab) -> None:
    user, mailboxes = lab.fresh_user("b"), lab.imap("b")
    for _ in range(2):
        mailboxes.deliver(user.address, "INBOX", b"Subject: twice\r\n\r\nhello\r\n")
    assert len(mailboxes.messages(user.address)) == 2
    with login(user, lab) as imap:
        before = imap.status("INBOX", "(UIDVALIDITY)")[1]
        mailboxes.bump_uidvalidity(user.address)
        mailboxes.rename(user.address, "Junk", "Old Junk")
        assert "Old Junk" in mailboxes.folders(user.address)
        assert imap.status("INBOX", "(UIDVALIDITY)")[1] != before


def noop_until_it_fails(imap: imaplib.IMAP4) -> None:
    """Two seconds of NOOP."""
    for _ in range(100):
        imap.noop()
        time.sleep(0.02)


def test_freeze_thaw_and_kick(lab: Lab) -> None:
    user, mailboxes = lab.fresh_user("a"), lab.imap("a")
    imap = login(user, lab)
    assert mailboxes.freeze(user.address) == 1
    imap.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        imap.noop()
    mailboxes.thaw(user.address)
    imap = login(user, lab)
    mailboxes.kick(user.address)
    with pytest.raises((imaplib.IMAP4.abort, OSError)):
        noop_until_it_fails(imap)


def test_a_stopped_dovecot_comes_back_and_mail_waits(lab: Lab) -> None:
    user = lab.fresh_user("b")
    lab.imap("b").stop()
    token = send(lab, user.address)
    assert lab.log.wait(token, "deferred", "b") is not None
    lab.imap("b").start()
    lab.postfix("b").flush()
    arrived(lab, "b", user, token)


def test_a_changed_password_refuses_and_is_restored(lab: Lab) -> None:
    user = lab.fresh_user("a")
    lab.imap("a").set_password(user.address, "other")
    with pytest.raises(imaplib.IMAP4.error):
        login(user, lab)
    lab.imap("a").set_password(user.address, None)
    login(user, lab).logout()


def test_a_quota_comes_and_goes(lab: Lab) -> None:
    user, mailboxes = lab.fresh_user("a"), lab.imap("a")
    big = b"Subject: big\r\n\r\n" + b"x" * 5000 + b"\r\n"
    mailboxes.set_quota(user.address, "*:storage=1K")
    with login(user, lab) as imap:
        status, said = imap.append("INBOX", "", "", big)
        assert (status, said[0][:11]) == ("NO", b"[OVERQUOTA]")
    mailboxes.set_quota(user.address, None)
    with login(user, lab) as imap:
        assert imap.append("INBOX", "", "", big)[0] == "OK"


def test_one_session_too_many_is_told_the_limit(lab: Lab) -> None:
    user = lab.fresh_user("b")
    holder = login(user, lab)
    where = lab.imap("b").limited_ip
    refused = imaplib.IMAP4(where, 143, timeout=10)
    # Debian's Dovecot says [LIMIT], and [UNAVAILABLE] since its security updates of late 2026.
    with pytest.raises(imaplib.IMAP4.error, match=r"LIMIT|Maximum number of connections"):
        refused.login(user.address, user.password)
    refused.shutdown()
    holder.logout()
    with imaplib.IMAP4(where, 143, timeout=10) as imap:
        assert imap.login(user.address, user.password)[0] == "OK"


def ask(lab: Lab, name: str, kind: str = "A", timeout: float = 1.0) -> tuple[str, list[str]]:
    """What the lab's resolver says: rcode (or "timeout") and the answers."""
    try:
        answer = dns.query.udp(dns.message.make_query(name, kind), lab.resolver_ip, timeout=timeout)
    except dns.exception.Timeout:
        return "timeout", []
    return dns.rcode.to_text(answer.rcode()), [r.to_text() for rrset in answer.answer for r in rrset]


def test_dns_changes_at_run_time(lab: Lab) -> None:
    lab.dns.set("new.sender.test", "A", "192.0.2.1", "192.0.2.2")
    assert sorted(ask(lab, "new.sender.test")[1]) == ["192.0.2.1", "192.0.2.2"]
    lab.dns.set("sender.test", "TXT", "v=spf1 -all", "x" * 300)
    assert sorted(lab.dns.get("sender.test", "TXT")) == ["v=spf1 -all", "x" * 300]
    lab.dns.delete("sender.test", "MX")
    assert ask(lab, "sender.test", "MX") == ("NOERROR", [])
    lab.reset()
    assert ask(lab, "new.sender.test")[0] == "NXDOMAIN"
    assert ask(lab, "sender.test", "MX")[1] == ["10 smtp.sender.test."]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("servfail", "SERVFAIL"), ("refused", "REFUSED"), ("nxdomain", "NXDOMAIN"), ("timeout", "timeout")],
)
def test_dns_faults(lab: Lab, fault: str, said: str) -> None:
    lab.dns.fault("sender2.test", fault)  # type: ignore[arg-type]
    assert ask(lab, "out.sender2.test")[0] == said
    lab.dns.fault("sender2.test", None)
    assert ask(lab, "out.sender2.test") == ("NOERROR", [lab.source_ip("bulk")])


def test_reverse_and_forward_agree(lab: Lab) -> None:
    ip = lab.source_ip("app")
    name = dns.reversename.from_address(ip).to_text()
    assert ask(lab, name, "PTR")[1] == ["out.sender.test."]
    assert ask(lab, "out.sender.test")[1] == [ip]


EXPECTED = {
    "healthy": {"2": "127.0.0.2", "1": "NXDOMAIN"},
    "no-positive-control": {"2": "NXDOMAIN", "1": "NXDOMAIN"},
    "negative-control-listed": {"2": "127.0.0.2", "1": "127.0.0.2"},
    "empty": {"2": "NXDOMAIN", "1": "NXDOMAIN"},
    "dead-nxdomain": {"2": "NXDOMAIN", "1": "NXDOMAIN"},
    "dead-servfail": {"2": "SERVFAIL", "1": "SERVFAIL"},
    "lists-the-world": {"2": "127.0.0.2", "1": "127.0.0.2"},
    "parked": {"2": "203.0.113.80", "1": "203.0.113.80"},
    "error-typing": {"2": "127.255.255.252", "1": "127.255.255.252"},
    "error-public-resolver": {"2": "127.255.255.254", "1": "127.255.255.254"},
    "error-excessive": {"2": "127.255.255.255", "1": "127.255.255.255"},
    "refused-127-0-0-1": {"2": "127.0.0.1", "1": "127.0.0.1"},
    "times-out": {"2": "timeout", "1": "timeout"},
    "refuses": {"2": "REFUSED", "1": "REFUSED"},
}


@pytest.mark.parametrize("behaviour", EXPECTED)
def test_every_blocklist_behaviour(lab: Lab, behaviour: str) -> None:
    zone = lab.blocklists.zones[behaviour].zone
    for last, expected in EXPECTED[behaviour].items():
        rcode, answers = ask(lab, f"{last}.0.0.127.{zone}", timeout=0.5)
        assert (answers[0] if answers else rcode) == expected


def test_listing_and_delisting(lab: Lab) -> None:
    lab.blocklists.list_("healthy", "192.0.2.7", "127.0.0.4")
    assert ask(lab, "7.2.0.192.healthy.dnsbl.test")[1] == ["127.0.0.4"]
    lab.blocklists.list_("healthy-domain", "sender.test")
    assert ask(lab, "sender.test.domains.dnsbl.test")[1] == ["127.0.0.2"]
    assert ask(lab, "test.domains.dnsbl.test")[1] == ["127.0.0.2"]
    lab.blocklists.delist("healthy", "192.0.2.7")
    assert ask(lab, "7.2.0.192.healthy.dnsbl.test")[0] == "NXDOMAIN"


def test_the_log_tells_every_step_with_sub_second_times(lab: Lab) -> None:
    user = lab.fresh_user("a")
    before = time.time()
    token = send(lab, user.address)
    stored = lab.log.wait(token, "stored")
    assert stored is not None
    assert before < stored.time < time.time()
    assert stored.folder == "INBOX"
    stages = [(step.host, step.stage) for step in lab.delivery_log(token)]
    for step in (("relay", "received"), ("relay", "sent"), ("a", "received"), ("a", "sent"), ("a", "stored")):
        assert step in stages
    assert {s.queue_id for s in lab.delivery_log(f"<{token}@sender.test>")} >= {stored.queue_id}


def test_bounces_of_every_sender_come_to_one_mailbox(lab: Lab) -> None:
    user = lab.fresh_user("b")
    lab.policy("b").rule(user.address, "550 5.7.1 no")
    token = send(lab, user.address, "bulk", return_path="bounce+x1@sender2.test")
    assert lab.imap("relay").wait_for("bounce@sender.test", token) is not None


def test_the_ready_configuration_passes_check_config(lab: Lab, tmp_path: Path) -> None:
    config = write_config(lab, tmp_path / "agent")
    parser = argparse.ArgumentParser()
    check_config.configure(parser)
    arguments = parser.parse_args([str(config)], argparse.Namespace(config=str(config)))
    assert check_config.run(arguments) == 0


def test_two_labs_side_by_side_and_nothing_left(lab: Lab) -> None:
    with Lab.start() as second:
        assert second.layout.slot != lab.layout.slot
        assert second.folder.exists()
        where = (second.provider("a").mx_ip, 25)
        socket.create_connection(where, timeout=2).close()
    assert not second.folder.exists()
    with pytest.raises(OSError):
        socket.create_connection(where, timeout=2)


async def test_the_lab_dies_with_a_killed_test(lab: Lab) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from tests.lab.world.lab import Lab; "
        "lab = Lab.start();"
        " print(lab.folder, flush=True); time.sleep(60)"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(Path(__file__).parents[2]), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    folder = Path((await asyncio.wait_for(child.stdout.readline(), 30)).decode().strip())
    assert folder.exists()
    child.kill()
    await child.wait()
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not folder.exists()
