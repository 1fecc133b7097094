"""`check-config` and `schema` as people call them."""

from __future__ import annotations

import argparse
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from agent.commands import check_config, schema

EXAMPLE = Path(__file__).parents[2] / "examples.yaml"
BAD = Path(__file__).parents[1] / "data" / "config" / "bad" / "unknown-key.yaml"


def call(module: types.ModuleType, *arguments: str, config: str | None = None) -> int:
    parser = argparse.ArgumentParser()
    module.configure(parser)
    code: int = module.run(parser.parse_args(arguments, argparse.Namespace(config=config)))
    return code


def test_a_good_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parent)
    assert call(check_config, "examples.yaml") == 0
    out, err = capsys.readouterr()
    assert out == (
        "OK examples.yaml: 3 senders, 3 seeds, 7 routes, 264 canaries a day\n"
        "  SEED       PROVIDER  ROUTES  A DAY  CAP\n"
        "  gmail-1    gmail          3    120  150\n"
        "  outlook-1  outlook        3    120  200\n"
        "  own-1      dovecot        1     24  200\n"
    )
    assert all(line.startswith("warning: examples.yaml:") for line in err.splitlines())


def test_a_bad_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD.parent)
    assert call(check_config, config=BAD.name) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == BAD.with_suffix(".txt").read_text() + "unknown-key.yaml: 2 problems\n"


def test_json_of_a_good_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(check_config, "--json", str(EXAMPLE)) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert told["schema"] == "mailcanary.check-config/1"
    assert told["ok"] is True
    assert told["problems"] == []
    assert told["plan"]["seeds"][0] == {
        "name": "gmail-1",
        "provider": "gmail",
        "routes": 3,
        "canaries": 120.0,
        "cap": 150,
    }


def test_json_of_a_bad_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(check_config, "--json", str(BAD)) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert told["problems"][1] == {
        "file": str(BAD),
        "line": 3,
        "column": 5,
        "what": "senders.app: unknown key `form`",
        "right": "did you mean `from`?",
    }


def test_the_default_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(check_config) == 2
    assert "mailcanary.yaml:1:1: cannot be read: No such file or directory" in capsys.readouterr().err


def test_live_wants_the_secrets(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMTP_PASSWORD", raising=False)
    assert call(check_config, "--live", str(EXAMPLE)) == 2
    assert "the environment has no SMTP_PASSWORD" in capsys.readouterr().err


def test_live_is_what_the_live_checks_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("agent.live")
    module.live = lambda config: 3 if config.records else 0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agent.live", module)
    (tmp_path / "x.yaml").write_text("records: {}\n")
    assert call(check_config, "--live", str(tmp_path / "x.yaml")) == 3


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(schema) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["additionalProperties"] is False
    assert set(told["properties"]) >= {"agent", "senders", "seeds", "routes", "alerts"}
