"""Holds the namespaces of one lab. Run as a script by its path: standard library only, nothing imported
from the project.

    keeper.py ROOT PARENT_PID

Makes private mount and PID namespaces, runs init.py as their process 1 with our own stdin and stdout, and
waits.
When process 1 ends, or the parent dies (however it dies), the kernel kills everything in the PID namespace;
then the lab's folder is removed.
"""

import ctypes
import errno
import os
import select
import shutil
import signal
import sys
from pathlib import Path
from typing import NoReturn

CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: object) -> None:
    """A libc call that raises OSError instead of returning -1."""
    if getattr(libc, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{args}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    call("mount", source.encode(), target.encode(), kind.encode(), flags, data.encode())


def bind(source: str, target: str) -> None:
    """Shows `source` at `target`."""
    mount(source, target, "none", MS_BIND)


def private_root(root: Path) -> None:
    """What is mounted from here on is seen by nobody else."""
    try:
        mount("none", "/", "none", MS_REC | MS_PRIVATE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # In a chroot / need not be a mount point: the same tree, mounted once more, is one.
        again = root / "root"
        again.mkdir()
        mount("/", str(again), "none", MS_BIND | MS_REC)
        mount("none", str(again), "none", MS_REC | MS_PRIVATE)
        os.chroot(again)
        os.chdir("/")


def private_etc(root: Path) -> None:
    """Own resolver, hosts and name service switch; /etc and /var read-only, so that nothing is ever left
    there."""
    for folder in ("/etc", "/var"):
        mount(folder, folder, "none", MS_BIND | MS_REC)
        mount(folder, folder, "none", MS_BIND | MS_REMOUNT | MS_RDONLY)
    for name in ("resolv.conf", "hosts", "nsswitch.conf"):
        bind(str(root / "etc" / name), f"/etc/{name}")


def private_dev(root: Path) -> None:
    """A /dev of our own, so that its log socket is ours: several daemons log nowhere else."""
    dev = root / "dev"
    dev.mkdir()
    mount("tmpfs", str(dev), "tmpfs", 0, "mode=0755,size=64m")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (dev / name).touch()
        bind(f"/dev/{name}", str(dev / name))
    (dev / "shm").mkdir(mode=0o1777)
    (dev / "shm").chmod(0o1777)
    for name, target in (("fd", "/proc/self/fd"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("stdin", "fd/0")):
        (dev / name).symlink_to(target)
    mount(str(dev), "/dev", "none", MS_BIND | MS_REC)


def become_init(root: Path) -> NoReturn:
    """Process 1 of the new PID namespace."""
    # Only here, so that the keeper, who removes the folder, stays outside of our mounts.
    call("unshare", CLONE_NEWNS)
    private_root(root)
    mount("proc", "/proc", "proc", 0)
    private_etc(root)
    private_dev(root)
    script = str(Path(__file__).with_name("init.py"))
    os.execv(sys.executable, [sys.executable, "-I", "-S", script, str(root)])


def wait_for_end(child: int, parent: int) -> None:
    """Returns when process 1 has ended; ends it when the parent is gone."""
    poll = select.poll()
    child_fd = os.pidfd_open(child)
    poll.register(child_fd, select.POLLIN)
    try:
        poll.register(os.pidfd_open(parent), select.POLLIN)
    except ProcessLookupError:
        signal.pidfd_send_signal(child_fd, signal.SIGKILL)
    for fd, _event in poll.poll():
        if fd != child_fd:
            signal.pidfd_send_signal(child_fd, signal.SIGKILL)
    os.waitpid(child, 0)


def main() -> None:
    """See the module's text."""
    root, parent = Path(sys.argv[1]), int(sys.argv[2])
    os.setsid()
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    try:
        call("unshare", CLONE_NEWPID)
        child = os.fork()
        if child == 0:
            become_init(root)
        # Only process 1 may hold the pipes to the parent.
        null = os.open(os.devnull, os.O_RDWR)
        os.write(1, f"init {child}\n".encode())
        os.dup2(null, 0)
        os.dup2(null, 1)
        wait_for_end(child, parent)
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
