"""`mailcanary inspect`: exit codes, sources, JSON."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import pytest

from agent.commands import inspect

MESSAGE = (
    b"Return-Path: <bounce@acme.example>\r\n"
    b"Received: from imap by mx.own.example with LMTP id 1; Sat, 21 Nov 2026 12:00:05 +0000\r\n"
    b"Received: from out.acme.example (out.acme.example [192.0.2.7])\r\n\tby mx.own.example (Postfix)"
    b" with ESMTPS id 2; Sat, 21 Nov 2026 12:00:00 +0000\r\n"
    b"Authentication-Results: mx.own.example; spf=pass smtp.mailfrom=acme.example; dmarc=pass\r\n"
    b"Authentication-Results: mx.own.example; dmarc=fail\r\n"
    b"From: a@acme.example\r\nSubject: good day\r\n\r\nbody\r\n"
)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[dict[str, object]], str]:
    parser = argparse.ArgumentParser()
    inspect.configure(parser)
    code = inspect.run(parser.parse_args([*words, "--offline", "--json"]))
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def test_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(MESSAGE)
    code, (facts,), _ = run(capsys, str(path), "--authserv-id", "mx.own.example")
    assert code == 0
    assert (facts["schema"], facts["file"], facts["bounce"], facts["token"]) == (
        inspect_schema(),
        str(path),
        None,
        None,
    )
    first, second = facts["authentication_results"]  # type: ignore[misc]
    assert (first["authserv_id"], first["trusted"], first["ambiguous"]) == ("mx.own.example", True, False)
    assert (second["trusted"], second["methods"][0]["result"]) == (False, "fail")
    assert first["methods"][0] | {"comments": [], "version": 1} == {
        "method": "spf",
        "result": "pass",
        "reason": None,
        "properties": {"smtp.mailfrom": "acme.example"},
        "comments": [],
        "version": 1,
    }
    newest, oldest = facts["received"]  # type: ignore[misc]
    assert (newest["by"], newest["with"], newest["delay_seconds"], oldest["delay_seconds"]) == (
        "mx.own.example",
        "LMTP",
        5.0,
        None,
    )
    assert oldest["time"] == 1_795_262_400.0
    assert set(facts["evaluated"]) >= {"spf", "dkim", "arc", "dmarc"}  # type: ignore[call-overload]
    assert facts["evaluated"]["spf"]["result"] == "temperror"  # type: ignore[index]
    assert set(facts["provider"]) >= {"name", "placement", "evidence", "scores"}  # type: ignore[call-overload]


def inspect_schema() -> str:
    return "mailcanary.inspect/1"


def test_without_a_name_nothing_is_trusted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(MESSAGE)
    _, (facts,), _ = run(capsys, str(path))
    assert all(not one["trusted"] for one in facts["authentication_results"])  # type: ignore[attr-defined]


def test_a_folder_an_mbox_and_what_cannot_be_read(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.eml").write_bytes(MESSAGE)
    (tmp_path / "sub").mkdir()
    one = b"From a@b Sat Nov 21 12:00:00 2026\n" + MESSAGE.replace(b"\r\n", b"\n") + b"\n"
    (tmp_path / "sub" / "box.mbox").write_bytes(one + one)
    code, facts, _ = run(capsys, str(tmp_path))
    assert code == 0
    assert [Path(str(one["file"])).name for one in facts] == ["a.eml", "box.mbox#1", "box.mbox#2"]
    code, facts, err = run(capsys, str(tmp_path / "a.eml"), str(tmp_path / "none.eml"))
    assert (code, len(facts)) == (1, 1)
    assert "none.eml" in err


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MESSAGE)))
    code, (facts,), _ = run(capsys, "-", "--now", "2026-11-21T12:00:00Z")
    assert (code, facts["file"]) == (0, "-")


def test_the_text_form(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(MESSAGE)
    parser = argparse.ArgumentParser()
    inspect.configure(parser)
    arguments = [str(path), "--offline", "--authserv-id", "mx.own.example"]
    assert inspect.run(parser.parse_args(arguments)) == 0
    out = capsys.readouterr().out
    assert "dmarc=pass" in out
    assert "192.0.2.7" in out


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    inspect.configure(parser)
    assert inspect.run(parser.parse_args(["-", "--now", "noon"])) == 2
    assert inspect.run(parser.parse_args(["-", "--resolver", "nowhere"])) == 2
    capsys.readouterr()
