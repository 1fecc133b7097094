"""The npm package mailauth, run beside ours on the same messages and DNS answers.

It is looked for where NODE_PATH says, else in .cache/node (`npm install --prefix .cache/node mailauth@4`).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probes.dns import DnsStatus
from tests.bench.agreement_cases import Case

#: Where mailauth is looked for beside NODE_PATH (mailauth@4 is the line that runs on Node 20).
NODE_MODULES = Path(__file__).parents[2] / ".cache" / "node" / "node_modules"
ERRORS = {
    DnsStatus.NXDOMAIN: "ENOTFOUND",
    DnsStatus.NODATA: "ENODATA",
    DnsStatus.SERVFAIL: "ESERVFAIL",
    DnsStatus.TIMEOUT: "ETIMEOUT",
}


def mailauth(cases: Sequence[Case], rounds: int = 1) -> list[dict[str, Any]] | None:
    """Its verdicts on each message (spf, dkim, arc, dmarc) and how many it evaluates a second; None where
    node or the package is not there."""
    node = shutil.which("node")
    if node is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.json"
        path.write_text(json.dumps([_facts(case) for case in cases]), encoding="ascii")
        script = Path(__file__).with_name("mailauth.cjs")
        done = subprocess.run(
            [node, str(script), str(path), str(rounds)],
            env={**os.environ, "NODE_PATH": os.environ.get("NODE_PATH", str(NODE_MODULES))},
            capture_output=True,
            timeout=120,
            check=False,
        )
    if done.returncode != 0:
        return None
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])  # it prints lines of its own
    return found


def _facts(case: Case) -> dict[str, Any]:
    zone = {
        f"{name} {kind}": ERRORS[answer] if isinstance(answer, DnsStatus) else answer
        for (name, kind), answer in case.zone.items()
    }
    message = b64encode(case.message).decode()
    return {"message": message, "zone": zone, "ip": case.ip, "helo": case.helo, "sender": case.sender}
