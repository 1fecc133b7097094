"""Which process a connection on loopback belongs to, and whether it is stopped: read from /proc."""

from __future__ import annotations

from pathlib import Path


def _inode(port: int) -> str:
    """The socket of this machine whose own port that is, connected on IPv4; "" where there is none."""
    wanted = f":{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[1].endswith(wanted) and words[9] != "0":
            return words[9]
    return ""


def owner(port: int) -> int:
    """The process that has the socket; 0 where nobody has it any more."""
    inode = _inode(port)
    if not inode:
        return 0
    wanted = f"socket:[{inode}]"
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and _has(folder / "fd", wanted):
            return int(folder.name)
    return 0


def _has(folder: Path, wanted: str) -> bool:
    try:
        return any(_link(entry) == wanted for entry in folder.iterdir())
    except OSError:
        return False


def _link(entry: Path) -> str:
    try:
        return str(entry.readlink())
    except OSError:
        return ""


def frozen(pid: int) -> bool:
    """Whether the process is stopped (SIGSTOP)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False
