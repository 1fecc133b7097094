"""`mailcanary inspect` on what people and attackers feed it: no crash, no forged pass, nothing left out."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.commands import inspect

Facts = dict[str, Any]
TIME = "Sat, 21 Nov 2026 08:15:30 +0000"
CLAIM = "spf=pass smtp.mailfrom=bank.example; dkim=pass header.d=bank.example; dmarc=pass"
BAD = "bad.example (bad.example [192.0.2.66])"
GMAIL = (
    f"Received: by 2002:a05:6a10:1234:0:0:0:0 with SMTP id x1; {TIME}\n"
    f"Received: from {BAD}\n by mx.google.com with ESMTPS id 1; {TIME}\n"
    "Received-SPF: fail (google.com: no) client-ip=192.0.2.66;\n"
    "Authentication-Results: mx.google.com; spf=fail smtp.mailfrom=bad.example; dmarc=fail\n"
)
OWN = f"Received: from {BAD}\n by mx.own.example (Postfix) with ESMTPS id 1; {TIME}\n"
END = "From: a@bank.example\nSubject: hello\n\nbody\n"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[Facts], str]:
    parser = argparse.ArgumentParser()
    inspect.configure(parser)
    code = inspect.run(parser.parse_args([*words, "--offline", "--json"]))
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def one(capsys: pytest.CaptureFixture[str], path: Path, text: str | bytes, *words: str) -> Facts:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, facts, err = run(capsys, str(path), *words)
    assert (code, err, len(facts)) == (0, "", 1)
    return facts[0]


def passed(facts: Facts) -> list[str]:
    """What would be taken for the provider's pass."""
    fields = ("authentication_results", "received_spf", "arc_authentication_results")
    counted = [item for name in fields for item in facts[name] if item["trusted"] and not item["ambiguous"]]
    methods = [one["method"] for item in counted for one in item["methods"] if one["result"] == "pass"]
    told = facts["authentication"]
    return methods + [m for m in told if told[m]["result"] == "pass" and not told[m]["ambiguous"]]


FALSE = f"Authentication-Results: mx.google.com; {CLAIM}\n"
FORGED = {
    "below the provider's": GMAIL + FALSE + END,
    "above everything": FALSE + GMAIL + END,
    "between the hops": GMAIL.replace(
        "\nReceived: from", f"\nAuthentication-Results: mx.google.com; {CLAIM}\nReceived: from"
    )
    + END,
    "of another provider": GMAIL + f"Authentication-Results: mx.yahoo.com; {CLAIM}\n" + END,
    "no Received": FALSE + END,
    "no Received, two": FALSE * 2 + END,
    "a border brought along": f"Received: from x (y [192.0.2.9]) by relay.example with SMTP; {TIME}\n"
    + GMAIL
    + END,
    "a border below a local hop": f"Received: by own.example (Postfix, from userid 0) id 1; {TIME}\n"
    f"Received: from {BAD} by mx.google.com with ESMTPS id 1; {TIME}\n" + FALSE + END,
    "at the end": GMAIL + "From: a@bank.example\n" + FALSE + "\nbody\n",
    "Microsoft's without its border": f"Authentication-Results: {CLAIM}\n" + OWN + END,
    "X-Received": f"X-Received: by mx.google.com; {TIME}\nAuthentication-Results: mx.google.com; {CLAIM}\n"
    + END,
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("words", [(), ("--authserv-id", "mx.google.com")])
def test_no_forged_pass(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, words: tuple[str, ...]
) -> None:
    facts = one(capsys, tmp_path / "m", FORGED[name], *words)
    assert passed(facts) == []
    assert facts["provider"]["name"] in ("gmail", None)


@pytest.mark.parametrize(
    "received_by", [(), ("--received-by", "mx.own.example"), ("--received-by", "192.0.2.66")]
)
def test_a_named_id_counts_in_its_place_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, received_by: tuple[str, ...]
) -> None:
    forged = f"Authentication-Results: mx.own.example; {CLAIM}\n"
    genuine = "Authentication-Results: mx.own.example; spf=fail; dmarc=fail\n"
    old = f"Received: from x (y [192.0.2.9])\n by mx.own.example with ESMTPS id 2; {TIME}\n"
    for text in (
        OWN + genuine + forged + END,
        genuine + OWN + forged + END,
        OWN + genuine + old + forged + END,
        OWN + "X-Other: x\n" + forged + END,
        OWN + old + forged + END,
    ):
        assert (
            passed(one(capsys, tmp_path / "m", text, "--authserv-id", "MX.own.example.", *received_by)) == []
        )


