"""Who this process is, and whether the process that another name stands for is still alive."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.config.models import Config


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


def own_addresses(config: Config) -> tuple[str, ...]:
    """The source addresses of the config's senders that this machine has."""
    wanted = {s.direct.source_ip for s in config.senders.values() if s.direct and s.direct.source_ip}
    return tuple(sorted(address for address in wanted if _has(address)))


def _has(address: str) -> bool:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with closing(socket.socket(family, socket.SOCK_DGRAM)) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
