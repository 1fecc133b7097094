"""The reader against a small server with faults on switches; the promises are proved in tests/guarantees."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from probes.errors import StoreError
from probes.mailbox.agenda import COMMAND_TIMEOUT, PROOF_TIMEOUT, PROVE
from probes.mailbox.model import Expectation, Reason, Role
from tests.fakes.imap_server import MiniFolder, MiniImap, mini
from tests.fakes.mailbox_owner import canary, reading, until


async def test_messages_are_told_with_folder_and_role() -> None:
    async with mini() as server, reading(server.port, factor=20) as (reader, owner):
        await until(lambda: owner.readable)
        owner.expect(b"TOKENA", b"TOKENB", b"TOKENC", deadline=30)
        reader.kick()
        server.deliver(b"Subject: not ours\r\n\r\n")
        server.deliver(canary("TOKENA"))
        server.deliver(canary("TOKENB"), "Junk")
        server.deliver(canary("TOKENC"), "Archive")
        await until(lambda: len(owner.scans) == 2)
        told = {message.folder: message.role for message in owner.seen}
        assert told == {"INBOX": Role.INBOX, "Junk": Role.JUNK, "Archive": Role.OTHER}
        assert len(owner.seen) == 3
        assert owner.missing == []
        assert owner.scans[-1].complete
        assert b"X-Mailcanary-Token: TOKENA" in owner.found(b"TOKENA")[0].header


async def test_what_is_nowhere_is_missing_after_one_scan() -> None:
    async with mini() as server, reading(server.port, factor=20) as (reader, owner):
        await until(lambda: owner.readable)
        owner.expect(b"NOWHERE", deadline=10)
        reader.kick()
        await until(lambda: owner.missing)
        assert owner.missing == [b"NOWHERE"]


async def test_reads_leave_no_trace() -> None:
    async with mini() as server, reading(server.port, factor=20) as (reader, owner):
        owner.expect(b"TOKENA", deadline=10)
        server.deliver(canary("TOKENA"))
        await until(lambda: len(owner.scans) >= 2 or owner.found(b"TOKENA"))
        reader.scan_now()
        await until(lambda: len(owner.scans) >= 2)
        verbs = b" ".join(server.commands).upper()
        assert b"SELECT" not in verbs
        assert b"STORE" not in verbs
        assert b"BODY[" not in verbs.replace(b"BODY.PEEK[", b"")


def _freeze(server: MiniImap, on: bool) -> None:
    server.frozen = on


def _kill(how: str) -> Callable[[MiniImap, bool], None]:
    def fault(server: MiniImap, on: bool) -> None:
        server.refuse[b"AUTHENTICATE"] = b"NO [UNAVAILABLE] later" if on else b""
        server.kill(how)

    return fault


def _uidvalidity(server: MiniImap, on: bool) -> None:
    for folder in server.folders.values():
        folder.uidvalidity += 1
        for message in folder.messages:
            message.uid += 5
        folder.uidnext += 5
    server.kill("bye")


def _rename_junk(server: MiniImap, on: bool) -> None:
    source, target = ("Junk", "Weird") if on else ("Weird", "Junk")
    folder = server.folders.pop(source)
    folder.name, folder.flags = target, "" if on else "\\Junk"
    server.folders[target] = folder


def _limit(server: MiniImap, on: bool) -> None:
    server.refuse_login = b"NO [LIMIT] too many" if on else b""
    server.kill("fin")


def _overquota(server: MiniImap, on: bool) -> None:
    server.refuse_folder["Junk"] = b"NO [OVERQUOTA] full" if on else b""


def _login(server: MiniImap, on: bool) -> None:
    server.refuse_login = b"NO [AUTHENTICATIONFAILED] no" if on else b""
    server.kill("rst")


def _slow(server: MiniImap, on: bool) -> None:
    server.slow = 0.5 if on else 0.0


FAULTS = {
    "freeze": _freeze,
    "fin": _kill("fin"),
    "bye": _kill("bye"),
    "rst": _kill("rst"),
    "uidvalidity": _uidvalidity,
    "junk-renamed": _rename_junk,
    "limit": _limit,
    "overquota": _overquota,
    "login-refused": _login,
    "slow": _slow,
}


@pytest.mark.parametrize("folder", ["INBOX", "Junk"])
@pytest.mark.parametrize("name", FAULTS)
async def test_g3_no_fault_makes_a_canary_missing(name: str, folder: str) -> None:
    fault = FAULTS[name]
    async with mini() as server, reading(server.port, factor=80) as (reader, owner):
        await until(lambda: owner.readable)
        tokens = [f"TOKEN{number}" for number in range(5)]
        owner.expect(*(token.encode() for token in tokens), deadline=20)
        reader.kick()
        fault(server, True)
        target = "Weird" if name == "junk-renamed" and folder == "Junk" else folder
        for token in tokens:
            server.deliver(canary(token), target)
        await asyncio.sleep(0.6)  # 48 s: the deadline has passed
        if name not in ("uidvalidity",):
            assert not [scan for scan in owner.scans[1:] if scan.complete] or len(owner.seen) == 5
        assert owner.missing == []
        fault(server, False)
        if target == "Weird":
            server.folders["Junk"].flags = "\\Junk"
        reader.retry()
        await until(lambda: all(owner.found(token.encode()) for token in tokens))
        await until(lambda: owner.scans[-1].complete and owner.readable)
        assert owner.missing == []
        assert {message.role for message in owner.seen} >= {Role(folder.lower())}


async def test_a_canary_that_moves_during_the_scan_is_not_missed() -> None:
    """It leaves Junk after the inbox was read and before Junk is."""
    async with mini() as server:
        uid = server.deliver(canary("MOVER"), "Junk")

        def move(line: bytes) -> None:
            if b'EXAMINE "Junk"' in line and server.folders["Junk"].messages:
                server.move(uid, "Junk", "INBOX")

        server.on_command = move
        async with reading(server.port) as (_, owner):
            owner.expect(b"MOVER", deadline=-1)
            await until(lambda: owner.scans)
            assert owner.scans[0].complete
            assert owner.missing == []
            assert owner.found(b"MOVER")[0].folder == "INBOX"


async def test_a_mailbox_that_never_stands_still_is_no_complete_scan() -> None:
    async with mini() as server:

        def busy(line: bytes) -> None:
            if b'EXAMINE "Junk"' in line:
                server.deliver(b"Subject: x\r\n\r\n", "Junk")

        server.on_command = busy
        async with reading(server.port) as (_, owner):
            await until(lambda: owner.scans)
            assert not owner.scans[0].complete
            assert owner.scans[0].fault is Reason.UNSETTLED


async def test_a_junk_folder_known_before_and_gone_makes_scans_incomplete() -> None:
    folders = {"INBOX": MiniFolder("INBOX"), "Other": MiniFolder("Other")}
    async with (
        mini(folders=folders) as server,
        reading(server.port, known_junk=["Junk"]) as (reader, owner),
    ):
        await until(lambda: owner.scans)
        assert owner.scans[0].fault is Reason.JUNK_GONE
        await until(lambda: owner.states[-1].reason is Reason.JUNK_GONE)
        reader.retry()
        await until(lambda: owner.readable)


async def test_a_renamed_junk_folder_with_its_flag_is_followed() -> None:
    async with mini() as server, reading(server.port, known_junk=["[Gmail]/Spam"]) as (_, owner):
        await until(lambda: owner.scans)
        assert owner.scans[0].complete


async def test_a_provider_that_always_has_junk_must_show_it() -> None:
    folders = {"INBOX": MiniFolder("INBOX")}
    async with mini(folders=folders) as server, reading(server.port, provider="gmail") as (_, owner):
        await until(lambda: owner.scans)
        assert owner.scans[0].fault is Reason.NO_JUNK


async def test_configured_folders_count_and_must_be_there() -> None:
    async with (
        mini() as server,
        reading(server.port, folders={"Archive": Role.INBOX, "Lost": Role.JUNK}) as (_, owner),
    ):
        await until(lambda: owner.scans)
        assert owner.scans[0].fault is Reason.FOLDER_GONE
        assert ("Archive", Role.INBOX) in [(folder.name, folder.role) for folder in owner.scans[0].folders]


# G5


def test_proof_and_deadline_make_less_than_a_minute() -> None:
    assert PROVE + max(PROOF_TIMEOUT, COMMAND_TIMEOUT) < 60


@pytest.mark.parametrize("idle", [True, False])
async def test_g5_a_dead_connection_is_found(idle: bool) -> None:
    capabilities = b"IMAP4rev1 AUTH=PLAIN" + b" IDLE" * idle
    async with mini(capabilities=capabilities) as server, reading(server.port, factor=50) as (_, owner):
        await until(lambda: owner.readable)
        froze = owner.clock.monotonic()
        server.frozen = True
        await until(lambda: not owner.readable)
        assert owner.states[-1].reason is Reason.TIMEOUT
        assert (
            owner.clock.monotonic() - froze < PROVE + 0.4 * 50 + 5
        )  # the command's deadline is in real time
        server.frozen = False
        await until(lambda: owner.readable)


async def test_idle_is_renewed_and_polled() -> None:
    async with mini() as server, reading(server.port, factor=200) as (_, owner):
        await until(lambda: owner.readable)
        owner.expected = Expectation(open=1, oldest_sent_at=owner.clock.wall())
        await until(lambda: sum(line == b"DONE" for line in server.commands) > 8)
        assert any(b"STATUS" in line for line in server.commands)


async def test_without_idle_the_inbox_is_polled() -> None:
    async with (
        mini(capabilities=b"IMAP4rev1 AUTH=PLAIN") as server,
        reading(server.port, factor=100, provider="yahoo", known_junk=["Junk"]) as (reader, owner),
    ):
        await until(lambda: owner.readable)
        owner.expect(b"TOKENA", deadline=1e6)
        reader.kick()
        server.deliver(canary("TOKENA"))
        await until(lambda: owner.found(b"TOKENA"))
        assert not any(b"IDLE" in line for line in server.commands)


# G13


@pytest.mark.parametrize(
    "refusal",
    [
        b"NO [AUTHENTICATIONFAILED] no",
        b"NO [LIMIT] slow down",
        b"NO wrong",
        b"NO [INUSE] taken",
        b"NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded",  # Dovecot's AUTHENTICATE
    ],
)
async def test_g13_three_logins_then_none_for_an_hour(refusal: bytes) -> None:
    async with mini(refuse_login=refusal) as server, reading(server.port, factor=2000) as (reader, owner):
        await until(lambda: server.logins == 3)
        began = owner.clock.monotonic()
        await asyncio.sleep(1.0)  # 2000 s
        assert server.logins == 3
        assert owner.states[-1].reason in (Reason.LOGIN_REFUSED, Reason.LIMITED)
        await until(lambda: server.logins >= 4)
        assert owner.clock.monotonic() - began > 3500
        server.refuse_login = b""
        reader.retry()
        await until(lambda: owner.readable)
        assert server.most_open == 1


async def test_g13_a_folder_at_its_limit_counts_as_a_refusal() -> None:
    async with (
        mini(refuse_folder={"INBOX": b"NO [LIMIT] later"}) as server,
        reading(server.port, factor=2000) as (_, owner),
    ):
        await until(lambda: server.logins == 3)
        await asyncio.sleep(0.7)
        assert server.logins == 3
        assert owner.states[-1].reason is Reason.LIMITED


async def test_g13_retry_tries_at_once() -> None:
    async with (
        mini(refuse_login=b"NO [AUTHENTICATIONFAILED] no") as server,
        reading(server.port, factor=500) as (reader, owner),
    ):
        await until(lambda: server.logins == 3)
        server.refuse_login = b""
        reader.retry()
        await until(lambda: owner.readable)


async def test_bursts_are_capped_and_off_where_the_preset_says_so() -> None:
    async with mini() as server, reading(server.port) as (reader, owner):
        await until(lambda: owner.readable)
        owner.expect(b"NEVER", deadline=1e6, burst=1.0)
        reader.kick()
        await asyncio.sleep(1.3)
        assert 5 < server.noops <= 40
        known = server.noops
        await asyncio.sleep(0.3)
        assert server.noops <= known + 1
    async with mini() as server, reading(server.port, provider="generic") as (reader, owner):
        await until(lambda: owner.readable)
        owner.expect(b"NEVER", deadline=1e6, burst=1.0)
        reader.kick()
        await asyncio.sleep(0.5)
        assert server.noops == 0


# the owner


async def test_what_the_owner_could_not_take_is_told_again() -> None:
    async with mini() as server, reading(server.port, factor=50) as (_, owner):
        await until(lambda: owner.readable)
        owner.fail = StoreError("disk full")
        owner.expect(b"TOKENA", deadline=1e6)
        server.deliver(canary("TOKENA"))
        await until(lambda: owner.states[-1].reason is Reason.OWNER_FAILED)
        owner.fail = None
        await until(lambda: owner.found(b"TOKENA") and owner.readable)
        assert server.connections == 1  # the mailbox is not to blame


async def test_not_all_log_in_at_the_same_time() -> None:
    door = asyncio.Semaphore(1)
    async with mini() as server:
        server.frozen = True
        many = [reading(server.port, factor=20, door=door, access={"timeout": 30.0}) for _ in range(3)]
        async with many[0] as (_, first), many[1] as (_, second), many[2] as (_, third):
            await until(lambda: door.locked())
            await asyncio.sleep(0.1)
            assert server.connections == 1, "the others wait until it is in"
            server.frozen = False
            await until(lambda: first.readable and second.readable and third.readable)
            assert not door.locked()


async def test_after_a_restart_open_canaries_are_found_again() -> None:
    async with mini() as server:
        for number in range(40):
            server.deliver(canary(f"N{number}") if number % 2 else b"Subject: other\r\n\r\n")
        async with reading(server.port) as (_, owner):
            owner.expect(b"N1", deadline=1e6)
            await until(lambda: owner.scans)
            assert len(owner.seen) == 20
        async with reading(server.port) as (_, owner):
            await until(lambda: owner.scans)  # nothing is expected: what is there is old
            assert owner.seen == []


async def test_own_canaries_are_deleted_and_others_are_not() -> None:
    async with mini() as server, reading(server.port) as (reader, owner):
        await until(lambda: owner.readable)
        owner.expect(b"TOKENA", deadline=1e6)
        ours = server.deliver(canary("TOKENA"))
        other = server.deliver(b"Subject: somebody's\r\n\r\n")
        await until(lambda: owner.found(b"TOKENA"))
        validity = owner.seen[0].uidvalidity
        gone = await reader.delete([("INBOX", validity, ours), ("INBOX", validity, other)])
        assert gone == 1
        assert [message.uid for message in server.folders["INBOX"].messages] == [other]
        assert await reader.delete([("INBOX", validity + 1, other)]) == 0


async def test_a_mailbox_of_bounces_tells_every_message_whole() -> None:
    async with mini() as server, reading(server.port, bounces=True) as (_, owner):
        await until(lambda: owner.readable)
        bounce = b"Subject: Undelivered\r\n\r\nX-Mailcanary-Token: inside\r\n"
        server.deliver(bounce)
        await until(lambda: owner.seen)
        assert owner.seen[0].whole == bounce
        assert owner.seen[0].header == b"Subject: Undelivered\r\n\r\n"
        assert [folder.name for folder in owner.scans[0].folders] == ["INBOX"]


async def test_gmail_tabs_are_asked_for_by_uid() -> None:
    folders = {
        "INBOX": MiniFolder("INBOX"),
        "[Gmail]/Spam": MiniFolder("[Gmail]/Spam", "\\Junk"),
        "[Gmail]/All Mail": MiniFolder("[Gmail]/All Mail", "\\All"),
    }
    capabilities = b"IMAP4rev1 IDLE X-GM-EXT-1 AUTH=PLAIN"
    async with (
        mini(
            folders=folders, capabilities=capabilities, categories={1: "promotions", 3: "strange"}
        ) as server,
        reading(server.port, provider="gmail") as (reader, owner),
    ):
        await until(lambda: owner.readable)
        owner.expect(b"AAA", deadline=1e6)
        for token in ("AAA", "BBB", "CCC"):
            server.deliver(canary(token))
        await until(lambda: len(owner.seen) == 3)
        told = [(message.role, message.category) for message in owner.seen]
        assert told == [(Role.TAB, "promotions"), (Role.INBOX, None), (Role.INBOX, "unknown")]
        reader.scan_now()
        await until(lambda: len(owner.scans) > 1)
        assert not any(b"All Mail" in line for line in server.commands)


async def test_stopping_logs_out() -> None:
    async with mini() as server:
        async with reading(server.port) as (_, owner):
            await until(lambda: owner.readable)
        assert server.commands[-1].endswith(b"LOGOUT")
        assert owner.states[-1].reason is Reason.STOPPED