def test_received_by_names_the_border_among_several(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = (
        f"Received: from mx.own.example (x [10.0.0.1]) by store.own.example with ESMTP id 3; {TIME}\n"
        f"Received: from {BAD} by mx.own.example ([198.51.100.25]) with ESMTPS id 2; {TIME}\n"
        "Authentication-Results: mx.own.example; dmarc=fail\n" + END
    )
    for by in ("mx.own.example", "198.51.100.25"):
        facts = one(capsys, tmp_path / "m", text, "--authserv-id", "mx.own.example", "--received-by", by)
        assert facts["trusted_border"]["ip"] == "192.0.2.66"
        assert facts["authentication"]["dmarc"]["result"] == "fail"


def test_a_named_border_that_the_message_brought_along(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    forged = f"Authentication-Results: mx.own.example; {CLAIM}\n"
    border = (
        f"Received: from x (y [192.0.2.9]) by mx.own.example ([198.51.100.25]) with ESMTPS id 2; {TIME}\n"
    )
    for helo in ("bad.example", "mx.own.example"):
        top = f"Received: from {helo} ([192.0.2.66]) by mx2.own.example with ESMTPS id 3; {TIME}\n"
        text = top + forged + border + forged + END
        for by in ("mx.own.example", "198.51.100.25"):
            words = ("--authserv-id", "mx.own.example", "--received-by", by)
            assert passed(one(capsys, tmp_path / "m", text, *words)) == []


def test_a_known_provider_needs_no_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    facts = one(capsys, tmp_path / "m", GMAIL + FALSE + END, "--received-by", "mx.google.com")
    assert facts["authentication"]["dmarc"]["result"] == "fail"
    assert passed(facts) == []


MESSAGE = GMAIL + END
WHOLE = {
    "LF": MESSAGE,
    "CRLF": MESSAGE.replace("\n", "\r\n"),
    "CR": MESSAGE.replace("\n", "\r"),
    "mixed": MESSAGE.replace("\n", "\r\n", 3),
    "BOM": "\ufeff" + MESSAGE,
    "BOM and mbox": "\ufeffFrom a@b Sat Nov 21 08:15:30 2026\n" + MESSAGE,
    "mbox line": "From a@b Sat Nov 21 08:15:30 2026\n" + MESSAGE,
    "quoted mbox line": ">From a@b Sat Nov 21 08:15:30 2026\n" + MESSAGE,
    "empty lines first": "\n\r\n\n" + MESSAGE,
    "header alone": MESSAGE.partition("\n\n")[0] + "\n",
    "no newline at the end": MESSAGE.partition("\n\n")[0],
    "a NUL": MESSAGE.replace("hello", "hel\x00lo"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_the_same_in_every_dress(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    facts = one(capsys, tmp_path / "m", WHOLE[name])
    assert facts["provider"]["name"] == "gmail"
    assert [hop["by"] for hop in facts["received"]] == ["2002:a05:6a10:1234:0:0:0:0", "mx.google.com"]
    assert facts["received"][0]["time"] == 1_795_248_930.0
    first = facts["authentication_results"][0]
    assert (first["authserv_id"], first["trusted"], first["ambiguous"]) == ("mx.google.com", True, False)
    assert facts["authentication"]["dmarc"]["result"] == "fail"
    assert facts["subject"] == "hello"


HUGE = {
    "five megabytes of header": GMAIL + "X-Pad: " + "p" * 5_000_000 + "\n" + END,
    "a million folds": GMAIL + "X-Pad: p" + "\n p" * 1_000_000 + "\n" + END,
    "ten thousand Received": GMAIL * 2_500 + END,
    "ten thousand results": OWN + f"Authentication-Results: mx.own.example; {CLAIM}\n" * 10_000 + END,
    "8 bit": (GMAIL + "Subject: gr\xfc\xdfe\n" + END).encode("latin-1"),
    "every byte": bytes(range(256)) * 40 + b"\nA: b\n",
    "surrogates": GMAIL + "Subject: =?utf-7?Q?+2AA-?= =?utf-16?B?ANg=?=\nFrom: =?utf-7?Q?+3AA-?=\n\n",
    "open multipart": "Content-Type: multipart/report; boundary=\n\n--\n--\n",
    "dates": "".join(
        f"Received: from a by b; {when}\n" for when in ("31 Feb 2026", "1 Jan 99999", "-", "9" * 400)
    )
    + END,
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("form", ["--json", "--format=text"])
def test_nothing_is_too_much(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, form: str
) -> None:
    path = tmp_path / "m"
    raw = HUGE[name]
    path.write_bytes(raw if isinstance(raw, bytes) else raw.encode("utf-8"))
    parser = argparse.ArgumentParser()
    inspect.configure(parser)
    assert inspect.run(parser.parse_args([str(path), "--offline", form])) == 0
    out = capsys.readouterr().out
    out.encode("utf-8")
    if form == "--json":
        assert len(json.loads(out)["received"]) <= 200


def test_what_cannot_be_read_is_told_and_the_rest_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "good.eml").write_text(MESSAGE)
    (tmp_path / "empty.eml").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / ".hidden").write_text(MESSAGE)
    (tmp_path / "notes.md").write_text(MESSAGE)
    os.mkfifo(tmp_path / "pipe")
    code, facts, err = run(capsys, str(tmp_path), str(tmp_path / "none"))
    assert (code, [Path(item["file"]).name for item in facts]) == (1, ["good.eml"])
    told = {Path(line.split(": ")[1]).name for line in err.splitlines()}
    assert told == {"empty.eml", "loop", "nowhere", "none"}


def test_a_name_that_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.eml")).write_text(MESSAGE)
    code, (facts,), _ = run(capsys, str(tmp_path))
    assert code == 0
    assert facts["provider"]["name"] == "gmail"


def test_a_terminal_that_knows_ascii_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m"
    path.write_text(MESSAGE.replace("hello", "grüße"))
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    parser = argparse.ArgumentParser()
    inspect.configure(parser)
    for form in ("json", "text"):
        assert inspect.run(parser.parse_args([str(path), "--offline", "--format", form])) == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--now", "nan"), ("--now", "inf"), ("--now", "1e300"), ("--now", "-1"), ("--now", ""),
        ("--resolver", ""), ("--resolver", "127.0.0.1:99999"), ("--resolver", "127.0.0.1:x"),
        ("--resolver", "[::1"),
    ],
)  # fmt: skip
def test_wrong_usage_ends_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, str]
) -> None:
    path = tmp_path / "m"
    path.write_text(MESSAGE)
    parser = argparse.ArgumentParser()
    inspect.configure(parser)
    assert inspect.run(parser.parse_args([str(path), *words])) == 2
    assert repr(words[1]) in capsys.readouterr().err
