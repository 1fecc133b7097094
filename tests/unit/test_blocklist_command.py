"""`mailcanary blocklist` against a scripted server: lines, words, exit codes."""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.commands import blocklist
from tests.fakes.dns_server import NXDOMAIN, REFUSED, DnsServer, Script, always, zone_data

DATA = {
    "2.0.0.127.bl.example A": ["127.0.0.2"],
    "1.2.0.192.bl.example A": ["127.0.0.2"],
    "1.2.0.192.bl.example TXT": ["seen\x1b[31m in spam"],
    "2.0.0.127.zen.spamhaus.org A": ["127.0.0.2", "127.0.0.4", "127.0.0.10"],
    "1.2.0.192.zen.spamhaus.org A": ["127.0.0.10"],
    "test.dbl.spamhaus.org A": ["127.0.1.2"],
    "bad.example.dbl.spamhaus.org A": ["127.0.1.4"],
    "2.0.0.127.secret0key.zen.dq.spamhaus.net A": ["127.0.0.2"],
}


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """The scripted server on a loop of its own: the command runs one itself."""
    ready, stop, address = threading.Event(), asyncio.Event(), ""

    async def serve() -> None:
        nonlocal address
        async with DnsServer(script) as server:
            address = server.address
            ready.set()
            await stop.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    try:
        yield address
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config")
    blocklist.configure(parser)
    return blocklist.run(parser.parse_args(words))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["192.0.2.1", "192.0.2.9", "--json"]
    with serving(zone_data(DATA)) as address:
        code = run(*words, "--zone", "bl.example", "--zone", "dead.example", "--resolver", address)
    found = {(x["subject"], x["zone"]): x for x in lines(capsys)}
    assert code == 1
    hit = found["192.0.2.1", "bl.example"]
    assert hit["schema"] == "mailcanary.blocklist/1"
    assert (hit["outcome"], hit["listed"], hit["reason"]) == ("fail", True, "listed")
    assert (hit["codes"], hit["severity"], hit["txt"]) == (["127.0.0.2"], "error", "seen [31m in spam")
    clean = found["192.0.2.9", "bl.example"]
    assert (clean["outcome"], clean["listed"], clean["reason"]) == ("pass", False, "not-listed")
    dead = found["192.0.2.9", "dead.example"]
    assert (dead["outcome"], dead["listed"], dead["reason"]) == ("unknown", None, "zone-dead")
    assert {"meaning", "delist_url"} <= dead.keys()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["192.0.2.9", "--zone", "zen.spamhaus.org"], 0),
        (["192.0.2.1", "--zone", "zen.spamhaus.org"], 1),
        (["192.0.2.9", "good.example", "--zone", "zen.spamhaus.org", "--zone", "dbl.spamhaus.org"], 0),
        (["bad.example", "--zone", "dbl.spamhaus.org"], 1),
        (["192.0.2.9", "--zone", "dead.example"], 3),
        (["2001:db8::1", "--zone", "bl.spamcop.net"], 3),
        (["192.0.2.9", "--zone", "zen.dq.spamhaus.net"], 3),
        ([], 2),
        (["not a subject"], 2),
        (["192.0.2.9", "--zone", "no zone"], 2),
        (["192.0.2.9", "--timeout", "-1"], 2),
        (["192.0.2.9", "--key", "zen.dq.spamhaus.net=/nowhere"], 2),
        (["--zones", "--zone", "zen.spamhaus.org"], 0),  # usable for IPv4 at least
    ],
)
def test_exit_codes(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(zone_data(DATA)) as address:
        found = run(*words, "--resolver", address)
    assert found == code
    said = capsys.readouterr().err
    assert said.startswith("mailcanary blocklist: ") if code == 2 else said == ""
    assert "configuration is wrong" not in said  # it is the command line that is


def test_words_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(zone_data(DATA)) as address:
        run("192.0.2.1", "192.0.2.9", "--zone", "zen.spamhaus.org", "--resolver", address)
    out = capsys.readouterr().out
    assert "LISTED" in out.splitlines()[1]
    assert "PBL: by its provider's policy" in out
    assert "delisting: https://check.spamhaus.org/" in out
    assert "1 LISTED, 1 not listed, 0 unknown" in out


def test_a_line_for_each_subject_and_zone(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["192.0.2.9", "good.example", "--zone", "zen.spamhaus.org", "--zone", "dbl.spamhaus.org"]
    with serving(zone_data(DATA)) as address:
        assert run(*words, "--json", "--resolver", address) == 0
        found = {(x["subject"], x["zone"]): x["reason"] for x in lines(capsys)}
        run(*words, "--resolver", address)
    assert found == {
        ("192.0.2.9", "zen.spamhaus.org"): "not-listed",
        ("good.example", "dbl.spamhaus.org"): "not-listed",
        ("192.0.2.9", "dbl.spamhaus.org"): "not-applicable",
        ("good.example", "zen.spamhaus.org"): "not-applicable",
    }
    assert "0 LISTED, 2 not listed, 0 unknown" in capsys.readouterr().out


def test_the_default_zones(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(always(NXDOMAIN)) as address:
        assert run("192.0.2.1", "--json", "--resolver", address) == 3
    found = lines(capsys)
    assert {x["reason"] for x in found} == {"resolver"}  # all lists empty at once: not the lists
    assert "zen.spamhaus.org" in {x["zone"] for x in found}
    assert "dbl.spamhaus.org" not in {x["zone"] for x in found}


def test_the_next_resolver_is_asked_what_the_first_could_not_tell(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(always(REFUSED)) as first, serving(zone_data(DATA)) as second:
        words = ["192.0.2.9", "--zone", "bl.example", "--json", "--resolver", first, "--resolver", second]
        assert run(*words) == 0
    assert [x["reason"] for x in lines(capsys)] == ["not-listed"]


def test_resolvers_that_disagree_about_a_listing_are_both_shown(capsys: pytest.CaptureFixture[str]) -> None:
    other = {name: records for name, records in DATA.items() if not name.startswith("1.2.0.192.")}
    with serving(zone_data(DATA)) as first, serving(zone_data(other)) as second:
        words = ["192.0.2.1", "--zone", "zen.spamhaus.org", "--resolver", first, "--resolver", second]
        assert run(*words, "--json") == 1
        found = lines(capsys)
        run(*words)
    said = f"listed through {first}; not listed through {second}"
    assert [(x["listed"], x["disagreement"]) for x in found] == [(True, said)]
    assert f"resolvers disagree: {said}" in capsys.readouterr().out


def test_a_key_is_used_and_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_text("secret0key\n", encoding="ascii")
    words = ["192.0.2.9", "--zone", "zen.dq.spamhaus.net", "--key", f"zen.dq.spamhaus.net={key}", "--json"]
    with serving(zone_data(DATA)) as address:
        assert run(*words, "--resolver", address) == 0
    captured = capsys.readouterr()
    assert "secret0key" not in captured.out + captured.err


def test_zones_are_shown_with_their_health(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(zone_data(DATA)) as address:
        run(
            "--zones", "--json", "--zone", "zen.spamhaus.org", "--zone", "dead.example", "--resolver", address
        )
    found = {(x["zone"], x["kind"]): x for x in lines(capsys)}
    assert found["zen.spamhaus.org", "ipv4"]["healthy"]
    assert found["dead.example", "domain"]["reason"] == "zone-dead"


def test_a_config_file_gives_subjects_and_resolver(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "zones.yaml"
    own.write_text("zones: [{zone: bl.example, kinds: [ipv4], severity: warning}]", encoding="utf-8")
    file = tmp_path / "mail.yaml"
    with serving(zone_data(DATA)) as address:
        file.write_text(
            f'resolver: {{nameservers: ["{address}"]}}\n'
            "blocklists: {subjects: {ips: [192.0.2.0/31]}, zones: [bl.example], catalogue: zones.yaml}\n",
            encoding="utf-8",
        )
        assert run("--config", str(file), "--json") == 1
    found = {x["subject"]: x for x in lines(capsys)}
    assert found["192.0.2.1"]["severity"] == "warning"
    assert found["192.0.2.0"]["listed"] is False
