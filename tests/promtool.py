"""Debian's promtool, for tests; they are skipped where it is not installed, unless the lab is required."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def find(name: str) -> str:
    """The path of a program of the Prometheus packages; where it is missing the test skips, or fails."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed: tests/lab/install.sh prometheus"
        if os.environ.get("MAILCANARY_LAB") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def promtool(*args: str | Path, text: bytes | None = None) -> str:
    """What promtool prints. Fails the test where it is not content."""
    command = [find("promtool"), *map(str, args)]
    done = subprocess.run(command, input=text, capture_output=True, timeout=60)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, f"{' '.join(command)}\n{said}"
    return said
