"""What somebody new meets: a misplaced option, a wrong name, no such path, a file that is no mail."""

from __future__ import annotations

import io
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from agent.cli import main, parser
from agent.commands.agents import _table
from agent.commands.client import _refusal, request
from agent.commands.probe import check_output
from agent.forms.cells import headline
from agent.inspection.sources import sources, split
from agent.store.schema import backup, open_store
from probes.canary.state import Moment
from probes.canary.track import Sent, _reply_evidence
from probes.errors import ConfigError, HttpUnavailable, MailboxUnavailable, StoreError
from probes.mailbox.access import MailboxAccess, Password
from probes.mailbox.imap import ImapSession


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "x.yaml", "alerts", "list"],
        ["alerts", "--config", "x.yaml", "list"],
        ["alerts", "list", "-c", "x.yaml"],
        ["probe", "--config", "x.yaml"],
    ],
)
def test_config_is_understood_wherever_it_stands(words: list[str]) -> None:
    assert parser().parse_args(words).config == "x.yaml"


def test_a_wrong_name_is_the_askers_mistake_through_the_agent_too() -> None:
    said = _refusal("http://127.0.0.1/api", 400, '{"detail": "there is no sender \'ap\'"}')
    assert isinstance(said, ConfigError)
    assert said.detail == "there is no sender 'ap'"
    assert isinstance(
        _refusal("http://127.0.0.1/api", 401, '{"detail": "a token is wanted"}'), HttpUnavailable
    )
    for odd in ("404: Not Found", "[]", '{"other": 1}', ""):
        assert isinstance(_refusal("http://127.0.0.1/api", 404, odd), HttpUnavailable)


def test_a_backup_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    sqlite3.connect(store).close()
    with pytest.raises(StoreError, match="No such file"):
        backup(f"sqlite:///{store}", tmp_path / "nowhere" / "copy.db")


def test_a_file_that_is_no_mail_is_not_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("hi\n")
    (found,) = sources([str(tmp_path / "notes")])
    assert "no mail message" in found.problem


def test_a_round_that_was_held_back_says_why() -> None:
    report = {"cancelled": False, "outcome": "unknown", "causes": ["held"], "held": {"a/b": "paused"}}
    assert headline(report) == "unknown: did we break mail? could not tell: not sent: paused"


def test_a_pipe_in_a_folder_of_mail_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    (found,) = sources([str(tmp_path)])
    assert (found.name, found.problem) == (str(tmp_path / "lost"), "No such file or directory")


def test_a_long_line_of_digits_is_no_mbox() -> None:
    octets = b"From a " + b"1" * 2_000_000 + b"\nFrom b: 2026\n"
    (found,) = split("x", octets)  # quadratic, it would take an hour
    assert "no mail message" in found.problem


def test_output_that_nobody_gets_is_no_pass() -> None:
    command = [sys.executable, "-m", "agent", "schema"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (3, b"mailcanary: [Errno 28] No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (3, b"")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b"x", "text/html"),
    ],
)
async def test_what_is_no_agent_is_told_so(body: bytes, kind: str) -> None:
    async def other(_request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=kind)

    app = web.Application()
    app.router.add_get("/", other)
    async with TestServer(app) as server:
        with pytest.raises(HttpUnavailable):
            await request(str(server.make_url("/")))
        with pytest.raises(HttpUnavailable):
            await request(str(server.make_url("/")), token="two\nlines")


async def test_a_host_without_an_address_is_told_in_words() -> None:
    async def refused(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    access = MailboxAccess("imap.nowhere.example", 993, "a", Password("b"))
    session = ImapSession(access, lambda: None, dialer=refused)
    with pytest.raises(MailboxUnavailable, match="cannot connect: Name or service"):
        await session.open()


def test_the_kind_of_a_fault_is_told_once() -> None:
    now = Moment(1_800_000_000.0, 1_000.0, "boot-1")
    event = Sent("unreachable", None, fault="dns", detail="dns: smtp.acme.example has no address")
    assert [(e.kind, e.text) for e in _reply_evidence(event, now)] == [
        ("dns", "smtp.acme.example has no address")
    ]


def test_a_store_without_changes_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "mail.yaml"
    config.write_text(
        f"agent: {{store: 'sqlite:///{tmp_path / 'a.db'}', token: {{env: NOT_NEEDED}}}}\nblocklists: {{}}\n"
    )
    open_store(f"sqlite:///{tmp_path / 'a.db'}").close()
    assert main(["--config", str(config), "change", "list"]) == 0
    assert capsys.readouterr().out == "no change has been recorded yet\n"


def test_the_place_of_an_agent_is_never_cut_off() -> None:
    member = SimpleNamespace(
        place="mail-canary-1.acme.example:9465", region="", version="0.1.0", lag=0.1, config_hash="0" * 16
    )
    one: Any = SimpleNamespace(member=member, held={"mailbox": 3}, state="working", silence=1.0, current=True)
    kept = io.StringIO()
    Console(file=kept, width=80).print(_table([one]))
    assert member.place in kept.getvalue()
    assert "…" not in kept.getvalue()


@pytest.mark.parametrize("words", [["probe"], ["change", "start", "x"]])
def test_a_report_that_cannot_be_written_is_told_before_mail_is_sent(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output in (tmp_path, tmp_path / "nowhere" / "x"):
        # Without a config it could not even begin.
        assert main(["--config", "/no/such", *words, "--output", str(output)]) == 2
        assert "no file can be written there" in capsys.readouterr().err
    check_output(str(tmp_path / "report"))
    check_output(None)
