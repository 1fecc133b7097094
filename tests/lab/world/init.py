"""Process 1 of a lab's PID namespace. Run as a script by its path: standard library only.

    init.py ROOT

Keeps /dev/log (each line is stamped on arrival: the lab's ground truth), reaps orphans, and obeys one JSON
line at a
time on stdin, answering each with one on stdout:
{"op": "start", "name": ..., "argv": [...]}, {"op": "stop", "name": ..., "signal": 15, "grace": seconds},
{"op": "signal", "name": ..., "signal": 1}, {"op": "alive"} (tells which have died).
When stdin closes it ends, and the kernel kills all the rest.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

FACILITIES = {2: "mail", 3: "daemon", 17: "relay", 18: "a", 19: "b"}
"""syslog facility number to the name written: local1..local3 are the three Dovecots."""


class Init:
    """The children by name, and the log."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.children: dict[str, int] = {}
        self.log = (root / "log" / "syslog").open("ab", buffering=0)
        self.syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.syslog.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.syslog.bind("/dev/log")
        self.syslog.setblocking(False)
        Path("/dev/log").chmod(0o666)
        self.pending = b""

    def write_log(self) -> None:
        """Moves what is waiting on /dev/log to the file: `epoch facility text`."""
        while True:
            try:
                data = self.syslog.recv(65536)
            except BlockingIOError:
                return
            priority, _, text = data.partition(b">")
            number = int(priority[1:] or b"0") >> 3 if priority[1:].isdigit() else 0
            # After the priority comes "Mmm dd hh:mm:ss ", which our own stamp replaces.
            body = text[16:].rstrip(b"\n\0").replace(b"\n", b" ")
            stamp = f"{time.time():.6f} {FACILITIES.get(number, str(number))} ".encode()
            self.log.write(stamp + body + b"\n")

    def start(self, name: str, argv: list[str]) -> None:
        """Starts a daemon in the foreground, its output in log/NAME.out."""
        output = os.open(self.root / "log" / f"{name}.out", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        environ = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.root / "tmp"),
            "TMPDIR": str(self.root / "tmp"),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
        }
        files = [
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ]
        self.children[name] = os.posix_spawn(
            argv[0], argv, environ, file_actions=files, setsid=True, setsigdef=[signal.SIGPIPE], setsigmask=[]
        )
        os.close(output)
        os.close(null)

    def stop(self, name: str, number: int, grace: float) -> None:
        """Signals a daemon, waits for it at most `grace` seconds, then kills its process group."""
        pid = self.children.pop(name, None)
        if pid is None:
            return
        self.signal(pid, number)
        deadline = time.monotonic() + grace
        while self.alive(pid) and time.monotonic() < deadline:
            self.write_log()
            time.sleep(0.005)
            self.reap()
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    @staticmethod
    def signal(pid: int, number: int) -> None:
        """kill(2) that does not mind a process that is gone."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    @staticmethod
    def alive(pid: int) -> bool:
        """Whether the process is still there."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    @staticmethod
    def reap() -> None:
        """Buries every dead child, ours and adopted."""
        while True:
            try:
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    return
            except ChildProcessError:
                return

    def obey(self, request: dict[str, Any]) -> dict[str, Any]:
        """One order."""
        match request["op"]:
            case "start":
                self.start(request["name"], request["argv"])
            case "stop":
                self.stop(request["name"], request["signal"], request["grace"])
            case "signal":
                self.signal(self.children[request["name"]], request["signal"])
            case "alive":
                self.reap()
                return {"ok": True, "dead": [n for n, pid in self.children.items() if not self.alive(pid)]}
        return {"ok": True}

    def read_orders(self) -> None:
        """Reads stdin; its end is ours."""
        data = os.read(0, 65536)
        if not data:
            os._exit(0)
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            try:
                answer = self.obey(json.loads(line))
            except OSError as error:
                answer = {"ok": False, "error": str(error)}
            os.write(1, json.dumps(answer).encode() + b"\n")

    def run(self) -> None:
        """For ever."""
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ, self.read_orders)
        selector.register(self.syslog, selectors.EVENT_READ, self.write_log)
        while True:
            for key, _events in selector.select(timeout=1.0):
                key.data()
            self.reap()


if __name__ == "__main__":
    for _ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(_ignored, signal.SIG_IGN)
    os.umask(0o022)
    Init(Path(sys.argv[1])).run()
