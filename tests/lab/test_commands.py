"""The commands as people run them: subprocesses against an agent that runs, and against none."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes.stores import ON_POSTGRESQL
from tests.lab.agents import write_config
from tests.lab.world.lab import Lab

pytestmark = pytest.mark.lab


def run(config: Path, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """`mailcanary --config CONFIG ...`"""
    command = [sys.executable, "-m", "agent", "--config", str(config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


@contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`mailcanary run`, ended by SIGTERM."""
    log = (config.parent / "agent.log").open("wb")
    process = subprocess.Popen([sys.executable, "-m", "agent", "--config", str(config), "run"], stderr=log)
    try:
        end = time.monotonic() + 30
        while b"mailcanary runs" not in (config.parent / "agent.log").read_bytes():
            assert process.poll() is None, (config.parent / "agent.log").read_text()
            assert time.monotonic() < end, "the agent did not start"
            time.sleep(0.1)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=40)
        log.close()


def test_probe_alone_then_status_and_why(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="15s")
    done = run(config, "probe", "--sender", "direct", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["schema"] == "mailcanary.round/1"
    assert {c["placement"] for c in report["canaries"]} == {"inbox"}
    assert report["canaries"][0]["stages_seconds"]["dns"] >= 0

    status = json.loads(run(config, "status", "--json").stdout)
    assert status["schema"] == "mailcanary.status/1"
    assert {r["outcome"] for r in status["routes"] if r["sender"] == "direct"} == {"pass"}
    assert run(config, "status").returncode == 3  # the other senders have no verdict yet
    why = run(config, "why", "direct/a", "--json")
    assert json.loads(why.stdout.splitlines()[0])["canary"]["placement"] == "inbox"
    wrong = run(config, "why", "direct/nowhere")
    assert wrong.returncode == 2
    assert "there is no route" in wrong.stderr
    assert run(config, "probe", "--sender", "nobody").returncode == 2


def test_through_the_running_agent(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, deadline="15s")
    with daemon(config) as process:
        done = run(config, "probe", "--sender", "app", "--seed", "b")
        assert done.returncode == 0, done.stderr
        assert "inbox" in done.stdout
        assert run(config, "pause").stdout == "sending is paused\n"
        held = json.loads(run(config, "probe", "--sender", "app", "--seed", "b", "--json").stdout)
        assert held["held"] == {"app/b": "paused"}
        assert run(config, "resume").stdout == "sending goes on\n"
        assert run(config, "seeds", "list").returncode == 0
        assert "tries again" in run(config, "seeds", "retry", "a").stdout
        assert run(config, "alerts", "list").stdout == "nothing fires\n"
        second = run(config, "run")
        backup = tmp_path / "copy.db"
        saved = run(config, "db", "backup", str(backup))
        if ON_POSTGRESQL:  # it takes several agents, not at one address
            assert (second.returncode, saved.returncode) == (2, 3)
            assert "address already in use" in second.stderr
            assert "pg_dump" in saved.stderr
        else:
            assert (second.returncode, saved.returncode) == (3, 0)
            assert "one agent works on a store" in second.stderr
            assert oct(backup.stat().st_mode & 0o777) == "0o600"
            assert run(config, "db", "backup", str(backup)).returncode == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) == 0


def test_a_pause_survives_a_restart(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, routes=[{"every": "2m", "deadline": "15s"}])
    assert run(config, "pause").returncode == 0
    for _ in range(2):
        with daemon(config):
            time.sleep(4)
    status = json.loads(run(config, "status", "--json").stdout)
    assert status["paused"] is True
    assert {route["outcome"] for route in status["routes"]} == {None}


def test_check_config_live_looks_at_everything(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path)
    done = run(config, "check-config", str(config), "--live")
    assert done.returncode == 0, done.stdout + done.stderr
    for what in ("seed a", "seed b", "(bounces)", "sender app", "sender direct", "mx provider-a.test"):
        assert what in done.stdout
    (tmp_path / "relay-app.secret").write_text("wrong")
    done = run(config, "check-config", str(config), "--live")
    assert done.returncode == 1
    assert "wrong" not in done.stdout.replace("wrong password", "")


def test_without_a_config_or_a_store_the_error_says_what_to_do(lab: Lab, tmp_path: Path) -> None:
    config, _ = write_config(lab, tmp_path, agent={"store": "sqlite:///nothing.db"})
    done = run(config, "status")
    assert done.returncode == 3
    assert "mailcanary run" in done.stderr
    missing = run(tmp_path / "nothing.yaml", "status")
    assert missing.returncode == 2
