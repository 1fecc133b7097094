"""The demo as people run it: the agent's word must be what was done to it."""

from __future__ import annotations

import subprocess
import sys

import pytest

LIMIT = 140.0
"""Seconds for the whole of it, on a busy machine; on an idle one it takes well under a minute."""


@pytest.mark.timeout(150)
def test_the_agent_finds_out_what_was_done_to_it() -> None:
    command = [sys.executable, "-m", "agent", "demo", "--once"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    acts = [line.partition("== ")[2] for line in done.stdout.splitlines() if "== " in line]
    assert acts == [
        "The agent logs in",
        "All green",
        "Something breaks at shop",
        "ONE alert fires",
        "Repaired",
        "Resolved",
    ]
    assert "Right in all" in done.stdout
    assert done.stderr == ""
