"""`mailcanary change` and the forms of `mailcanary probe`, as people and pipelines run them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from tests.lab.agents import write_config
from tests.lab.test_commands import daemon, run
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab
ROUTE = ("--sender", "app", "--seed", "a")


def test_a_change_that_breaks_dkim(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="15s")
    with daemon(config):
        started = run(config, "change", "start", "rotate the key of sender.test", *ROUTE)
        assert started.returncode == 0, started.stderr
        assert "recorded and not alerted" in started.stderr
        assert "announced change" in run(config, "alerts", "silences").stdout
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
    time.sleep(4)
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
    time.sleep(1.0)  # the servers' own log is the witness, and is written in its own time
    for canary in report["canaries"]:
        stored = [s for s in lab.delivery_log(canary["message_id"]) if s.stage == "stored"]
        assert len(stored) == 1, (canary["seed"], lab.delivery_log(canary["message_id"]))


def test_the_same_key_is_the_same_round(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="15s")
    with daemon(config):
        both = [json.loads(run(config, "probe", *ROUTE, "--key", "build 7", "--json").stdout) for _ in "ab"]
        assert both[0]["id"] == both[1]["id"]
        assert len(both[1]["canaries"]) == 1
        other = run(config, "probe", "--sender", "bulk", "--key", "build 7")
        assert other.returncode == 3
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
        assert wrong.returncode == 3
        assert "there is no round" in wrong.stderr


def test_a_dry_run_sends_nothing(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path)
    done = run(config, "probe", "--sender", "app", "--count", "3", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "would send 3 on app/a" in done.stdout
    assert "sender bulk" not in done.stdout
    assert "nothing was sent" in done.stdout
    assert not (tmp_path / "mailcanary.db").exists()
