"""Who this process is, and whether the process that another name stands for is still alive."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def _started(pid: int) -> str | None:
    """When the process began, in clock ticks since boot: tells a pid from its next bearer."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def own_holder(boot: str) -> str:
    """This process's name: host, boot, pid and start, so that it is never used twice."""
    pid = os.getpid()
    return f"{socket.gethostname()[:20]}:{boot[:8]}:{pid}:{_started(pid)}"


def surely_dead(holder: str, boot: str) -> bool:
    """True only where the holder was a process of this machine that is there no more."""
    parts = holder.rsplit(":", 3)
    if len(parts) != 4 or parts[0] != socket.gethostname()[:20] or not parts[2].isdigit():
        return False
    return parts[1] != boot[:8] or _started(int(parts[2])) != parts[3]
