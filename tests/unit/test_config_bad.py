"""Every way a config file can be wrong, each with the whole text that people read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent.config.load import load
from agent.config.problems import ConfigInvalid

BAD = Path(__file__).parent.parent / "data" / "config" / "bad"
FILES = sorted(BAD.glob("*.yaml"))


def test_there_are_enough_bad_files() -> None:
    assert len(FILES) >= 45


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_bad_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    with pytest.raises(ConfigInvalid) as caught:
        load(file.name, {})
    told = "".join(f"{problem}\n" for problem in caught.value.problems)
    assert told == file.with_suffix(".txt").read_text(encoding="utf-8")
    assert "hunter2" not in str(caught.value) + repr(caught.value)
    assert str(caught.value) == "The configuration file is wrong: \n" + told.rstrip("\n")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_message_has_a_place_and_a_remedy(file: Path) -> None:
    for line in file.with_suffix(".txt").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(rf"{re.escape(file.name)}:[1-9]\d*:[1-9]\d*: \S.*; \S.*", line)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load("no-such.yaml", {})
    assert str(caught.value.problems[0]) == (
        "no-such.yaml:1:1: cannot be read: No such file or directory; "
        "give the path of the config file with --config"
    )


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="Is a directory"):
        load(tmp_path, {})


def test_huge_file(tmp_path: Path) -> None:
    file = tmp_path / "huge.yaml"
    file.write_bytes(b"# x\n" * (2 * 2**20 + 1))
    with pytest.raises(ConfigInvalid, match="1:1: longer than 8 MiB; split the seeds over several agents"):
        load(file, {})
