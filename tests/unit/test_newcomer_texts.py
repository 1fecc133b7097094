"""What somebody new meets: a misplaced option, a wrong name, no such path, a file that is no mail."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from agent.cli import parser
from agent.commands.client import _refusal
from agent.forms.cells import headline
from agent.inspection.sources import sources, split
from agent.store.schema import backup
from probes.errors import ConfigError, HttpUnavailable, StoreError


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
