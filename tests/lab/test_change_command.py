"""`mailcanary change` and the forms of `mailcanary probe`, as people and pipelines run them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen
from xml.etree import ElementTree as Xml

import pytest
import yaml

from tests.guarantees.agents import stored
from tests.lab.agents import write_config
from tests.lab.test_commands import daemon, run
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab
ROUTE = ("--sender", "app", "--seed", "a")


def wait_for_canaries(folder: Path, number: int) -> None:
    """Returns once so many canaries of rounds are under way."""
    end = time.monotonic() + 40
    while time.monotonic() < end:
        time.sleep(0.2)
        if sum(canary.round != "" for canary in stored(folder)) >= number:
            return
    raise AssertionError("the round did not begin")


def open_changes(config: Path) -> float:
    """What the metrics say, from which dashboards draw their annotation."""
    listen = yaml.safe_load(config.read_text())["agent"]["listen"]
    with urlopen(f"http://{listen}/metrics", timeout=10) as page:
        lines = page.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("mailcanary_changes_open ")).split()[1])


def stored_once(lab: Lab, report: dict[str, Any]) -> None:
    """By the servers' own log, which is written in its own time, each canary was stored once; but for the
    intents that were open at the kill: those were never sent, or once, and none is sent again."""
    for canary in report["canaries"]:
        if canary["outcome"] == "pass":
            assert lab.log.wait(canary["message_id"], "stored", timeout=30), canary["seed"]
        else:
            assert canary["reason"] == "unconfirmed", canary
        stored = [s for s in lab.delivery_log(canary["message_id"]) if s.stage == "stored"]
        assert len(stored) == (canary["outcome"] == "pass"), canary["seed"]


def test_a_change_that_breaks_dkim(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="15s")
    with daemon(config):
        started = run(config, "change", "start", "rotate the key of sender.test", *ROUTE)
        assert started.returncode == 0, started.stderr
        assert "recorded and not alerted" in started.stderr
        assert "announced change" in run(config, "alerts", "silences").stdout
        assert open_changes(config) == 1.0
        lab.dkim.break_("sender.test")
        finished = run(config, "change", "finish", "--json")
        assert finished.returncode == 1, finished.stderr
        report = json.loads(finished.stdout)
        assert report["causes"] == ["dkim"]
        words = report["verdicts"][0]["words"]
        assert "dkim pass (mail) -> fail (mail" in words
        assert report["verdicts"][0]["header_diff"]
        listed = [json.loads(line) for line in run(config, "change", "list", "--json").stdout.splitlines()]
        assert [(c["title"], c["outcome"]) for c in listed] == [("rotate the key of sender.test", "fail")]
        shown = run(config, "change", "show")
        assert shown.returncode == 1
        assert "dkim pass" in shown.stdout
        assert run(config, "change", "finish").returncode == 2  # none is open
        assert run(config, "alerts", "silences").stdout.count("announced") == 0
        assert open_changes(config) == 0.0


def test_a_change_of_nothing_alone_and_watched(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="15s")
    assert run(config, "change", "start", "nothing", *ROUTE).returncode == 0
    watched = run(config, "change", "watch", "--for", "3s", "--every", "2s", "--json")
    assert watched.returncode == 0, watched.stdout + watched.stderr
    report = json.loads(watched.stdout)
    assert report["outcome"] == "pass"
    finished = run(config, "change", "finish", "--format", "markdown")
    assert finished.returncode == 0, finished.stdout
    assert "nothing changed" in finished.stdout
    change = json.loads(run(config, "change", "show", "--json").stdout)
    assert (change["state"], change["outcome"], len(change["watch"])) == ("finished", "pass", 2)


def test_killed_in_the_middle_and_run_again(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="40s")
    arguments = ["change", "start", "slow", "--sender", "app", "--count", "3"]
    lab.postfix("a").hold()
    command = [sys.executable, "-m", "agent", "--config", str(config), *arguments]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_canaries(tmp_path, 2)
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.wait()
    lab.postfix("a").release()
    again = run(config, *arguments, "--json", timeout=90)
    assert again.returncode == 0, again.stdout + again.stderr
    report = json.loads(again.stdout)
    assert len(report["canaries"]) == 6
    assert len({c["message_id"] for c in report["canaries"]}) == 6
    assert {c["duplicates"] for c in report["canaries"]} == {0}
    (change,) = [json.loads(line) for line in run(config, "change", "list", "--json").stdout.splitlines()]
    assert (change["state"], change["before_round"]) == ("open", report["id"])
    stored_once(lab, report)


def test_the_same_key_is_the_same_round(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="15s")
    with daemon(config):
        both = [json.loads(run(config, "probe", *ROUTE, "--key", "build 7", "--json").stdout) for _ in "ab"]
        assert both[0]["id"] == both[1]["id"]
        assert len(both[1]["canaries"]) == 1
        other = run(config, "probe", "--sender", "bulk", "--key", "build 7")
        assert other.returncode == 2
        assert "was used for another round" in other.stderr


def test_forms_and_baselines(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="15s")
    kept = tmp_path / "before.json"
    with daemon(config):
        done = run(config, "probe", "--sender", "app", "--json", "--output", str(kept))
        assert done.returncode == 0, done.stderr
        lab.spf.break_("sender.test")
        for baseline in (str(kept), "last-good", "24h", json.loads(kept.read_text())["id"]):
            done = run(config, "probe", "--sender", "app", "--baseline", baseline, "--json")
            assert done.returncode == 1, (baseline, done.stdout, done.stderr)
            report = json.loads(done.stdout)
            assert "spf" in report["causes"], baseline
        junit = run(config, "probe", "--sender", "app", "--baseline", str(kept), "--format", "junit")
        assert junit.returncode == 1
        suite = Xml.fromstring(junit.stdout)[0]
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) >= 2
        github = run(config, "probe", "--sender", "app", "--baseline", str(kept), "--format", "github").stdout
        assert github.startswith("::error title=mailcanary::")
        wrong = run(config, "probe", "--baseline", "round-nothing")
        assert wrong.returncode == 2
        assert "there is no round" in wrong.stderr


def test_a_dry_run_sends_nothing(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path)
    done = run(config, "probe", "--sender", "app", "--count", "3", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "would send 3 on app/a" in done.stdout
    assert "sender bulk" not in done.stdout
    assert "nothing was sent" in done.stdout
    assert not (tmp_path / "mailcanary.db").exists()


def test_the_agent_killed_under_a_probe_goes_on_with_it(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="60s")
    command = [sys.executable, "-m", "agent", "--config", str(config)]
    lab.postfix("a").hold()
    with daemon(config) as first:
        probe = subprocess.Popen(
            [*command, "probe", "--sender", "app", "--count", "6", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_canaries(tmp_path, 4)
        first.send_signal(signal.SIGKILL)
        first.wait()
    (tmp_path / "agent.log").unlink()
    with daemon(config):
        lab.postfix("a").release()
        out, errors = probe.communicate(timeout=90)
        assert probe.returncode == 0, out + errors
    report = json.loads(out)
    by_seed = {seed: [c for c in report["canaries"] if c["seed"] == seed] for seed in ("a", "b")}
    assert {seed: len(found) for seed, found in by_seed.items()} == {"a": 6, "b": 6}
    assert {c["duplicates"] for c in report["canaries"]} == {0}
    stored_once(lab, report)


def test_a_burst_keeps_the_providers_pace(lab: Lab, tmp_path: Path) -> None:
    limits = {"per_seed_per_day": 5000, "per_provider_per_minute": 60, "in_flight": 32}
    config, _ = write_config(lab, tmp_path, deadline="60s", limits=limits)
    done = run(config, "probe", "--sender", "app", "--seed", "a", "--count", "14", "--json", timeout=120)
    assert done.returncode == 0, done.stderr
    sent = sorted(c["created_at"] for c in json.loads(done.stdout)["canaries"])
    assert len(sent) == 14
    seconds = [int(at[14:16]) * 60 + float(at[17:23]) for at in sent]
    for later in range(11, 14):  # a burst of ten is free, then one a second
        assert (seconds[later] - seconds[later - 1]) % 3600 >= 0.9
