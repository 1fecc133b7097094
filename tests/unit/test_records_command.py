"""`mailcanary records` against a scripted server: the report, JSON lines, exit codes, usage."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from agent.cli import main
from agent.commands import records
from probes.errors import ConfigError
from tests.fakes.dns_server import SERVFAIL, always, zone_data
from tests.unit.test_blocklist_command import serving

DATA = {
    "a.example MX": ["0 ."],
    "a.example TXT": ["v=spf1 include:b.example -all"],
    "b.example TXT": ["v=spf1 ip4:192.0.2.0/24 -all"],
    "_dmarc.a.example TXT": ["v=DMARC1; p=reject; rua=mailto:d@a.example"],
    "s1._domainkey.a.example TXT": ["v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="],
    "1.2.0.192.in-addr.arpa PTR": ["out.a.example."],
    "out.a.example A": ["192.0.2.1"],
    "bad.example TXT": ["v=spf1 +all exp=\x1b[31m", "hello"],
}


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    records.configure(parser)
    return records.run(parser.parse_args([*words, "--dns-only"]))


def test_a_clean_domain(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(zone_data(DATA)) as address:
        code = run("a.example", "--resolver", address, "--selector", "s1", "--sender", "192.0.2.1")
    told = capsys.readouterr().out
    assert code == 0, told
    assert told.startswith("a.example: pass, no fault")
    assert "└─ include:b.example (1)" in told
    assert "DKIM s1: ed25519 256 bits" in told


def test_json_has_a_line_a_domain_and_the_worst_decides(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(zone_data(DATA)) as address:
        code = run("a.example", "--domain", "bad.example", "--resolver", address, "--json")
    lines: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 1
    assert [(line["schema"], line["domain"], line["outcome"]) for line in lines] == [
        ("mailcanary.records/1", "a.example", "pass"),
        ("mailcanary.records/1", "bad.example", "fail"),
    ]
    assert lines[0]["findings"] == []
    faults = {finding["code"]: finding for finding in lines[1]["findings"]}
    assert {"mx-missing", "dmarc-missing"} <= set(faults)
    assert faults["dmarc-missing"]["fix"].startswith('_dmarc.bad.example. TXT "v=DMARC1; p=none')
    assert set(faults["dmarc-missing"]) == {
        "kind",
        "code",
        "severity",
        "outcome",
        "name",
        "what",
        "why",
        "fix",
    }


def test_a_domain_that_does_not_exist_is_told_so_first(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(zone_data(DATA)) as address:
        assert run("exmaple.example", "--resolver", address) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("exmaple.example: fail, the domain does not exist: ")
    assert told[2].split() == ["critical", "ns-no-domain", "exmaple.example"]
    assert "spelled right?" in told[3]


def test_what_cannot_be_seen_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(always(SERVFAIL)) as address:
        assert run("a.example", "--resolver", address) == 3
    assert "a.example: unknown, no fault" in capsys.readouterr().out


def test_strangers_texts_do_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(zone_data(DATA)) as address:
        assert run("bad.example", "--resolver", address) == 1
    told = capsys.readouterr().out
    assert "exp=" in told
    assert "\x1b" not in told


def test_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (
        [],
        ["--sender", "nobody", "a.example"],
        ["no domain"],
        ["--diff", "--resolver", "127.0.0.1:1", "a.example"],
    ):
        with pytest.raises(ConfigError):
            run(*words)
    assert main(["records"]) == 2
